"""One configuration, broken in one way at a time: the control that is about it fails, no other moves, and repaired it passes again. A real Prometheus says whether it
would start. Needs root, unshare, setpriv, openssl and Debian's prometheus.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import json
import os
import pwd
import shutil
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("PROMWARDEN_BUILD") or ROOT / "build") / "src/bin/promwarden"
SERVICE = pwd.getpwnam("prometheus")

PROMETHEUS = """global:
  scrape_interval: 15s
  query_log_file: log/query.log
rule_files: ['rules/*.yml']
alerting:
  alertmanagers:
  - static_configs: [{targets: ['localhost:9093']}]
scrape_configs:
- job_name: prometheus
  static_configs: [{targets: ['localhost:9090']}]
  metric_relabel_configs: [{action: labeldrop, regex: '(?i).*(password|token).*'}]
- job_name: node
  scheme: https
  basic_auth: {username: u, password_file: secrets/password}
  tls_config: {ca_file: tls/ca.pem, cert_file: tls/cert.pem, key_file: tls/key.pem}
  static_configs: [{targets: ['node.example.org:9100']}]
  metric_relabel_configs: [{action: labeldrop, regex: '(?i).*(password|token).*'}]
remote_write:
- url: https://storage.example.org/write
"""
RULES = """groups:
- name: own
  rules:
  - alert: Queries
    expr: sum(rate(prometheus_http_requests_total{handler=~"/api/v1/query"}[5m])) > 100
  - alert: Reload
    expr: prometheus_config_last_reload_successful == 0
"""
WEB = """tls_server_config: {cert_file: tls/cert.pem, key_file: tls/key.pem}
basic_auth_users:
  admin: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG
"""
POLICY = """schema = 1
[prometheus]
config = "{0}/prometheus.yml"
web_config = "{0}/web.yml"
storage = "{0}/data"
[labels]
redact = ["password", "token"]
[[file]]
path = "{0}/secrets/*"
owner = "root"
group = "prometheus"
mode = "0640"
"""
# What this test is about: other controls have their own.
FAMILIES = ("access.password-hashes", "api.federation", "tls.", "data.permissions", "secrets.", "labels.", "audit.query", "alerts.", "config.permissions", "config.startable",
            "config.honor-labels", "config.invalid", "config.docker-socket")


class Configuration(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-", dir="/run"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.directory.chmod(0o755)
        self.conf = self.directory / "conf"
        self.rotation = Path(f"/etc/logrotate.d/{self.directory.name}")
        self.addCleanup(self.rotation.unlink, missing_ok=True)
        self.policy = self.directory / "policy.toml"
        self.policy.write_text(POLICY.format(self.conf))
        self.make()

    def make(self):
        """Everything as it should be."""
        shutil.rmtree(self.conf, ignore_errors=True)
        for name, mode, owner in (("", 0o755, 0), ("rules", 0o755, 0), ("secrets", 0o750, 0), ("tls", 0o755, 0), ("log", 0o750, SERVICE.pw_uid), ("data", 0o750, SERVICE.pw_uid)):
            (self.conf / name).mkdir()
            self.give(name, owner, SERVICE.pw_gid if name else 0, mode)
        for name, text, mode in (("prometheus.yml", PROMETHEUS, 0o644), ("rules/own.yml", RULES, 0o644), ("web.yml", WEB, 0o640), ("secrets/password", "hunter2", 0o640)):
            self.write(name, text, mode)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                        "-days", "30", "-keyout", self.conf / "tls/key.pem", "-out", self.conf / "tls/cert.pem"], check=True, capture_output=True)
        shutil.copy(self.conf / "tls/cert.pem", self.conf / "tls/ca.pem")
        self.give("tls/key.pem", 0, SERVICE.pw_gid, 0o640)
        self.rotation.write_text(f"{self.conf}/log/*.log {{\n  weekly\n  missingok\n  postrotate\n    systemctl kill -s HUP prometheus\n  endscript\n}}\n")

    def give(self, name, owner, group, mode):
        os.chown(self.conf / name, owner, group)
        (self.conf / name).chmod(mode)

    def write(self, name, text, mode=0o644):
        (self.conf / name).write_text(text)
        self.give(name, 0, SERVICE.pw_gid, mode)

    def change(self, name, old, new):
        text = (self.conf / name).read_text()
        self.assertIn(old, text)
        mode = (self.conf / name).stat().st_mode & 0o777
        self.write(name, text.replace(old, new, 1), mode)

    def verdicts(self):
        done = subprocess.run(["unshare", "-n", COMMAND, "check", "--policy", self.policy, "--state", self.directory / "state", "--format", "json"], capture_output=True, text=True, timeout=60)
        report = json.loads(done.stdout)
        self.assertNotIn("hunter2", done.stdout)
        self.report = {row["id"]: row for row in report["controls"] if row["id"].startswith(FAMILIES)}
        return {name: row["verdict"] for name, row in self.report.items()}

    def starts(self):
        """Whether the real Prometheus gets as far as serving."""
        words = ["unshare", "-n", "setpriv", f"--reuid={SERVICE.pw_uid}", f"--regid={SERVICE.pw_gid}", "--clear-groups", "timeout", "-s", "KILL", "6", "prometheus",
                 f"--config.file={self.conf}/prometheus.yml", f"--web.config.file={self.conf}/web.yml", f"--storage.tsdb.path={self.conf}/data"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as server:
            ready = any("Server is ready" in line for line in server.stderr)
            server.kill()
        return ready

    BREAKS = {
        "a password file that everyone can read": ("secrets.file-permissions", lambda t: (t.give("secrets", 0, SERVICE.pw_gid, 0o755), t.give("secrets/password", 0, SERVICE.pw_gid, 0o644))),
        "a password file that the service cannot read": ("secrets.file-permissions", lambda t: t.give("secrets/password", 0, SERVICE.pw_gid, 0o600)),
        "a password file that is not there": ("secrets.file-permissions", lambda t: (t.conf / "secrets/password").unlink()),
        "hashes that everyone can read": ("secrets.file-permissions", lambda t: t.give("web.yml", 0, SERVICE.pw_gid, 0o644)),
        "a configuration that its service can write": ("config.permissions", lambda t: t.give("prometheus.yml", SERVICE.pw_uid, SERVICE.pw_gid, 0o644)),
        "a rule file that somebody can write by an access list": ("config.permissions", lambda t: t.allow("rules/own.yml", pwd.getpwnam("nobody").pw_uid, 6)),
        "a directory of rules in which everyone can write": ("config.permissions", lambda t: t.give("rules", 0, 0, 0o777)),
        "a database that everyone can read": ("data.permissions", lambda t: t.give("data", SERVICE.pw_uid, SERVICE.pw_gid, 0o755)),
        "a key that everyone can read": ("tls.files", lambda t: t.give("tls/key.pem", 0, SERVICE.pw_gid, 0o644)),
        "a key that the service cannot read": ("tls.files", lambda t: t.give("tls/key.pem", 0, 0, 0o600)),
        "a rule that loses its Alertmanager": ("alerts.query-rate", lambda t: t.change("prometheus.yml", "  - static_configs: [{targets: ['localhost:9093']}]\n", "")),
        "an alert that reads a metric which does not exist": ("alerts.reload-failed", lambda t: t.change("rules/own.yml", "reload_successful", "reload_success")),
        "no query log": ("audit.query-log", lambda t: (t.change("prometheus.yml", "  query_log_file: log/query.log\n", ""))),
        "a query log that nobody rotates": ("audit.query-log-file", lambda t: t.rotation.write_text("")),
        "a password in the configuration": ("secrets.inline", lambda t: t.change("prometheus.yml", "password_file: secrets/password", "password: hunter2")),
        "a variable": ("secrets.dead-variables", lambda t: t.change("prometheus.yml", "username: u", "username: ${USER_NAME}")),
        "a token in a URL": ("secrets.exposed-parameters", lambda t: t.change("prometheus.yml", "/write", "/write?token=hunter2")),
        "a scrape in clear": ("tls.scrape", lambda t: t.change("prometheus.yml", "scheme: https", "scheme: http")),
        "remote storage in clear": ("tls.remote-write", lambda t: t.change("prometheus.yml", "https://storage", "http://storage")),
        "redaction that is anchored": ("labels.redaction", lambda t: t.change("prometheus.yml", "(?i).*(password|token).*", "password|token")),
        "honor_labels": ("config.honor-labels", lambda t: t.change("prometheus.yml", "  scheme: https\n", "  scheme: https\n  honor_labels: true\n")),
        "a cheap hash": ("access.password-hashes", lambda t: t.change("web.yml", "$2y$10$", "$2y$05$")),
        "an old protocol": ("tls.protocol", lambda t: t.change("web.yml", "key_file: tls/key.pem}", "key_file: tls/key.pem, min_version: TLS10}")),
        "an authority that is not there": ("config.startable", lambda t: (t.conf / "tls/ca.pem").unlink()),
    }
    # Broken in these ways, Prometheus itself must refuse; in the others it must not.
    REFUSED = {"an authority that is not there", "a key that the service cannot read"}
    # One finding of the control about the configuration goes away with what it was about.
    GOES_ALONG = {"no query log": {"audit.query-log-file"}, "a password in the configuration": {"secrets.file-permissions"}}

    def allow(self, name, uid, rights):
        entries = [(0x01, 6, 0xFFFFFFFF), (0x02, rights, uid), (0x04, 4, 0xFFFFFFFF), (0x10, 6, 0xFFFFFFFF), (0x20, 4, 0xFFFFFFFF)]
        os.setxattr(self.conf / name, "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries))

    def test_as_it_should_be(self):
        verdicts = self.verdicts()
        self.assertEqual({name: self.report[name]["reason"] for name, verdict in verdicts.items() if verdict not in ("pass", "not-applicable")}, {})
        for name in ("secrets.file-permissions", "config.permissions", "data.permissions", "tls.files", "audit.query-log", "audit.query-log-file", "alerts.query-rate", "alerts.reload-failed",
                     "config.startable", "labels.redaction", "secrets.inline", "tls.scrape", "tls.remote-write", "access.password-hashes", "tls.protocol"):
            self.assertEqual(verdicts[name], "pass", name)
        self.assertTrue(self.starts())

    def test_broken_in_one_way_at_a_time(self):
        good = self.verdicts()
        for title, (control, spoil) in self.BREAKS.items():
            with self.subTest(title):
                spoil(self)
                bad = self.verdicts()
                moved = {name for name in good if bad[name] != good[name]} - self.GOES_ALONG.get(title, set())
                self.assertEqual(moved, {control}, self.report.get(control))
                self.assertEqual(bad[control], "fail")
                for finding in self.report[control]["findings"]:
                    self.assertTrue(finding["remedy"]["summary"])
                self.make()
                self.assertEqual(self.verdicts(), good)

    def test_prometheus_agrees_about_what_starts(self):
        for title in ("an authority that is not there", "a key that the service cannot read", "a variable", "a password file that is not there"):
            with self.subTest(title):
                self.BREAKS[title][1](self)
                self.assertEqual(self.starts(), title not in self.REFUSED)
                self.make()

    def test_a_mounted_image(self):
        image = self.directory / "image"
        shutil.copytree(self.conf, image / "etc/prometheus")
        (image / "etc/prometheus/data").rmdir()
        policy = self.directory / "image.toml"
        policy.write_text("schema = 1\n")

        def check():
            done = subprocess.run([COMMAND, "check", "--root", image, "--policy", policy, "--format", "json"], capture_output=True, text=True, timeout=60)
            self.assertNotIn("root:", done.stdout)
            return {row["id"]: row for row in json.loads(done.stdout)["controls"]}

        report = check()
        self.assertEqual(report["secrets.inline"]["verdict"], "pass")
        self.assertEqual(report["network.packet-filter"]["reason"], "a mounted image has no kernel, processes or answers of its own")
        config = image / "etc/prometheus/prometheus.yml"
        config.write_text(PROMETHEUS.replace("password_file: secrets/password", "password: hunter2"))
        self.assertEqual(check()["secrets.inline"]["findings"][0]["location"]["file"], "/etc/prometheus/prometheus.yml")
        (self.directory / "outside.yml").write_text("scrape_configs: [{job_name: outside, bearer_token: x}]\n")
        for target in (self.directory / "outside.yml", "/etc/passwd", "../../../../../../etc/passwd", "/", "/dev/zero", "prometheus.yml"):
            config.unlink()
            config.symlink_to(target)
            report = check()
            self.assertNotEqual(report["secrets.inline"]["verdict"], "pass", target)
            self.assertEqual(report["secrets.inline"]["findings"] if "findings" in report["secrets.inline"] else [], [])


if __name__ == "__main__":
    unittest.main()
