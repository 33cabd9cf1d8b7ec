"""What Prometheus refuses, as its own promtool says it: config.startable has to agree about each of these settings, in both directions. Needs Debian's prometheus.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("PROMWARDEN_BUILD") or ROOT / "build") / "src/bin/promwarden"

# Where each of these stands in a configuration; "%" is its place.
GLOBAL = "global: {%}\n"
JOB = "scrape_configs:\n- job_name: a\n  %\n"
RELABEL = "scrape_configs: [{job_name: a, relabel_configs: [{%}]}]\n"
TLS = "scrape_configs: [{job_name: a, tls_config: {%}}]\n"
OAUTH = "scrape_configs: [{job_name: a, oauth2: {%}}]\n"
ALERTMANAGER = "alerting: {alertmanagers: [{%}]}\n"
WRITE = "remote_write: [{%}]\n"
READ = "remote_read: [{%}]\n"
TRACING = "tracing: {%}\n"
TOP = "%\n"
U = "url: 'http://a'"


def discovery(kind):
    return f"scrape_configs: [{{job_name: a, {kind}_sd_configs: [{{%}}]}}]\n"


SETTINGS = {
    GLOBAL: ["scrape_interval: 10s, scrape_timeout: 20s", "scrape_timeout: 2m", "scrape_interval: 5s", "scrape_interval: 0s", "scrape_interval: 1 m", "scrape_interval: 1.5h", "scrape_interval: -5m",
             "scrape_interval: 15", "scrape_interval: 1d12h", "scrape_interval: 12h1d", "evaluation_interval: 0s", "external_labels: {a: c}", "external_labels: {a: 5}", "external_labels: {a: [b]}",
             "external_labels: {__name__: x}", "query_log_file: [a]", "query_log_file: ''"],
    JOB: ["scrape_interval: 1m\n  scrape_timeout: 2m", "scrape_timeout: 1m", "scrape_interval: 0s", "sample_limit: -1", "sample_limit: abc", "sample_limit: '5'", "sample_limit: 5", "sample_limit: 1.5", "sample_limit: 0x10",
          "sample_limit: 1_000", "body_size_limit: 10XB", "body_size_limit: 10MB", "body_size_limit: 10MiB", "body_size_limit: 10", "body_size_limit: 0", "body_size_limit: ''", "metrics_path: ''",
          "scheme: ftp", "scheme: [http]", "honor_labels: yes", "honor_labels: maybe", "honor_labels: 'true'", "honor_labels: TRUE", "honor_labels:", "honor_timestamps: 1", "params: {a: b}",
          "params: {a: [b]}", "params: {a: [1]}", "params: [a]", "static_configs: {targets: [a]}", "static_configs: [{targets: a}]", "static_configs: [{targets: ['a/b']}]",
          "static_configs: [{targets: ['a b']}]", "static_configs: [{targets: [1]}]", "static_configs: [{targets: [a], labels: {a: 1}}]", "static_configs: [{target: [a]}]", "static_configs:",
          "label_limit: -2", "relabel_configs: {action: drop}", "basic_auth: {username: a, password: b, password_file: c}", "basic_auth: {}", "basic_auth: {username: [a]}", "authorization: {type: basic}",
          "authorization: {credentials: c, credentials_file: d}", "authorization: {}", "proxy_url: '::'", "proxy_url: 'http://p:1'", "proxy_url: p", "proxy_url: ''", "proxy_url: 'http://[::1'",
          "proxy_url: 'http://[::1]:80'", "proxy_url: 'http://a b'", "proxy_url: '%zz'", "proxy_url: 'http://a:b'", "proxy_url: 'http://u:p%40@a:1/x y'", "follow_redirects: maybe", "enable_http2: no",
          "enable_http2: 3"],
    RELABEL: ["action: nope", "action: DROP, regex: a, source_labels: [a]", "action: drop, regex: '('", "action: labeldrop, regex: a, source_labels: [b]", "action: labeldrop, regex: a",
              "source_labels: [a]", "source_labels: [a], target_label: ''", "source_labels: [a], target_label: '${1}x'", "source_labels: a, target_label: a", "action: hashmod, source_labels: [a], target_label: b",
              "action: hashmod, source_labels: [a], target_label: b, modulus: 3", "action: hashmod, source_labels: [a], target_label: b, modulus: 0", "action: lowercase, source_labels: [a]",
              "action: keepequal, source_labels: [a], target_label: b", "action: keepequal, source_labels: [a], target_label: b, regex: x", "action: labelmap, regex: x", "action: '', target_label: a",
              "action: keep, source_labels: [a], regex: 5", "action: keep, regex: [a]", "replacement: x, target_label: job", "action: drop", ""],
    TLS: ["min_version: TLS9", "min_version: TLS12", "min_version: tls12", "min_version: '1.2'", "max_version: TLS13", "cert_file: a", "key_file: a", "insecure_skip_verify: maybe", "server_name: [a]", ""],
    OAUTH: ["client_id: a, client_secret: b, token_url: 'http://c'", "client_secret: b, token_url: 'http://c'", "client_id: a, token_url: 'http://c'", "client_id: a, client_secret: b",
            "client_id: a, client_secret: b, token_url: 'http://c', scopes: x", "client_id: a, client_secret: b, client_secret_file: f, token_url: 'http://c'",
            "client_id: a, client_secret: b, token_url: 'http://c', endpoint_params: {a: [b]}"],
    ALERTMANAGER: ["api_version: v3", "api_version: v1", "api_version: v2", "timeout: x", "static_configs: [{targets: ['a/b']}]", "static_configs: [{targets: ['http://a']}]", "targets: [a]"],
    WRITE: ["", U, "url: ''", "url: a", "url: ':'", U + "}, {" + U, U + ", name: x}, {url: 'http://b', name: x", U + ", name: x}, {url: 'http://b', name: y", U + ", headers: {Authorization: x}",
            U + ", headers: {X-Prometheus-Remote-Write-Version: x}", U + ", headers: {content-type: x}", U + ", headers: {Host: x}", U + ", headers: {X-Scope-OrgID: x}", U + ", headers: {x: [y]}",
            U + ", sigv4: {}, basic_auth: {username: a}", U + ", sigv4: {access_key: a}", U + ", sigv4: {secret_key: b}", U + ", sigv4: {access_key: a, secret_key: b}", U + ", sigv4: {}",
            U + ", queue_config: {max_shards: 0}", U + ", queue_config: {capacity: x}", U + ", metadata_config: {send: maybe}", U + ", write_relabel_configs: [null]"],
    READ: ["", U, U + ", name: x}, {url: 'http://b', name: x", U + ", headers: {authorization: x}", U + ", filter_external_labels: maybe", U + ", read_recent: 1", U + ", required_matchers: {a: b}"],
    TRACING: ["", "endpoint: ''", "endpoint: 'a:1'", "endpoint: 'a:1', client_type: x", "endpoint: 'a:1', client_type: http", "endpoint: 'a:1', client_type: GRPC", "endpoint: 'a:1', compression: gzip",
              "endpoint: 'a:1', compression: zip", "endpoint: 'a:1', headers: {Authorization: x}", "endpoint: 'a:1', headers: {X: y}", "endpoint: 'a:1', sampling_fraction: x",
              "endpoint: 'a:1', sampling_fraction: 0.5", "endpoint: 'a:1', insecure: maybe"],
    TOP: ["rule_files: ['a/*/b.yml']", "rule_files: ['*.yml']", "rule_files: ['a*b*.yml']", "rule_files: ['rules/*']", "rule_files: ['[a']", "rule_files: a.yml", "rule_files: ['']",
          "storage: {tsdb: {out_of_order_time_window: 5}}", "storage: {exemplars: {max_exemplars: x}}", "storage: {exemplars: {max_exemplars: 5}}", "[]", "a", "scrape_configs: [null]", "scrape_configs: {a: b}",
          "scrape_configs: [{job_name: ''}]", "scrape_configs: [{job_name: a}, {job_name: a}]", "nope: 1", "global:", "alerting:"],
    discovery("azure"): ["", "subscription_id: s", "subscription_id: s, authentication_method: X", "subscription_id: s, authentication_method: ManagedIdentity", "subscription_id: s, tenant_id: t",
                         "subscription_id: s, tenant_id: t, client_id: c", "subscription_id: s, tenant_id: t, client_id: c, client_secret: x", "subscription_id: '', authentication_method: ManagedIdentity"],
    discovery("digitalocean"): ["", "port: x", "port: 80"],
    discovery("dns"): ["", "names: []", "names: [a]", "names: [a], type: A", "names: [a], type: A, port: 9", "names: [a], type: a, port: 9", "names: [a], type: TXT", "names: a"],
    discovery("docker"): ["", "host: ''", "host: 'unix:///a'", "host: ':'"],
    discovery("dockerswarm"): ["", "host: 'unix:///a'", "host: 'unix:///a', role: x", "host: 'unix:///a', role: nodes", "role: nodes"],
    discovery("ec2"): ["region: r", "region: r, filters: [{name: n}]", "region: r, filters: [{name: n, values: [v]}]", "region: r, port: x"],
    discovery("eureka"): ["", "server: ''", "server: a", "server: 'http://a'", "server: 'http://'"],
    discovery("file"): ["", "files: []", "files: [a]", "files: [a.json]", "files: [a.YML]", "files: [a.Yml]", "files: ['*.yml']", "files: ['a*b*.yml']", "files: ['*/a.yml']", "files: ['a.yml.*']",
                        "files: ['a.y*ml']", "files: ['']", "files: ['[a].yml']", "files: a.yml"],
    discovery("gce"): ["", "project: p", "project: p, zone: z", "zone: z"],
    discovery("hetzner"): ["", "role: x", "role: hcloud", "role: robot"],
    discovery("http"): ["", "url: ''", "url: a", "url: 'ftp://a'", "url: 'http://'", "url: 'http://a'", "url: 'HTTP://a'", "url: /a"],
    discovery("ionos"): ["", "datacenter_id: d"],
    discovery("marathon"): ["", "servers: []", "servers: ['http://a']", "servers: ['http://a'], auth_token: a, auth_token_file: b", "servers: ['http://a'], auth_token: a, basic_auth: {username: u}",
                            "servers: ['http://a'], auth_token_file: a, bearer_token_file: b", "servers: ['http://a'], auth_token: a"],
    discovery("nerve"): ["", "servers: [a]", "servers: [a], paths: []", "servers: [a], paths: ['/x']", "servers: [a], paths: [x]"],
    discovery("openstack"): ["", "role: x, region: r", "role: hypervisor, region: r", "role: instance", "role: instance, region: r, availability: x", "role: instance, region: r, availability: admin"],
    discovery("ovhcloud"): ["", "service: vps", "service: x, application_key: a, application_secret: b, consumer_key: c", "service: vps, application_key: a, application_secret: b, consumer_key: c",
                            "service: vps, application_key: a, application_secret: b"],
    discovery("puppetdb"): ["", "url: 'http://a'", "url: 'http://a', query: q", "query: q", "url: a, query: q"],
    discovery("scaleway"): ["", "role: instance", "role: instance, project_id: p", "role: instance, project_id: p, secret_key: s"],
    discovery("serverset"): ["", "servers: [a]", "servers: [a], paths: ['/x']", "servers: [a], paths: [x]"],
    discovery("triton"): ["", "account: a", "account: a, dns_suffix: d", "account: a, dns_suffix: d, endpoint: e", "account: a, dns_suffix: d, endpoint: e, role: x", "account: a, dns_suffix: d, endpoint: e, role: cn"],
    discovery("uyuni"): ["", "server: 'http://a'", "server: 'http://a', username: u", "server: 'http://a', username: u, password: p", "username: u, password: p"],
    discovery("vultr"): ["", "port: x"],
}


# Of web.yml.
WEB = ["tls_server_config: {%s, " + setting + "}" for setting in ["min_version: TLS14", "min_version: TLS10", "max_version: TLS13", "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]",
       "cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]", "cipher_suites: [ECDHE-RSA-AES128-GCM-SHA256]", "cipher_suites: TLS_AES_128_GCM_SHA256",
       "curve_preferences: [X25519, CurveP384]", "curve_preferences: [P-256]", "prefer_server_cipher_suites: maybe", "client_auth_type: NoClientCert"]] + [
       "http_server_config: {http2: maybe}", "http_server_config: {http2: false}", "http_server_config: {headers: {X-Frame-Options: SAMEORIGIN}}", "http_server_config: {headers: {X-Frame-Options: deny}}",
       "http_server_config: {headers: {X-Content-Type-Options: nope}}", "http_server_config: {headers: {X-XSS-Protection: nope}}", "http_server_config: {headers: {x-frame-options: deny}}", "basic_auth_users: [a]",
       "tls_server_config: {cert_file: c.pem}", "{}"]


# Of rule files; "%" is the place of a rule.
RULES = ["groups: [{name: g, rules: [{%}]}]\n".replace("%", rule) for rule in ["alert: A, expr: up == 0", "alert: A", "expr: up", "alert: A, record: b, expr: up", "record: a:b, expr: up",
         "record: a, expr: up, for: 5m", "record: a, expr: up, annotations: {x: y}", "record: a, expr: up, labels: {x: y}", "alert: A, expr: up, for: 5", "alert: A, expr: up, for: 0",
         "alert: A, expr: up, keep_firing_for: 5m", "alert: A, expr: up, labels: {__name__: c}", "alert: A, expr: up, labels: {a: [c]}", "alert: A, expr: up, annotations: [a]", "alert: A, expr: 'up =='",
         "alert: A, expr: 'sum(up'", "alert: A, expr: 'up)'", "alert: A, expr: 'up{a=\"b}'", "alert: A, expr: 'up{a=\"(b\", c!~\"d[)]\"}'", "alert: A, expr: \"up{a='\\\"'}\"",
         "alert: A, expr: 'rate(up[5m]) > 1 # (often'", "alert: A, expr: 'up == 0 and'", "alert: A, expr: 'sum by (job (up)'", "alert: A, expr: 'sum by (job) (up)'", "alert: A, expr: 5", "alert: A, expr: ''",
         "alert: A, expr: [up]", "alert: '', expr: up", "alert: A, expr: 'standby'", "alert: A, expr: up, severity: x", "alert: A, expr: 'up offset'", "alert: A, expr: '-up'"]] + [
         "groups: [{name: g}, {name: g}]\n", "groups: [{rules: []}]\n", "groups: [{name: ''}]\n", "groups: [{name: g, interval: x}]\n", "groups: [{name: g, limit: x}]\n", "groups: [{name: g, limit: 5}]\n",
         "groups: [{name: g, rules: [null]}]\n", "groups: [{name: g, rules: {alert: A}}]\n", "groups: {name: g}\n", "groups:\n", "{}\n", "group: []\n"]


class Refusals(unittest.TestCase):
    def verdicts(self, kind, files):
        """What config.startable finds, by file."""
        lint = subprocess.run([COMMAND, "lint", "--as", kind, "--only", "config.startable", "--format", "json", *files], capture_output=True, text=True, timeout=120)
        findings = {}
        for finding in json.loads(lint.stdout)["controls"][0]["findings"]:
            findings.setdefault(finding["location"]["file"], finding["observed"])
        return findings

    def compare(self, files, refused, findings):
        wrong = [f"promtool {'refuses' if file in refused else 'takes'} {text!r}, promwarden finds {findings.get(file, 'nothing')}" for file, text in files.items() if (file in refused) != (file in findings)]
        self.assertEqual(wrong, [])

    def test_rule_files(self):
        with tempfile.TemporaryDirectory(prefix="promwarden-test-") as name:
            files = {}
            for text in RULES:
                file = Path(name) / f"{len(files)}.yml"
                file.write_text(text)
                files[str(file)] = text
            refused = {file for file in files if subprocess.run(["promtool", "check", "rules", "--lint=none", file], capture_output=True, timeout=60).returncode}
            self.compare(files, refused, self.verdicts("rules", files))
        self.assertGreater(len(refused), 20)

    def test_web_yml(self):
        with tempfile.TemporaryDirectory(prefix="promwarden-test-") as name:
            pair = [Path(name) / end for end in ("c.pem", "k.pem")]
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-keyout", pair[1], "-out", pair[0]], check=True, capture_output=True)
            files = {}
            for text in WEB:
                file = Path(name) / f"{len(files)}.yml"
                file.write_text(text.replace("%s", "cert_file: c.pem, key_file: k.pem") + "\n")
                files[str(file)] = file.read_text()
            refused = {file for file in files if subprocess.run(["promtool", "check", "web-config", file], capture_output=True, timeout=60).returncode}
            self.compare(files, refused, self.verdicts("web", files))
        self.assertGreater(len(refused), 8)

    def test_prometheus_yml(self):
        with tempfile.TemporaryDirectory(prefix="promwarden-test-") as name:
            files = {}
            for place, settings in SETTINGS.items():
                for setting in settings:
                    file = Path(name) / f"{len(files)}.yml"
                    file.write_text(place.replace("%", setting, 1))
                    files[str(file)] = file.read_text()
            said = subprocess.run(["promtool", "check", "config", "--syntax-only", *files], capture_output=True, text=True, timeout=120)
            findings = self.verdicts("prometheus", files)
        checks = re.split(r"Checking (\S+)\n", said.stdout + said.stderr)
        self.assertEqual(checks[1::2], list(files), "promtool read every file")
        # Its verdicts go to standard output, its reasons to standard error: both name the file where they can.
        refused = {file for file, verdict in zip(checks[1::2], checks[2::2]) if "SUCCESS" not in verdict}
        self.compare(files, refused, findings)
        self.assertGreater(len(refused), 150)
        self.assertGreater(len(files) - len(refused), 100)


if __name__ == "__main__":
    unittest.main()
