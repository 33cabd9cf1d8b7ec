"""A well-known hardening guide's lines, pasted as they are printed: each gives the finding that explains what is wrong with it, and the programs that they are for agree.

Its YAML lost its indentation, its switches take values, and some of its metrics and locations do not exist. What is right about it passes.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

COMMAND = Path(os.environ.get("PROMWARDEN_BUILD") or Path(__file__).resolve().parents[2] / "build") / "src/bin/promwarden"

SCRAPE = """# prometheus.yml
scrape_configs:
- job_name: 'secure-targets'
scheme: https
tls_config:
ca_file: /etc/prometheus/certs/ca.crt
cert_file: /etc/prometheus/certs/client.crt
key_file: /etc/prometheus/certs/client.key
insecure_skip_verify: false
static_configs:
- targets: ['target1:9100', 'target2:9100']
"""
SECRETS = """# Use environment variable substitution
remote_write:
- url: "https://remote-storage:9201/write"
basic_auth:
username: ${PROMETHEUS_REMOTE_USER}
password_file: /etc/prometheus/secrets/remote_password
"""
LABELS = """# prometheus.yml
metric_relabel_configs:
- action: labeldrop
regex: 'password|secret|token|api_key'
- action: labelkeep
regex: 'job|instance|__name__|env|service'
"""
FEDERATION = """# Limit federation to specific match patterns
scrape_configs:
- job_name: 'federate'
honor_labels: true
metrics_path: '/federate'
params:
'match[]':
- '{job="prometheus"}'
static_configs:
- targets: ['federated-prometheus:9090']
"""
RATE = """# Alert on excessive query rates
- alert: HighQueryRate
expr: rate(prometheus_http_requests_total[5m]) > 100
for: 5m
"""
FAILURES = """- alert: PrometheusAuthFailures
expr: increase(nginx_http_requests_total{status="401"}[5m]) > 10
for: 2m
"""
RELOAD = """# Alert on configuration changes
- alert: PrometheusConfigReloadFailed
expr: prometheus_config_last_reload_successful == 0
for: 1m
"""
# The file, what it is, the control, and words of a finding of it: what was observed or what to do.
FILES = {
    "S05 external_labels": ("global:\nexternal_labels:\nenvironment: 'production'\n", "prometheus", "config.invalid", "indent it below `global`"),
    "S07 compose, published on loopback": ("services:\n  prometheus:\n    image: prom/prometheus\n    ports:\n      - \"127.0.0.1:9090:9090\"\n", "compose", "network.published-ports", None),
    "S09 basic auth": ('location / {\nauth_basic "Prometheus";\nauth_basic_user_file /etc/nginx/.htpasswd;\nproxy_pass http://localhost:9090;\n}\n', "nginx", "proxy.literal-upstream", "127.0.0.1"),
    "S09 basic auth, what is passed on": ('location / {\nauth_basic "Prometheus";\nauth_basic_user_file /etc/nginx/.htpasswd;\nproxy_pass http://localhost:9090;\n}\n', "nginx", "proxy.credential-stripping", "Authorization"),
    "S10 auth_request": ("location / {\nauth_request /oauth2/auth;\nproxy_pass http://localhost:9090;\n}\n", "nginx", "proxy.auth-request", "/oauth2/auth"),
    "S17 TLS of a job": (SCRAPE, "prometheus", "config.invalid", "move it into a scrape configuration"),
    "S23 federation": (FEDERATION, "prometheus", "config.invalid", "indent it below `params`"),
    "S25 variables": (SECRETS, "prometheus", "secrets.dead-variables", "${"),
    "S26 password_file": (SECRETS, "prometheus", "secrets.inline", None),
    "S27 labeldrop": (LABELS, "prometheus", "labels.redaction", "db_password"),
    "S28 labelkeep": (LABELS, "prometheus", "labels.identity", "labelkeep removes le, quantile"),
    "S32 query rate": (RATE, "rules", "alerts.query-rate", "sum("),
    "S33 log format": ("http {\nlog_format combined '$remote_addr - $remote_user [$time_local]';\nserver { listen 443 ssl; access_log /var/log/nginx/prometheus.log combined; location / { proxy_pass http://127.0.0.1:9090; } }\n}\n",
                       "nginx", "audit.proxy-log", "combined"),
    "S34 failures": (FAILURES, "rules", "alerts.auth-failures", "the alert never fires"),
    "S35 reload": (RELOAD, "rules", "alerts.reload-failed", None),
}
# A command line, and of what Prometheus says: the control, the finding's words, and those of Prometheus itself (None: it starts).
FLAGS = {
    "S06 listen": ('--web.listen-address="127.0.0.1:9090"', "config.startable", None, None),
    "S14 TLS": ("--web.tls-cert=/etc/prometheus/certs/server.crt --web.tls-key=/etc/prometheus/certs/server.key", "config.startable", "unknown long flag '--web.tls-cert'", "unknown long flag '--web.tls-cert'"),
    "S15 client CA": ("--web.tls-client-ca=/etc/prometheus/certs/ca.crt", "config.startable", "unknown long flag '--web.tls-client-ca'", "unknown long flag '--web.tls-client-ca'"),
    "S16 client auth": ("--web.tls-client-auth=RequireAndVerifyClientCert", "config.startable", "unknown long flag '--web.tls-client-auth'", "unknown long flag '--web.tls-client-auth'"),
    "S21 admin API": ("--web.enable-admin-api=false", "config.startable", "unexpected false", "unexpected false"),
    "S22 lifecycle": ("--web.enable-lifecycle=false", "config.startable", "unexpected false", "unexpected false"),
    "S29 retention": ("--storage.tsdb.retention.time=15d", "config.startable", None, None),
    "S30 size": ("--storage.tsdb.retention.size=10GB", "config.startable", None, None),
    "S31 query log": ("--web.enable-admin-api --log.level=debug", "api.admin", "delete series", None),
}


class Guide(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path

    def row(self, path, kind, control):
        done = subprocess.run([COMMAND, "lint", "--as", kind, "--format", "json", path], capture_output=True, text=True, timeout=30, check=False)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        return next(row for row in json.loads(done.stdout)["controls"] if row["id"] == control)

    def explains(self, row, words):
        if words is None:
            self.assertEqual(row["verdict"], "pass", row)
            return
        self.assertEqual(row["verdict"], "fail", row)
        said = [finding["observed"] + " " + finding["remedy"]["summary"] for finding in row["findings"]]
        self.assertTrue(any(words in text for text in said), said)
        self.assertTrue(all(finding["location"]["line"] > 0 for finding in row["findings"]))

    def test_files(self):
        for title, (text, kind, control, words) in FILES.items():
            with self.subTest(title):
                self.explains(self.row(self.write("file", text), kind, control), words)

    def test_command_lines(self):
        for title, (flags, control, words, _) in FLAGS.items():
            with self.subTest(title):
                unit = self.write("prometheus.service", f"[Service]\nExecStart=/usr/bin/prometheus {flags}\n")
                self.explains(self.row(unit, "unit", control), words)

    def test_prometheus_agrees_about_command_lines(self):
        for title, (flags, _, _, own) in FLAGS.items():
            with self.subTest(title):
                config = self.write("prometheus.yml", "global: {}\n")
                words = ["unshare", "--net", "timeout", "-s", "KILL", "5", "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.directory}/data", *flags.replace('"', "").split()]
                with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
                    said = ""
                    for line in server.stderr:
                        said += line
                        if "Server is ready" in line:
                            server.kill()
                            break
                if own is None:
                    self.assertIn("Server is ready", said)
                else:
                    self.assertIn(own, said)

    def test_promtool_and_nginx_agree_about_files(self):
        for title, (text, kind, control, words) in FILES.items():
            if kind in ("prometheus", "rules") and control == "config.invalid":
                with self.subTest(title):
                    done = subprocess.run(["promtool", "check", "config", "--syntax-only", self.write("prometheus.yml", text)], capture_output=True, text=True, check=False)
                    self.assertNotEqual(done.returncode, 0, done.stdout)
        site = self.write("nginx.conf", re.sub("listen 443 ssl;", "listen 127.0.0.1:1;", "events {}\n" + FILES["S33 log format"][0]))
        done = subprocess.run(["nginx", "-t", "-c", site, "-e", "stderr", "-g", f"pid {self.directory}/pid;"], capture_output=True, text=True, check=False)
        self.assertIn('duplicate "log_format" name "combined"', done.stderr)


if __name__ == "__main__":
    unittest.main()
