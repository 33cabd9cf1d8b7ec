#!/usr/bin/python3
"""The agent does by itself what is due, what root asks for, and what another tool's renewal makes necessary; plan says it before, and has nothing to say after."""

import ctypes
import json
import subprocess
import time
from pathlib import Path

import rotation
from rotation import AGENT, COMMAND, NGINX, TLS, WEB, WithHost, run, wait_until

WATCHED = """schema = 1
[[tls.certificate]]
name = "proxy"
names = ["localhost"]
issuer = "watch"
install = "nginx"
"""


def synchronised():
    """The kernel's word for it: STA_UNSYNC in the status of adjtimex(2)."""
    state = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).adjtimex(state)
    return int.from_bytes(state.raw[40:44], "little") & 0x40 == 0


class WithAgent(WithHost):
    policy_text = """schema = 1
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
"""

    def setUp(self):
        super().setUp()
        self.host.policy.write_text(self.policy_text)
        self.socket = self.host.directory / "socket"
        self.options = ["--policy", str(self.host.policy), "--state", str(self.host.state), "--socket", str(self.socket)]
        self.start_agent()

    def start_agent(self):
        with open(self.host.directory / "agent.log", "ab") as log:
            self.agent = subprocess.Popen([str(AGENT), *self.options], stderr=log)
        self.host.processes.append(self.agent)
        wait_until(self.socket.exists, "the agent answers")

    def ask(self, *words, check=True):
        return run(COMMAND, *self.options, *words, check=check)

    def one(self):
        return json.loads(self.ask("cert", "list", "--format", "json").stdout)[0]

    def certificate(self):
        return self.one()["certificate"]

    def rotations(self):
        events = [json.loads(line) for line in self.ask("history", "--format", "json").stdout.splitlines()]
        return [event["observed"] for event in events if event["kind"] == "rotation"]

    def due(self):
        """What plan says about certificates."""
        changes = json.loads(self.ask("plan", "--format", "json", check=False).stdout)["changes"]
        return [(change["kind"], change["subject"], change["summary"]) for change in changes if change["control"].startswith("tls.")]


class OfItself(WithAgent):
    def test_what_is_due_and_what_is_asked_for(self):
        time.sleep(1.5)
        self.assertFalse(TLS.exists(), "nothing is changed before a policy is accepted")
        self.assertEqual(self.due(), [("web", "certificate prometheus", "issue it, with a key of its own: there is none yet")])
        applied = self.ask("apply", check=False)
        self.assertIn("prometheus: rekeyed, serial", applied.stdout)  # it was asked for, and is there when apply is done
        self.assertIn("cert_file", WEB.read_text())
        self.assertEqual(self.due(), [])
        first = self.certificate()
        self.assertIn("renewed", self.ask("cert", "rotate", "prometheus").stdout)
        wait_until(lambda: self.certificate()["serial"] != first["serial"], "it is another one")
        self.assertEqual(len(self.rotations()), 2)
        self.assertIn('promwarden_certificate_not_after_seconds{name="prometheus"}', run("curl", "-s", "--unix-socket", self.socket, "http://x/metrics").stdout)
        self.assertEqual(json.loads(run("curl", "-s", "--unix-socket", self.socket, "http://x/v1/status").stdout)["certificates"][0]["problems"], [])
        self.assertNotEqual(self.ask("cert", "rotate", "nobody", check=False).returncode, 0)
        self.assertIn("believed no more", self.ask("cert", "rotate-ca").stdout)
        stranger = run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", COMMAND, *self.options, "cert", "rotate", "prometheus", check=False)
        self.assertEqual(stranger.returncode, 6)

    def test_on_trial_nothing_is_issued(self):
        self.ask("apply", "--confirm-within", "60s", check=False)
        time.sleep(2)
        self.assertFalse(TLS.exists())
        self.ask("confirm")
        wait_until(lambda: "cert_file" in WEB.read_text(), "the agent issues what is missing")

    def test_what_an_earlier_life_left_is_finished(self):
        self.ask("apply", check=False)
        wait_until(lambda: not list((self.host.state / "tls/intents").iterdir()), "it is done with that")
        leaf = self.certificate()
        self.agent.kill()
        self.agent.wait()
        intent = self.host.state / "tls/intents/prometheus.json"
        intent.write_text(json.dumps({"name": "prometheus", "action": "renew", "generation": 1, "before": "", "after": leaf["sha256"]}))
        (TLS / "prometheus/.tmp-0000000000000000").mkdir()
        self.socket.unlink()
        self.start_agent()
        wait_until(lambda: not intent.exists(), "the intent is finished")
        wait_until(lambda: not (TLS / "prometheus/.tmp-0000000000000000").exists(), "what was left is gone")
        self.assertEqual(self.certificate()["serial"], leaf["serial"])


class WithoutAgent(WithHost):
    def plan(self):
        changes = json.loads(run(*self.host.words("plan", "--format", "json"), check=False).stdout)["changes"]
        return [change for change in changes if change["control"].startswith("tls.")]

    def test_apply_issues_what_plan_names(self):
        self.host.policy.write_text(WithAgent.policy_text)
        planned = self.plan()
        self.assertEqual([(change["control"], change["kind"]) for change in planned], [("tls.rotation", "web")])
        self.assertIn("+ for localhost, 127.0.0.1, from local, valid for 30d", planned[0]["diff"])
        self.assertFalse(TLS.exists(), "plan changes nothing")
        applied = run(*self.host.words("apply"), check=False)
        self.assertIn("prometheus: rekeyed, serial", applied.stdout)
        self.assertEqual(self.plan(), [])
        # A name more makes it due: the key is kept.
        self.host.policy.write_text(WithAgent.policy_text.replace('"127.0.0.1"', '"127.0.0.1", "more.example.org"'))
        if not synchronised():
            self.assertEqual(self.plan(), [], "nothing is replaced by a clock that nobody believes")
            self.assertIn("the clock cannot be believed", self.host.list()["prometheus"]["plan"])
            self.assertEqual(run(*self.host.words("apply", "--only", "tls.rotation"), check=False).stdout.splitlines()[0], "Nothing had to change.")
            return
        self.assertEqual([(change["kind"], change["summary"]) for change in self.plan()], [("file", "renew it: it is not for every name of the policy")])
        self.assertIn("prometheus: renewed", run(*self.host.words("apply", "--only", "tls.rotation"), check=False).stdout)
        self.assertEqual(self.plan(), [])

    def test_a_control_that_only_looks(self):
        self.host.policy.write_text(WithAgent.policy_text + '[controls]\n"tls.rotation" = "audit"\n')
        run(*self.host.words("apply"), check=False)
        self.assertFalse(TLS.exists())
        self.assertEqual(len(self.plan()), 1)


class Watched(WithAgent):
    """nginx serves what another tool renews, from where that tool keeps it."""

    policy_text = WATCHED

    def setUp(self):
        self.keeps = Path("/etc/nginx/other")
        super().setUp()
        self.ca = self.host.directory / "ca"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{self.ca}.key", "-out", f"{self.ca}.pem", "-days", "30", "-subj", "/CN=another authority", "-addext", "keyUsage=critical,keyCertSign")
        self.profile = self.host.directory / "profile"
        self.profile.write_text("authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
        self.keeps.mkdir()
        self.renew()
        Path("/etc/nginx/nginx.conf").write_text(NGINX.replace("include /etc/nginx/promwarden/tls/proxy.conf;", "ssl_certificate other/cert.pem; ssl_certificate_key other/key.pem;"))
        process = subprocess.Popen(["nginx", "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        self.host.processes.append(process)
        wait_until(lambda: run("bash", "-c", ": </dev/tcp/127.0.0.1/8443", check=False).returncode == 0, "nginx listens")
        self.ask("apply", check=False)
        wait_until(lambda: any("another tool renews it" in text for text in self.rotations()), "the agent has seen it")

    def renew(self, name="localhost", key_too=True):
        """As another tool does: in place, one file after the other. The serial number."""
        new = self.host.directory / "new"
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{new}.key", "-out", f"{new}.csr", "-subj", "/", "-addext", f"subjectAltName=DNS:{name}")
        run("openssl", "x509", "-req", "-in", f"{new}.csr", "-CA", f"{self.ca}.pem", "-CAkey", f"{self.ca}.key", "-CAcreateserial", "-days", "20", "-extfile", self.profile, "-copy_extensions", "copy", "-out", f"{new}.pem")
        (self.keeps / "cert.pem").write_bytes(Path(f"{new}.pem").read_bytes())
        if key_too:
            self.write_key()
        return run("openssl", "x509", "-in", f"{new}.pem", "-noout", "-serial").stdout.strip().partition("=")[2].lower()

    def write_key(self):
        (self.keeps / "key.pem").write_bytes((self.host.directory / "new.key").read_bytes())
        (self.keeps / "key.pem").chmod(0o600)

    def shown(self):
        """The serial number that nginx shows to a client."""
        said = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:8443", "-servername", "localhost"], input=b"", capture_output=True, check=False)
        return subprocess.run(["openssl", "x509", "-noout", "-serial"], input=said.stdout, capture_output=True, check=True).stdout.decode().strip().partition("=")[2].lower()

    def test_nginx_reads_what_was_renewed(self):
        serial = self.renew()
        wait_until(lambda: self.shown() == serial, "nginx serves what the other tool renewed")
        wait_until(lambda: any("another tool renewed it" in text for text in self.rotations()), "it is in the history")
        one = self.one()
        self.assertEqual((one["issued_by"], one["file"], one["problems"], one["failed_attempts"]), ("watch", str(self.keeps / "cert.pem"), [], 0))
        self.assertEqual(self.due(), [])

    def test_nothing_worse_is_served(self):
        before = self.shown()
        for problem, make in (("it is not for 'localhost'", lambda: self.renew("elsewhere.example.org")), ("the key does not fit the certificate", lambda: self.renew(key_too=False)),
                              ("something in it that is no certificate", lambda: (self.keeps / "cert.pem").write_text("half of a"))):
            make()
            wait_until(lambda text=problem: any(text in one for one in self.one()["problems"]), problem)
            time.sleep(1.5)
            self.assertEqual(self.shown(), before, problem)
        self.renew(key_too=False)
        time.sleep(2)
        self.write_key()  # the second half comes late
        wait_until(lambda: self.shown() not in (before, ""), "nginx serves the pair once it is whole")
        wait_until(lambda: self.one()["failed_attempts"] == 0 and self.one()["problems"] == [], "nothing is wrong any more")


if __name__ == "__main__":
    rotation.main(__file__, "prometheus", "nginx", "curl", "setpriv")
