#!/usr/bin/python3
"""Certificates rotate under load, are killed at every step, meet full disks: nobody sees a broken handshake, nothing is left half done.

Runs itself again in a mount and a network namespace of its own: /etc/prometheus, /etc/nginx and the rest are its own there, and so is port 9090.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or HERE.parents[1] / "build")
COMMAND = BUILD / "src/bin/promwarden"
ALL = bool(os.environ.get("PROMWARDEN_ALL"))
ROTATIONS = 3000 if ALL else 60
LOSERS = 500 if ALL else 60  # rotations in the ways of others

PROMETHEUS = Path("/etc/prometheus")
TLS = PROMETHEUS / "promwarden/tls"
WEB = PROMETHEUS / "web.yml"
WEB_TEXT = "# kept by somebody else\nhttp_server_config:\n  http2: true   # as it was\n"
POLICY = """schema = 1
[tls]
client_auth = "{client_auth}"
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
[[tls.certificate]]
name = "proxy"
names = ["localhost"]
install = "nginx"
[[tls.certificate]]
name = "scrape"
use = "client"
names = ["scrape.example.org"]
[[tls.certificate]]
name = "other"
names = ["localhost"]
"""
NGINX = """pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:8443 ssl;
        include /etc/nginx/promwarden/tls/proxy.conf;
        location / { return 200 "ok"; }
    }
}
"""


def run(*words, check=True, **options):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True, **options)


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Host:
    """Directories and a policy; `promwarden` without an agent."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-rotation-"))
        self.directory.chmod(0o755)
        self.state = self.directory / "state"
        self.policy = self.directory / "policy.toml"
        self.write_policy()
        for path in (PROMETHEUS, Path("/etc/nginx"), Path("/var/log/nginx")):
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        WEB.write_text(WEB_TEXT)
        shutil.chown(WEB, group="prometheus")
        WEB.chmod(0o640)
        (PROMETHEUS / "prometheus.yml").write_text("scrape_configs: []\n")
        self.processes = []

    def write_policy(self, client_auth="off"):
        self.policy.write_text(POLICY.format(client_auth=client_auth))
        self.policy.chmod(0o644)

    def words(self, *words):
        return [str(COMMAND), "--policy", str(self.policy), "--state", str(self.state), "--socket", str(self.directory / "none"), *words]

    def cert(self, *words, check=True, before=()):
        # Before the clients, which never rest: on a busy machine they would decide how long this takes.
        done = run(*before, *self.words("cert", *words), check=False, preexec_fn=lambda: os.nice(-10))
        if check and done.returncode != 0:
            raise AssertionError(f"cert {words} ended with {done.returncode}: {done.stderr}")
        return done

    def list(self):
        return {one["name"]: one for one in json.loads(self.cert("list", "--format", "json").stdout)}

    def start_prometheus(self):
        data = self.directory / "data"
        data.mkdir()
        shutil.chown(data, "prometheus")
        with open(self.directory / "prometheus.log", "wb") as log:
            process = subprocess.Popen(["setpriv", "--reuid", "prometheus", "--regid", "prometheus", "--clear-groups", "prometheus", f"--config.file={PROMETHEUS}/prometheus.yml",
                                        f"--web.config.file={WEB}", "--web.listen-address=127.0.0.1:9090", f"--storage.tsdb.path={data}"], stderr=log, stdout=log)
        self.processes.append(process)
        wait_until(lambda: "Server is ready" in (self.directory / "prometheus.log").read_text(errors="replace"), "Prometheus is ready")

    def start_nginx(self):
        Path("/etc/nginx/nginx.conf").write_text(NGINX)
        process = subprocess.Popen(["nginx", "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        self.processes.append(process)
        wait_until(lambda: run("bash", "-c", ": </dev/tcp/127.0.0.1/8443", check=False).returncode == 0, "nginx listens")

    def client(self, port=9090, ca_file=TLS / "authorities.pem", pair=()):
        client = subprocess.Popen([sys.executable, str(HERE / "handshakes.py"), str(port), "localhost", str(ca_file), *map(str, pair)], stdout=subprocess.PIPE, text=True)
        self.processes.append(client)
        client.stdout.readline()  # from here on it ends as it is asked to
        return client

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory)


def finished(clients):
    time.sleep(0.3)
    for client in clients:
        client.terminate()
    return [json.loads(client.communicate(timeout=60)[0]) for client in clients]


def summed(results):
    return {"handshakes": sum(r["count"] for r in results), "failures": sum(r["failures"] for r in results), "serials": [r["serials"] for r in results],
            "examples": {key: value for r in results for key, value in r["examples"].items()}}


class WithHost(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)


class UnderLoad(WithHost):
    def rotate_under_clients(self, name, port, rotations):
        clients = [self.host.client(port) for _ in range(4)]
        started = time.monotonic()
        for number in range(rotations):
            done = self.host.cert("rotate", name, *(["--rekey"] if number % 3 == 2 else []))
            if name == "prometheus":
                self.assertIn("seen served", done.stdout)
                self.assertNotIn("not seen served", done.stdout)
        seconds = time.monotonic() - started
        result = summed(finished(clients))
        print(f"{name}: {rotations} rotations in {seconds:.1f} s, {result['handshakes']} handshakes, {result['failures']} failed, serials seen {result['serials']}")
        self.assertEqual(result["failures"], 0, result)
        self.assertGreater(result["handshakes"], rotations)
        for serials in result["serials"]:
            self.assertGreater(serials, min(rotations // 4, 10), "every client saw new ones")

    def test_nginx_keeps_what_it_has_where_a_reload_would_fail(self):
        self.host.cert("issue", "proxy")
        self.host.start_nginx()
        before = self.host.list()["proxy"]["certificate"]["serial"]
        Path("/etc/nginx/nginx.conf").write_text(NGINX.replace("events {}", "events {} nonsense;"))
        failed = self.host.cert("rotate", "proxy", "--rekey", check=False)
        self.assertEqual(failed.returncode, 4)
        self.assertIn("nonsense", failed.stderr)
        one = self.host.list()["proxy"]
        self.assertEqual(one["certificate"]["serial"], before)
        self.assertEqual(one["failed_attempts"], 1)

    def test_prometheus_and_what_other_ways_lose(self):
        self.host.cert("issue", "prometheus")
        self.assertTrue(WEB.read_text().startswith(WEB_TEXT), WEB.read_text())
        self.host.start_prometheus()
        self.rotate_under_clients("prometheus", 9090, ROTATIONS)
        self.assertTrue(WEB.read_text().startswith(WEB_TEXT), WEB.read_text())
        self.assertEqual(WEB.stat().st_mode & 0o7777, 0o640)

        # The same Prometheus, the same clients, the same pairs, written as others write them.
        pairs = []
        for _ in range(6):
            self.host.cert("issue", "other")
            current = TLS / "other/current"
            pairs.append([(current / part).read_bytes() for part in ("cert.pem", "key.pem")])
        place = PROMETHEUS / "others"
        place.mkdir()
        for number in range(2):
            (place / f"{number}").mkdir()
        certificate, key = place / "cert.pem", place / "key.pem"
        between = 0.005  # two files are two steps; a tool does something between them

        def in_place(pair, number):
            certificate.write_bytes(pair[0])
            time.sleep(between)
            key.write_bytes(pair[1])

        def two_renames(pair, number):
            for target, text in zip((certificate, key), pair):
                new = target.with_suffix(".new")
                new.write_bytes(text)
                new.rename(target)
                time.sleep(between)

        def swap(pair, number):
            directory = place / str(number % 2)
            for part, text in zip(("cert.pem", "key.pem"), pair):
                (directory / part).write_bytes(text)
            link = place / "new"
            link.symlink_to(directory.name)
            link.rename(place / "current")

        lost = {}
        for way, at in ((in_place, place), (two_renames, place), (swap, place / "current")):
            way(pairs[0], 0)
            new = WEB.with_suffix(".new")
            new.write_text(f"tls_server_config:\n  cert_file: {at}/cert.pem\n  key_file: {at}/key.pem\n")
            new.rename(WEB)
            clients = [self.host.client() for _ in range(4)]
            time.sleep(1)
            for number in range(1, LOSERS + 1):
                way(pairs[number % len(pairs)], number)
                time.sleep(0.03)
            lost[way.__name__] = summed(finished(clients))["failures"] / LOSERS
        print("failed handshakes per rotation of other ways:", lost)
        self.assertGreater(lost["in_place"] + lost["two_renames"], 0, "the clients would see a broken pair")

    def test_nginx(self):
        self.host.cert("issue", "proxy")
        self.host.start_nginx()
        self.rotate_under_clients("proxy", 8443, max(ROTATIONS // 4, 15))

    def test_change_of_the_authority(self):
        self.host.write_policy("require")
        for name in ("scrape", "prometheus"):
            self.host.cert("issue", name)
        self.host.start_prometheus()
        old = self.host.directory / "old"
        shutil.copytree(TLS / "scrape/current", old, symlinks=False)
        stranger = run("curl", "-sk", "https://localhost:9090/-/healthy", check=False)
        self.assertNotEqual(stranger.returncode, 0, "without a certificate nobody gets an answer")
        live = [self.host.client(pair=(TLS / "scrape/current/cert.pem", TLS / "scrape/current/key.pem")) for _ in range(3)]
        of_old = self.host.client(pair=(old / "cert.pem", old / "key.pem"))
        time.sleep(1)
        self.assertIn("other hosts", self.host.cert("rotate-ca", "--until-overlap").stdout)
        self.assertEqual((TLS / "authorities.pem").read_text().count("BEGIN"), 2)
        time.sleep(1)
        result = summed(finished([of_old]))
        self.assertEqual(result["failures"], 0, result)
        before = self.host.list()["prometheus"]["certificate"]["issuer"]
        self.assertIn("believed no more", self.host.cert("rotate-ca").stdout)
        time.sleep(1)
        result = summed(finished(live))
        print(f"change of the authority: {result['handshakes']} handshakes, {result['failures']} failed")
        self.assertEqual(result["failures"], 0, result)
        self.assertGreater(min(result["serials"]), 1)
        self.assertNotEqual(self.host.list()["prometheus"]["certificate"]["issuer"], before)
        stranger = self.host.client(pair=(old / "cert.pem", old / "key.pem"))
        time.sleep(1)
        refused = summed(finished([stranger]))
        self.assertEqual(refused["handshakes"], 0, "the old authority is believed no more")
        self.assertGreater(refused["failures"], 0)


# ---- killed, and out of space ---------------------------------------------------------------------------------------

STEPS = ("mkdir", "mkdirat", "openat", "write", "fchmod", "fsync", "linkat", "rename", "renameat", "renameat2", "symlinkat", "unlinkat")
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE")


class Interrupted(WithHost):
    """Every point of an issue, a renewal, a rekey and a change of the authority."""

    def snapshot(self):
        self.saved = self.host.directory / "saved"
        shutil.rmtree(self.saved, ignore_errors=True)
        self.saved.mkdir()
        for name, path in (("prometheus", PROMETHEUS), ("state", self.host.state)):
            if path.exists():
                run("cp", "-a", path, self.saved / name)

    def restore(self):
        for entry in PROMETHEUS.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        run("cp", "-a", f"{self.saved}/prometheus/.", PROMETHEUS)
        shutil.rmtree(self.host.state, ignore_errors=True)
        if (self.saved / "state").exists():
            run("cp", "-a", self.saved / "state", self.host.state)

    def count(self, words):
        """How often each step happens, after the program has been loaded."""
        self.restore()
        log = self.host.directory / "trace"
        self.host.cert(*words, before=("strace", "-f", "-qq", "-o", log, "-e", f"trace={','.join(STEPS)}"))
        counts = {}
        self.trace = log.read_text()
        for line in self.trace.splitlines():
            if match := re.match(r"\d+ +(\w+)\(", line):
                counts[match[1]] = counts.get(match[1], 0) + 1
        return counts

    def published(self):
        """The serial number of the pair that web.yml names, after everything that must hold did; None: it names none."""
        text = WEB.read_text()
        self.assertTrue(text.startswith(WEB_TEXT), text)
        named = dict(re.findall(r"^  (cert_file|key_file): (\S+)$", text, re.MULTILINE))
        self.assertIn(len(named), (0, 2), text)
        for path in [*TLS.rglob("*"), *self.host.state.rglob("*")]:
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                    self.assertEqual(path.stat().st_mode & 0o007, 0, f"{path} is open to others")
        for key in (self.host.state / "tls/authority").glob("*/*/key.pem"):
            if not key.parent.name.startswith("."):
                self.assertEqual(run("openssl", "pkey", "-in", key, "-noout", check=False).returncode, 0, f"{key} is half written")
        if not named:
            return None
        certificate, key = named["cert_file"], named["key_file"]
        self.assertEqual(Path(certificate).parent, Path(key).parent)
        self.assertEqual(run("openssl", "x509", "-in", certificate, "-noout", "-pubkey").stdout, run("openssl", "pkey", "-in", key, "-pubout").stdout)
        run("openssl", "verify", "-x509_strict", "-CAfile", TLS / "authorities.pem", "-untrusted", certificate, "-purpose", "sslserver", "-verify_hostname", "localhost", certificate)
        return run("openssl", "x509", "-in", certificate, "-noout", "-serial").stdout

    def converges(self, words, what):
        done = self.host.cert(*words, check=False)
        self.assertEqual(done.returncode, 0, f"{what}: the next run: {done.stderr}")
        self.assertIsNotNone(self.published(), what)
        left = [path for top in (TLS, self.host.state) for path in top.rglob(".*")] + list(PROMETHEUS.glob("*.promwarden"))
        self.assertEqual(left, [], what)
        self.assertEqual(list((self.host.state / "tls/intents").iterdir()), [], what)

    def points(self, count, most):
        numbers = list(range(1, count + 1))
        if not ALL and most == 1:
            return [numbers[count // 2]]
        return numbers if ALL or count <= most else sorted({numbers[round(i * (count - 1) / (most - 1))] for i in range(most)})

    def matrix(self, words, again=None):
        again = again or words
        counts = self.count(words)
        self.assertIn("fsync", counts)
        self.assertTrue({"renameat", "renameat2", "rename"} & set(counts))
        old, runs, done_anyway, serials = None, 0, 0, set()
        self.restore()
        old = self.published()
        for step, count in counts.items():
            for number in self.points(count, 2):
                what = f"{words} killed at {step} {number} of {count}"
                with self.subTest(what):
                    self.restore()
                    self.host.cert(*words, check=False, before=("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step}", "-e", f"inject={step}:signal=KILL:when={number}"))
                    runs += 1
                    serial = self.published()
                    self.assertTrue(old is None or serial is not None, what)
                    serials.add(serial)
                    self.converges(again, what)
        for error in ERRORS:
            for step, count in counts.items():
                if not ALL and error != "ENOSPC" and step != {"EIO": "fsync", "EDQUOT": "write", "EROFS": "linkat", "EMFILE": "openat"}[error]:
                    continue
                for number in self.points(count, 1):
                    what = f"{words}: {error} at {step} {number} of {count}"
                    with self.subTest(what):
                        self.restore()
                        done = self.host.cert(*words, check=False, before=("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={step}", "-e", f"inject={step}:error={error}:when={number}"))
                        runs += 1
                        serial = self.published()
                        self.assertTrue(old is None or serial is not None, what)
                        if done.returncode == 0:
                            done_anyway += 1
                            self.assertNotEqual(serial, old, f"{what}: it said that it was done")
                        self.converges(again, what)
        print(f"{' '.join(words)}: {runs} interruptions, {done_anyway} errors tolerated")

    def test_issue(self):
        self.snapshot()
        self.matrix(("issue", "prometheus"))
        key = next(i for i, line in enumerate(self.trace.splitlines()) if "linkat" in line and '"key.pem"' in line)
        before = self.trace.splitlines()[:key]
        self.assertTrue(any("fchmod(" in line for line in before), "its mode is set before it has a name")

    def test_renewal(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix(("rotate", "prometheus"))

    def test_rekey(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix(("rotate", "prometheus", "--rekey"))

    def test_change_of_the_authority(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix(("rotate-ca",))

    def test_full_disk(self):
        """A real ext4 without a free block."""
        image = self.host.directory / "image"
        with open(image, "wb") as file:
            file.truncate(4 << 20)
        run("mkfs.ext4", "-q", "-F", "-N", "256", image)
        self.host.cert("issue", "prometheus")
        saved = self.host.directory / "kept"
        run("cp", "-a", PROMETHEUS, saved)
        if run("mount", "-o", "loop", image, PROMETHEUS, check=False).returncode != 0:
            run("mount", "-t", "tmpfs", "-o", "size=512k", "none", PROMETHEUS)  # where loop devices cannot be had, a full tmpfs
        self.addCleanup(run, "umount", PROMETHEUS)
        run("cp", "-a", f"{saved}/.", PROMETHEUS)
        before = self.published()
        filler = PROMETHEUS / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1 << 9, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        done = self.host.cert("rotate", "prometheus", "--rekey", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("No space left", done.stderr)
        self.assertEqual(self.published(), before)
        self.assertEqual(self.host.list()["prometheus"]["failed_attempts"], 1)
        filler.unlink()
        self.converges(("rotate", "prometheus", "--rekey"), "after a full disk")


class Judged(WithHost):
    """By others than us."""

    def test_openssl_accepts_what_it_must_and_refuses_the_rest(self):
        for name in ("prometheus", "scrape"):
            self.host.cert("issue", name)

        def verdict(name, *words):
            file = TLS / name / ("1" if name == "prometheus" else "current") / "cert.pem"
            return run("openssl", "verify", "-x509_strict", "-CAfile", TLS / "authorities.pem", "-untrusted", file, *words, file, check=False)

        self.assertEqual(verdict("prometheus", "-purpose", "sslserver", "-verify_hostname", "localhost").returncode, 0)
        self.assertEqual(verdict("prometheus", "-purpose", "sslserver", "-verify_ip", "127.0.0.1").returncode, 0)
        self.assertEqual(verdict("scrape", "-purpose", "sslclient").returncode, 0)
        self.assertIn("hostname mismatch", verdict("prometheus", "-verify_hostname", "example.org").stderr)
        self.assertIn("unsuitable certificate purpose", verdict("prometheus", "-purpose", "sslclient").stderr)
        self.assertIn("unsuitable certificate purpose", verdict("scrape", "-purpose", "sslserver").stderr)
        self.assertNotIn("error", verdict("prometheus", "-crl_check").stdout)

    def test_list_and_report(self):
        self.assertIsNone(self.host.list()["prometheus"]["certificate"])
        self.host.cert("issue", "prometheus")
        one = self.host.list()["prometheus"]
        self.assertEqual(one["problems"], [])
        self.assertEqual(one["certificate"]["names"], ["localhost", "127.0.0.1"])
        self.assertIn("expires", self.host.cert("list").stdout)
        report = json.loads(run(*self.host.words("check", "--only", "tls.files", "--only", "tls.rotation", "--format", "json"), check=False).stdout)
        verdicts = {control["id"]: control for control in report["controls"]}
        self.assertEqual(verdicts["tls.files"]["verdict"], "fail")  # three are not issued yet
        self.assertNotIn("PRIVATE KEY", json.dumps(report))
        for name in ("proxy", "scrape", "other"):
            self.host.cert("issue", name, check=False)
        unknown = self.host.cert("issue", "nobody", check=False)
        self.assertEqual(unknown.returncode, 2)


class WithAgent(WithHost):
    """The agent does by itself what is due, and what root asks for."""

    def setUp(self):
        super().setUp()
        self.host.policy.write_text("""schema = 1
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
""")
        self.socket = self.host.directory / "socket"
        self.options = ["--policy", str(self.host.policy), "--state", str(self.host.state), "--socket", str(self.socket)]
        self.start_agent()

    def start_agent(self):
        with open(self.host.directory / "agent.log", "ab") as log:
            self.agent = subprocess.Popen([str(BUILD / "src/bin/promwardend"), *self.options], stderr=log)
        self.host.processes.append(self.agent)
        wait_until(self.socket.exists, "the agent answers")

    def ask(self, *words, check=True):
        return run(COMMAND, *self.options, *words, check=check)

    def certificate(self):
        return json.loads(self.ask("cert", "list", "--format", "json").stdout)[0]["certificate"]

    def test_what_is_due_and_what_is_asked_for(self):
        time.sleep(1.5)
        self.assertFalse(TLS.exists(), "nothing is changed before a policy is accepted")
        self.ask("apply", check=False)
        wait_until(lambda: "cert_file" in WEB.read_text(), "the agent issues what is missing")
        wait_until(lambda: self.certificate() is not None, "the agent sees it")
        first = self.certificate()
        self.assertIn("renewed", self.ask("cert", "rotate", "prometheus").stdout)
        wait_until(lambda: self.certificate()["serial"] != first["serial"], "it is another one")
        kinds = [json.loads(line)["kind"] for line in self.ask("history", "--format", "json").stdout.splitlines()]
        self.assertEqual(kinds.count("rotation"), 2)
        self.assertIn('promwarden_certificate_not_after_seconds{name="prometheus"}', run("curl", "-s", "--unix-socket", self.socket, "http://x/metrics").stdout)
        self.assertEqual(json.loads(run("curl", "-s", "--unix-socket", self.socket, "http://x/v1/status").stdout)["certificates"][0]["problems"], [])
        self.assertNotEqual(self.ask("cert", "rotate", "nobody", check=False).returncode, 0)
        self.assertIn("believed no more", self.ask("cert", "rotate-ca").stdout)
        stranger = run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", COMMAND, *self.options, "cert", "rotate", "prometheus", check=False)
        self.assertEqual(stranger.returncode, 6)

    def test_what_an_earlier_life_left_is_finished(self):
        self.ask("apply", check=False)
        wait_until(lambda: "cert_file" in WEB.read_text(), "the agent issues what is missing")
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


def enter_namespaces():
    """Everything below happens where nobody else looks."""
    if os.environ.get("PROMWARDEN_INSIDE") != "1":
        os.environ["PROMWARDEN_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]])
    run("mount", "--make-rprivate", "/")
    for path in ("/etc/prometheus", "/etc/nginx", "/run", "/var/log/nginx", "/tmp"):
        if path == "/tmp" and str(BUILD).startswith("/tmp/"):
            continue
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", path)
    run("ip", "link", "set", "lo", "up")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("these tests make namespaces: run them as root")
    for tool in ("prometheus", "nginx", "openssl", "strace", "unshare", "setpriv", "curl"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    if not COMMAND.exists():
        sys.exit(f"{COMMAND} is not built (PROMWARDEN_BUILD names the build directory)")
    enter_namespaces()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unittest.main(verbosity=2)
