"""Live evidence: a real Prometheus with each web.yml in turn, asked by the command through a worker that it starts itself. In a network namespace of its own.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
import unittest
from pathlib import Path

from probe_test import BUILD, InNamespace

COMMAND = BUILD / "src/bin/promwarden"
CONTROLS = ["network.listen-address", "access.authentication", "tls.server", "tls.protocol", "tls.client-auth", "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.profiling"]
PASSWORD = "correct-horse-of-the-probe"
USER = pwd.getpwnam("prometheus").pw_uid if shutil.which("prometheus") else 0


def service_hierarchy():
    """Where systemd's own tree of control groups is, or would be."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[2] == "cgroup" and "name=systemd" in fields[3].split(","):
            return Path(fields[1])
    return Path("/sys/fs/cgroup")


class Unit:
    """A control group that looks like a unit's: what tells a server from a stranger is the kernel's word for it."""

    def __init__(self, name):
        self.name = name
        self.slice = service_hierarchy() / "system.slice"
        self.made = not self.slice.exists()
        self.path = self.slice / name
        self.path.mkdir(parents=True)

    def enter(self):
        """For the child, before it becomes the program."""
        (self.path / "cgroup.procs").write_text("0", encoding="ascii")

    def close(self):
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                break
            time.sleep(0.05)
        if self.made:
            with contextlib.suppress(OSError):
                self.slice.rmdir()


class Authority:
    """A test authority with one server pair, in a directory that Prometheus can read."""

    def __init__(self, directory):
        self.directory = directory
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority")
        self.issue("server", "subjectAltName=IP:127.0.0.1,IP:::1\nextendedKeyUsage=serverAuth\n")
        self.issue("client", "extendedKeyUsage=clientAuth\n")
        for path in directory.iterdir():
            path.chmod(0o644)

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.directory, check=True, capture_output=True)

    def issue(self, name, extensions):
        self.directory.joinpath("ext").write_text(extensions, encoding="ascii")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", f"{name}.pem")


class Live(InNamespace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for tool in ("prometheus", "openssl"):
            if shutil.which(tool) is None:
                raise RuntimeError(f"{tool} is not installed")
        keys = cls.directory / "keys"
        keys.mkdir(mode=0o755)
        cls.authority = Authority(keys)
        cls.unit = Unit(f"promwarden-test-{os.getpid()}.service")
        cls.addClassCleanup(cls.unit.close)
        cls.bcrypt = subprocess.run(["perl", "-e", 'print crypt($ARGV[0], q($2b$10$abcdefghijklmnopqrstuu))', PASSWORD], check=True, capture_output=True, text=True).stdout
        (cls.directory / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n", encoding="ascii")

    def prometheus(self, *flags, web=None, listen="127.0.0.1:9090", unit=True):
        """A server under the unit's user, in the unit's control group."""
        data = self.directory / "data"
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        os.chown(data, USER, -1)
        words = ["prometheus", f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={data}", f"--web.listen-address={listen}", *flags]
        if web is not None:
            words.append(f"--web.config.file={self.file('web.yml', web)}")

        def become():
            if unit:
                self.unit.enter()
            os.setgroups([])
            os.setgid(pwd.getpwuid(USER).pw_gid)
            os.setuid(USER)

        with open(self.directory / "prometheus.log", "wb") as log:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=become)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGKILL)
        host, _, port = listen.rpartition(":")
        deadline = time.monotonic() + 30
        while True:
            if process.poll() is not None:
                raise AssertionError((self.directory / "prometheus.log").read_text(encoding="utf-8"))
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host.strip("[]"), int(port)), 1):
                break
            if time.monotonic() > deadline:
                raise AssertionError("Prometheus does not listen")
            time.sleep(0.02)
        time.sleep(0.3)  # until it is ready, it answers 503
        return process

    def check(self, extra="", prometheus="", listen='"127.0.0.1:9090"'):
        """The verdicts of all live controls by name."""
        policy = self.file("policy.toml", f"""schema = 1
[prometheus]
unit = "{self.unit.name}"
listen = [{listen}]
{prometheus}
{extra}
""")
        only = [word for control in CONTROLS for word in ("--only", control)]
        words = [COMMAND, "check", "--format", "json", *only, "--policy", policy, "--state", self.directory / "state", "--socket", self.directory / "socket"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        self.assertNotIn(PASSWORD, done.stdout + done.stderr)
        self.controls = {control["id"]: control for control in json.loads(done.stdout)["controls"]}
        return {name: control["verdict"] for name, control in self.controls.items()}

    def observed(self, control):
        return " | ".join(finding["observed"] for finding in self.controls[control]["findings"])

    def web(self, *lines, client_auth=None, versions="", users=False):
        text = ""
        if "tls" in lines:
            text += f"tls_server_config:\n  cert_file: {self.authority.directory}/server.pem\n  key_file: {self.authority.directory}/server.key\n{versions}"
            if client_auth:
                text += f"  client_auth_type: {client_auth}\n"
                if client_auth not in ("NoClientCert",):
                    text += f"  client_ca_file: {self.authority.directory}/ca.pem\n"
        if users:
            text += f"basic_auth_users:\n  probe: {self.bcrypt}\n"
        return text

    def probe_user(self):
        account = "promwarden-probe" if any(entry.pw_name == "promwarden-probe" for entry in pwd.getpwall()) else "nobody"
        secret = self.file("probe.password", PASSWORD + "\n", 0o600, pwd.getpwnam(account).pw_uid)
        return f'[prometheus.probe]\nuser = "probe"\npassword_file = "{secret}"'

    # ---- no authentication

    def test_an_open_server(self):
        self.prometheus()
        verdicts = self.check()
        self.assertEqual(verdicts, {"network.listen-address": "pass", "access.authentication": "fail", "tls.server": "pass", "tls.protocol": "not-applicable",
                                    "tls.client-auth": "not-applicable", "api.admin": "pass", "api.lifecycle": "pass", "api.receivers": "pass", "api.cors": "fail", "api.profiling": "fail"}, self.controls)
        self.assertIn("a stranger got 200 for GET /api/v1/status/config", self.observed("access.authentication"))
        self.assertIn("as the server itself says", self.observed("api.cors"))

    def test_every_address_without_tls(self):
        self.prometheus(listen=":9090")
        verdicts = self.check()
        self.assertEqual((verdicts["tls.server"], verdicts["network.listen-address"]), ("fail", "fail"))
        self.assertEqual({finding["subject"] for finding in self.controls["access.authentication"]["findings"]}, {"127.0.0.1:9090", "[::1]:9090"})

    def test_another_address_of_this_host(self):
        self.prometheus(listen="10.77.0.1:9090")
        self.assertEqual(self.check(listen='"10.77.0.1:9090"')["tls.server"], "fail")

    # ---- the doors of the API

    def test_open_doors_of_the_api(self):
        arguments = self.file("arguments", "--web.enable-admin-api\n")
        self.prometheus(f"@{arguments}", "--web.enable-lifecycle", "--web.enable-remote-write-receiver", "--web.cors.origin=https://grafana\\.example\\.org")
        verdicts = self.check()
        self.assertEqual([verdicts[name] for name in ("api.admin", "api.lifecycle", "api.receivers", "api.cors")], ["fail", "fail", "fail", "pass"])
        allowed = self.check(prometheus="[prometheus.allow]\nadmin_api = true\nlifecycle = true\nremote_write_receiver = true\notlp_receiver = true")
        self.assertEqual([allowed[name] for name in ("api.admin", "api.lifecycle", "api.receivers")], ["pass"] * 3)
        self.assertEqual(list((self.directory / "data").glob("snapshots/*")), [], "a probe had a side effect")
        self.assertNotIn("Received termination request", (self.directory / "prometheus.log").read_text(encoding="utf-8"))

    # ---- passwords

    def test_basic_authentication(self):
        self.prometheus("--web.enable-admin-api", web=self.web(users=True))
        verdicts = self.check()
        self.assertEqual((verdicts["access.authentication"], verdicts["api.profiling"], verdicts["api.admin"]), ("pass", "pass", "fail"))
        self.assertNotIn("the running server says", self.observed("api.admin"), "nobody was let in, so its command line is all there is")
        verdicts = self.check(prometheus=self.probe_user())
        self.assertEqual((verdicts["access.authentication"], verdicts["api.admin"], verdicts["api.cors"]), ("pass", "fail", "fail"))
        self.assertIn("is on, as the server itself says", self.observed("api.admin"))

    # ---- TLS

    def test_tls(self):
        self.prometheus(web=self.web("tls"), listen="0.0.0.0:9090")
        verdicts = self.check()
        self.assertEqual([verdicts[name] for name in ("tls.server", "tls.protocol", "access.authentication")], ["pass", "pass", "fail"])
        self.assertEqual(self.check('[tls]\nmin_version = "1.3"')["tls.protocol"], "fail")
        self.assertIn("TLS 1.2 was accepted", self.observed("tls.protocol"))

    def test_old_tls(self):
        self.prometheus(web=self.web("tls", versions="  min_version: TLS10\n"))
        self.assertEqual(self.check()["tls.protocol"], "fail")
        self.assertIn("TLS 1.0 was accepted", self.observed("tls.protocol"))
        self.assertIn("TLS 1.1 was accepted", self.observed("tls.protocol"))

    def test_client_certificates(self):
        required = '[tls]\nclient_auth = "require"'
        expected = {"NoClientCert": "without a certificate", "RequestClientCert": "without a certificate", "RequireAnyClientCert": "that no authority signed",
                    "VerifyClientCertIfGiven": "without a certificate", "RequireAndVerifyClientCert": None}
        for kind, hole in expected.items():
            with self.subTest(kind):
                server = self.prometheus(web=self.web("tls", client_auth=kind))
                verdict = self.check(required)["tls.client-auth"]
                self.assertEqual(verdict, "fail" if hole else "pass", self.controls["tls.client-auth"])
                if hole:
                    self.assertIn(hole, self.observed("tls.client-auth"))
                else:
                    self.assertEqual(self.controls["access.authentication"]["verdict"], "pass", self.controls["access.authentication"])
                    self.assertEqual(self.check('[tls]\nclient_auth = "require"\nmin_version = "1.3"')["tls.protocol"], "fail")
                server.kill()
                server.wait()

    def test_no_tls_where_client_certificates_are_required(self):
        self.prometheus()
        self.assertEqual(self.check('[tls]\nclient_auth = "require"')["tls.client-auth"], "fail")

    # ---- whose socket it is

    def test_a_stranger_on_the_port_is_named_and_not_believed(self):
        asked = []

        def answer(connection):
            asked.append(connection.recv(1000))
            connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

        self.stranger = socket.create_server(("127.0.0.1", 9090))
        self.addCleanup(self.stranger.close)
        verdicts = self.check(prometheus=self.probe_user())
        self.assertEqual((verdicts["access.authentication"], verdicts["network.listen-address"], verdicts["api.admin"]), ("fail", "fail", "fail"))
        self.assertIn(f"(pid {os.getpid()}", self.controls["access.authentication"]["reason"])
        self.assertEqual(asked, [])
        self.stranger.settimeout(0.2)
        with self.assertRaises(TimeoutError):
            self.stranger.accept()

    def test_a_server_outside_of_the_unit_is_a_stranger(self):
        other = Unit(f"promwarden-other-{os.getpid()}.service")
        self.addCleanup(other.close)
        mine, self.unit = self.unit, other
        self.addCleanup(setattr, self, "unit", mine)
        self.prometheus()
        self.unit = mine
        self.assertEqual(self.check()["access.authentication"], "fail")
        self.assertIn(f"of {other.name}", self.controls["access.authentication"]["reason"])

    def test_the_other_address_family_is_looked_at_too(self):
        self.prometheus(listen="127.0.0.1:9090")
        with socket.create_server(("::1", 9090), family=socket.AF_INET6):
            self.assertEqual(self.check()["access.authentication"], "fail")
            self.assertIn("[::1]:9090 is held by", self.controls["access.authentication"]["reason"])

    def test_nobody_listens(self):
        verdicts = self.check()
        self.assertEqual(set(verdicts.values()), {"not-applicable"})

    # ---- a proxy in front

    def nginx(self, location):
        """nginx with TLS and one location, outside of every unit, as on a machine without systemd."""
        prefix = self.directory / "nginx"
        shutil.rmtree(prefix, ignore_errors=True)
        prefix.mkdir(mode=0o755)
        (prefix / "htpasswd").write_text("probe:" + subprocess.run(["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True).stdout, encoding="ascii")
        (prefix / "nginx.conf").write_text(f"""
            user www-data; daemon off; pid {prefix}/pid; error_log {prefix}/error.log;
            events {{}}
            http {{
                access_log off;
                server {{
                    listen 127.0.0.1:8443 ssl;
                    ssl_certificate {self.authority.directory}/server.pem;
                    ssl_certificate_key {self.authority.directory}/server.key;
                    location / {{ {location} proxy_pass http://127.0.0.1:9090; }}
                }}
            }}
        """, encoding="ascii")
        process = subprocess.Popen(["/usr/sbin/nginx", "-c", prefix / "nginx.conf", "-e", prefix / "error.log"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=lambda: (service_hierarchy() / "cgroup.procs").write_text("0", encoding="ascii"))
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", 8443), 1):
                return prefix / "htpasswd"
            self.assertLess(time.monotonic(), deadline, "nginx does not listen")
            time.sleep(0.05)

    ACCESS = """
        [access]
        server_name = "prometheus.example.org"
        listen = ["127.0.0.1:8443"]
        [access.roles]
        {role} = ["user:probe"]
        [firewall.sources]
        office = ["192.0.2.0/24"]
        [[firewall.service]]
        name = "prometheus"
        ports = [9090]
        allow = ["office"]
        local_users = ["root", "www-data", "prometheus"]
    """

    def apply(self, extra):
        """The policy comes into force in this namespace, so that over loopback only its users reach the backend."""
        self.check(extra)  # writes it
        words = [COMMAND, "apply", "--force", "--policy", self.directory / "policy.toml", "--state", self.directory / "state", "--socket", self.directory / "socket"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        self.addCleanup(subprocess.run, ["nft", "delete", "table", "inet", "promwarden"], check=True)

    def test_a_proxy_that_asks_and_a_backend_that_only_it_reaches(self):
        self.prometheus()
        self.nginx(f'auth_basic x; auth_basic_user_file {self.directory}/nginx/htpasswd; location /debug/ {{ return 403; }} proxy_set_header Authorization "";')
        access = self.ACCESS.format(role="viewer")
        self.assertEqual(self.check(access, self.probe_user())["access.authentication"], "fail", "every local user reaches the backend")
        self.assertEqual({finding["subject"] for finding in self.controls["access.authentication"]["findings"]}, {"127.0.0.1:9090"})
        self.apply(access)
        verdicts = self.check(access, self.probe_user())
        self.assertEqual((verdicts["access.authentication"], verdicts["api.profiling"], verdicts["tls.protocol"]), ("pass", "pass", "pass"), self.controls)

    def test_a_proxy_that_lets_everybody_in(self):
        self.prometheus()
        self.nginx("")
        access = self.ACCESS.format(role="admin")
        self.apply(access)
        self.assertEqual(self.check(access)["access.authentication"], "fail")
        self.assertEqual({finding["subject"] for finding in self.controls["access.authentication"]["findings"]}, {"127.0.0.1:8443"})

    def test_profiles_for_viewers(self):
        self.prometheus()
        self.nginx(f"auth_basic x; auth_basic_user_file {self.directory}/nginx/htpasswd;")
        viewer, admin = (self.ACCESS.format(role=role) for role in ("viewer", "admin"))
        self.apply(viewer)
        self.assertEqual(self.check(viewer, self.probe_user())["api.profiling"], "fail")
        self.assertIn("a viewer got 200 for /debug/pprof/", self.observed("api.profiling"))
        self.check(admin, self.probe_user())
        self.assertNotIn("got 200", self.observed("api.profiling"), "an administrator may; that the site would let a viewer, too, is said by its configuration")

    # ---- the worker

    def test_the_command_starts_a_worker_without_privileges(self):
        server = self.prometheus()
        server.send_signal(signal.SIGSTOP)  # the worker waits
        self.addCleanup(server.send_signal, signal.SIGCONT)
        policy = self.file("slow.toml", f'schema = 1\n[prometheus]\nunit = "{self.unit.name}"\n')
        words = [COMMAND, "check", "--only", "access.authentication", "--format", "json", "--policy", policy, "--state", self.directory / "state", "--socket", self.directory / "socket"]
        began = time.monotonic()
        check = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        status = ""
        while "promwarden-prob" not in status:
            self.assertLess(time.monotonic() - began, 10)
            children = Path(f"/proc/{check.pid}/task/{check.pid}/children").read_text(encoding="ascii").split()
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{children[0]}/status").read_text(encoding="utf-8") if children else ""
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(fields[capabilities], 16), 0, capabilities)
        self.assertNotIn("0", fields["Uid"].split())
        self.assertEqual(fields["Groups"].strip(), "")
        self.assertEqual(fields["NoNewPrivs"].strip(), "1")
        self.assertEqual(Path(f"/proc/{children[0]}/environ").read_bytes(), b"")
        output, _ = check.communicate(timeout=30)
        self.assertLess(time.monotonic() - began, 15, "a silent server holds a check up")
        self.assertEqual(json.loads(output)["controls"][0]["verdict"], "unknown")


if __name__ == "__main__":
    unittest.main()
