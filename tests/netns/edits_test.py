"""Edits of web.yml and prometheus.yml: planned as a patch, made on request, taken up by a real Prometheus, taken back byte for byte; and no secret anywhere but in its own
file. Needs root, unshare, setpriv, patch, openssl and Debian's prometheus with promtool.

Everything happens in mount, process and network namespaces of the test's own, where /etc/prometheus is an empty directory and the server is in the control group of its
unit, so that it is vouched for; no service manager answers there.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or ROOT / "build")
COMMAND = BUILD / "src/bin/promwarden"
SERVICE = pwd.getpwnam("prometheus")
SECRETS = {"hunter2-of-node": "node", "s3cr3t/of.storage": "storage"}

CONFIG = """# Ours. Ask before you touch it.
global:
    scrape_interval:     15s   # often enough
    external_labels: {env: "prod"}
rule_files: []
scrape_configs:
-   job_name: "node"
    scheme: https
    basic_auth:
        "username": scraper
        "password": 'hunter2-of-node'   # the one on the wiki
    tls_config:
        # for the lab only
        insecure_skip_verify: true
        server_name: node
    static_configs: [{targets: ['node.example.org:9100']}]
    metric_relabel_configs: [{action: labeldrop, regex: "password|token"}]
-   job_name: other    # its certificate is its own
    tls_config:
        insecure_skip_verify: true
    static_configs: [{targets: ['other.example.org:9100']}]
remote_write:
-   url: https://storage.example.org/write
    bearer_token: s3cr3t/of.storage
"""
WEB = """# people
tls_server_config:
    cert_file:  tls/cert.pem
    key_file:   tls/key.pem
    min_version: TLS10   # for the old probe
"""
POLICY = """schema = 1
[prometheus]
unit = "prometheus.service"
config = "{0}/prometheus.yml"
web_config = "{0}/web.yml"
storage = "{1}/data"
listen = ["127.0.0.1:9090"]
[audit]
query_log = "{1}/data/query.log"
[controls]
"network.packet-filter" = "off"
"config.permissions" = "off"
"data.permissions" = "off"
"secrets.file-permissions" = "off"
"tls.files" = "off"
"audit.query-log-file" = "off"
"""
EDITED = {"secrets.inline", "tls.scrape", "tls.protocol", "labels.redaction", "audit.query-log"}


class Host:
    """Namespaces with a mount of their own over /etc/prometheus, and the server in its unit's control group."""

    def __init__(self, directory):
        self.directory = directory
        self.group_root = next(Path(path) for path in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup") if Path(path, "cgroup.procs").exists()) / directory.name
        for name in ("init.scope", "system.slice/prometheus.service"):
            (self.group_root / name).mkdir(parents=True)
        script = f"""echo 0 >{self.group_root}/init.scope/cgroup.procs
            mount --make-rprivate / && mount -t tmpfs none /run && mount -t tmpfs -o mode=0755 none /etc/prometheus && ip link set lo up || exit 1
            echo ready; exec sleep 3600"""
        self.holder = subprocess.Popen(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n"
        self.inner = int(Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()[0])
        self.server = None

    def words(self, *words):
        return ["nsenter", f"--target={self.inner}", "-m", "-n", "-p", *map(str, words)]

    def run(self, *words, **more):
        return subprocess.run(self.words(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False, **more)

    def path(self, name):
        return Path(f"/proc/{self.inner}/root") / str(name).lstrip("/")

    def serve(self, *flags):
        line = ["sh", "-c", f'echo 0 >{self.group_root}/system.slice/prometheus.service/cgroup.procs; exec "$@"', "sh", "setpriv", f"--reuid={SERVICE.pw_uid}", f"--regid={SERVICE.pw_gid}", "--clear-groups",
                "prometheus", "--config.file=/etc/prometheus/prometheus.yml", f"--storage.tsdb.path={self.directory}/data", "--web.listen-address=127.0.0.1:9090", *flags]
        with open(self.directory / "server.log", "wb") as log:
            self.server = subprocess.Popen(self.words(*line), stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while "Server is ready" not in (self.directory / "server.log").read_text():
            if time.monotonic() > deadline or self.server.poll() is not None:
                raise AssertionError((self.directory / "server.log").read_text())
            time.sleep(0.1)

    def ask(self, path, scheme="http"):
        return self.run("curl", "-sk", "--max-time", "10", f"{scheme}://127.0.0.1:9090{path}").stdout

    def close(self):
        if self.server is not None:
            self.server.kill()
            self.server.wait()
        os.kill(self.inner, signal.SIGKILL)
        self.holder.wait()
        self.holder.stdout.close()
        for _ in range(50):
            try:
                for name in ("init.scope", "system.slice/prometheus.service", "system.slice", ""):
                    if (self.group_root / name).exists():
                        (self.group_root / name).rmdir()
                return
            except OSError:
                time.sleep(0.1)


class Edits(unittest.TestCase):
    def setUp(self):
        for tool in ("unshare", "nsenter", "setpriv", "patch", "curl", "prometheus", "promtool", "openssl"):
            if shutil.which(tool) is None:
                raise AssertionError(f"{tool} is not installed")
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-", dir="/var/tmp"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        (self.directory / "data").mkdir()
        os.chown(self.directory / "data", SERVICE.pw_uid, SERVICE.pw_gid)
        self.host = Host(self.directory)
        self.addCleanup(self.host.close)
        self.etc = self.host.path("/etc/prometheus")
        self.put("prometheus.yml", CONFIG, 0o640)
        (self.directory / "policy.toml").write_text(POLICY.format("/etc/prometheus", self.directory))

    def put(self, name, text, mode=0o644):
        path = self.etc / name
        path.write_text(text)
        os.chown(path, 0, SERVICE.pw_gid)
        path.chmod(mode)

    def certificate(self):
        (self.etc / "tls").mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-days", "30", "-keyout", self.etc / "tls/key.pem",
                        "-out", self.etc / "tls/cert.pem"], check=True, capture_output=True)
        os.chown(self.etc / "tls/key.pem", 0, SERVICE.pw_gid)
        (self.etc / "tls/key.pem").chmod(0o640)

    def command(self, *words):
        done = self.host.run(COMMAND, *words, "--policy", self.directory / "policy.toml", "--state", self.directory / "state", "--socket", self.directory / "socket")
        for secret in SECRETS:
            self.assertNotIn(secret, done.stdout)
        return done

    def plan(self):
        return json.loads(self.command("plan", "--format", "json").stdout)["changes"]

    def files(self):
        """Every file below /etc/prometheus with its text, owner and mode."""
        found = {}
        for path in sorted(self.etc.rglob("*")):
            status = path.lstat()
            found[str(path.relative_to(self.etc))] = (path.read_text() if path.is_file() else None, status.st_uid, status.st_gid, status.st_mode & 0o7777)
        return found

    def where(self, secret, *places):
        """The files in which that text is."""
        return [str(path) for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes()]

    def accept(self):
        """A first apply, that edits nothing."""
        before = self.files()
        done = self.command("apply")
        self.assertIn(done.returncode, (0, 1, 3), done.stdout)
        self.assertEqual(self.files(), before, done.stdout)

    def test_planned_as_a_patch_and_made_on_request(self):
        self.host.serve()
        self.accept()
        before = self.files()
        changes = self.plan()
        config = [change for change in changes if change["subject"] == "/etc/prometheus/prometheus.yml"]
        self.assertEqual({change["control"] for change in config}, EDITED - {"tls.protocol"})
        self.assertTrue(all(change["on_request"] for change in config))

        said = self.command("apply", "--edit-config")
        self.assertIn(said.returncode, (0, 1, 3), said.stdout)
        after = (self.etc / "prometheus.yml").read_text()
        expected = (CONFIG.replace("    scrape_interval:", f"    query_log_file: {self.directory}/data/query.log\n    scrape_interval:", 1)
                    .replace("\"password\": 'hunter2-of-node'", "\"password_file\": /etc/prometheus/promwarden/node-basic_auth-password")
                    .replace("        insecure_skip_verify: true\n        server_name", "        server_name").replace("    tls_config:\n        insecure_skip_verify: true\n", "")
                    .replace('"password|token"', "'(?i).*(password|token).*'").replace("bearer_token: s3cr3t/of.storage", "bearer_token_file: /etc/prometheus/promwarden/remote_write-0-bearer_token"))
        self.assertEqual(after, expected)
        for secret, name in (("hunter2-of-node", "node-basic_auth-password"), ("s3cr3t/of.storage", "remote_write-0-bearer_token")):
            path = self.etc / "promwarden" / name
            self.assertEqual(path.read_text(), secret)
            self.assertEqual((path.stat().st_uid, path.stat().st_gid, path.stat().st_mode & 0o7777), (0, SERVICE.pw_gid, 0o640))
            self.assertEqual(self.where(secret, self.etc, self.directory), [str(path)])
        directory = (self.etc / "promwarden").stat()
        self.assertEqual((directory.st_uid, directory.st_gid, directory.st_mode & 0o7777), (0, SERVICE.pw_gid, 0o2750))

        # The server has it.
        loaded = json.loads(self.host.ask("/api/v1/status/config"))["data"]["yaml"]
        self.assertIn("password_file: /etc/prometheus/promwarden/node-basic_auth-password", loaded)
        self.assertIn("credentials_file: /etc/prometheus/promwarden/remote_write-0-bearer_token", loaded)
        self.assertIn("query_log_file", loaded)
        self.assertNotIn("insecure_skip_verify: true", loaded)
        self.assertIn("prometheus_config_last_reload_successful 1", self.host.ask("/metrics"))
        self.assertEqual([change["subject"] for change in self.plan()], [])

        undone = self.command("undo")
        self.assertEqual(undone.returncode, 0, undone.stdout)
        self.assertEqual(self.files(), before)
        self.assertIn("password: <secret>", json.loads(self.host.ask("/api/v1/status/config"))["data"]["yaml"])
        for secret in SECRETS:
            self.assertEqual(self.where(secret, self.etc, self.directory), [str(self.etc / "prometheus.yml")])

    def test_the_same_through_the_agent(self):
        self.host.serve()
        with open(self.directory / "agent.log", "wb") as log:
            agent = subprocess.Popen(self.host.words(BUILD / "src/bin/promwardend", "--policy", self.directory / "policy.toml", "--state", self.directory / "state", "--socket", self.directory / "socket"),
                                     stdout=log, stderr=log)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.terminate)
        deadline = time.monotonic() + 60
        while not (self.directory / "socket").exists():
            self.assertLess(time.monotonic(), deadline, (self.directory / "agent.log").read_text())
            time.sleep(0.1)
        self.accept()
        before = self.files()
        said = self.command("apply", "--edit-config")
        self.assertIn(said.returncode, (0, 1, 3), said.stdout)
        self.assertIn("Changed /etc/prometheus/prometheus.yml", said.stdout)
        self.assertIn("query_log_file", json.loads(self.host.ask("/api/v1/status/config"))["data"]["yaml"])
        for secret, name in SECRETS.items():
            self.assertEqual([Path(path).name.split("-")[0] for path in self.where(secret, self.etc, self.directory)], ["remote_write" if name == "storage" else name])
        self.assertEqual([change["subject"] for change in self.plan()], [])
        self.command("history", "--format", "json")  # holds no secret
        undone = self.command("undo")
        self.assertEqual(undone.returncode, 0, undone.stdout)
        self.assertEqual(self.files(), before)

    def test_patch_takes_what_plan_prints(self):
        self.accept()
        (self.directory / "policy.toml").write_text(POLICY.format("/etc/prometheus", self.directory) + '"secrets.inline" = "off"\n')
        for text in ("".join(change["diff"] for change in self.plan()), self.command("plan").stdout):
            self.put("prometheus.yml", CONFIG, 0o640)
            patched = self.host.run("patch", "-p1", "-d", "/", input=text)
            self.assertEqual(patched.returncode, 0, patched.stdout + text)
            after = (self.etc / "prometheus.yml").read_text()
            self.assertIn("'(?i).*(password|token).*'", after)
            self.assertNotIn("insecure_skip_verify", after)
            self.assertIn("hunter2-of-node", after)
        self.assertEqual(self.plan(), [])

    def test_a_step_that_fails_leaves_everything_as_it_was(self):
        self.host.serve()
        self.accept()
        before = self.files()
        # Where queries are to be logged, there is no directory: promtool does not look, the server refuses.
        (self.directory / "policy.toml").write_text(POLICY.format("/etc/prometheus", self.directory).replace("/data/query.log", "/nowhere/query.log"))
        self.accept()
        failed = self.command("apply", "--edit-config")
        self.assertEqual(failed.returncode, 4, failed.stdout)
        self.assertIn("Prometheus refused the new configuration", failed.stdout)
        self.assertIn("what was there before is there again", failed.stdout)
        self.assertEqual(self.files(), before)
        self.assertIn("prometheus_config_last_reload_successful 1", self.host.ask("/metrics"))
        # promtool refuses: a file of another job that is not there.
        broken = CONFIG.replace("        server_name: node\n", "        server_name: node\n        cert_file: /nowhere/cert.pem\n        key_file: /nowhere/key.pem\n        ca_file: /nowhere/ca.pem\n")
        self.put("prometheus.yml", broken, 0o640)
        before = self.files()
        failed = self.command("apply", "--edit-config")
        self.assertEqual(failed.returncode, 4, failed.stdout)
        self.assertIn("promtool refuses it", failed.stdout)
        self.assertEqual(self.files(), before)
        for secret in SECRETS:
            self.assertEqual(self.where(secret, self.etc, self.directory), [str(self.etc / "prometheus.yml")])

    def test_what_somebody_else_could_replace_is_refused(self):
        self.accept()
        (self.etc / "prometheus.yml").rename(self.etc / "managed.yml")
        (self.etc / "prometheus.yml").symlink_to("managed.yml")
        before = self.files()
        self.assertIn("is a symbolic link: whoever made it manages the file", self.command("plan").stdout)
        self.command("apply", "--edit-config")
        self.assertEqual(self.files(), before)

    def test_web_yml_is_kept_to_the_policy(self):
        self.certificate()
        self.put("web.yml", WEB, 0o640)
        self.host.serve("--web.config.file=/etc/prometheus/web.yml")
        before = self.files()
        self.assertNotEqual(self.host.run("curl", "-sk", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "https://127.0.0.1:9090/-/ready").returncode, 35, "the old protocol is spoken before")
        done = self.command("apply")
        self.assertIn(done.returncode, (0, 1, 3), done.stdout)
        self.assertEqual((self.etc / "web.yml").read_text(), WEB.replace("TLS10", "TLS12"))
        self.assertEqual((self.etc / "prometheus.yml").read_text(), CONFIG)
        self.assertIn("Ready", self.host.ask("/-/ready", "https"))
        self.assertEqual([change for change in self.plan() if change["kind"] == "web"], [])
        self.assertEqual(self.command("undo").returncode, 0)
        self.assertEqual(self.files(), before)


if __name__ == "__main__":
    unittest.main()
