"""The alerting rules of `promwarden render rules`, played by promtool: on a sound server none fires, and each fires for what it is about and for nothing else."""

import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

BUILD = os.environ.get("PROMWARDEN_BUILD")
POLICY = """schema = 1
[[tls.certificate]]
name = "prometheus"
use = "server"
names = ["prometheus.example.org"]
lifetime = "30d"
install = "files"
[access]
proxy = "nginx"
auth = "basic"
server_name = "prometheus.example.org"
listen = ["443"]
certificate = "prometheus"
[access.roles]
admin = ["user:alice"]
[audit]
query_log = "/var/log/prometheus/query.log"
[alerts]
query_rate = 100
auth_failures = 10
"""
HOURS = 2
STEPS = HOURS * 60 + 1  # a sample a minute
AT = 'instance="a"'
QUERIES = f'prometheus_http_requests_total{{{AT},handler="/api/v1/query",code="200"}}'
SCRAPES = f'prometheus_http_requests_total{{{AT},handler="/metrics",code="200"}}'
FAILED = f'promwarden_control_state{{{AT},control="api.admin",severity="critical",verdict="fail",mode="enforce"}}'
AUDITED = f'promwarden_control_state{{{AT},control="api.cors",severity="medium",verdict="fail",mode="audit"}}'
WAIVED = f'promwarden_control_waived{{{AT},control="api.admin"}}'
EXPIRY = f'promwarden_certificate_not_after_seconds{{{AT},name="prometheus"}}'
LOGINS = f'promwarden_proxy_auth_failures_total{{{AT},credentials="given"}}'
SOUND = {
    QUERIES: f"0+60x{STEPS}",  # one a second
    SCRAPES: f"0+60000x{STEPS}",
    f"prometheus_config_last_reload_successful{{{AT}}}": f"1x{STEPS}",
    f"prometheus_config_last_reload_success_timestamp_seconds{{{AT}}}": f"5x{STEPS}",
    f"prometheus_engine_query_log_enabled{{{AT}}}": f"1x{STEPS}",
    f"prometheus_engine_query_log_failures_total{{{AT}}}": f"0x{STEPS}",
    f"promwarden_report_timestamp_seconds{{{AT}}}": f"0+60x{STEPS}",
    FAILED: f"0x{STEPS}",
    AUDITED: f"1x{STEPS}",
    WAIVED: f"0x{STEPS}",
    EXPIRY: f"{HOURS * 3600 + 10 * 86400}x{STEPS}",
    f'promwarden_certificate_problems{{{AT},name="prometheus"}}': f"0x{STEPS}",
    LOGINS: f"0+1x{STEPS}",  # five in five minutes
    f"promwarden_proxy_log_readable{{{AT}}}": f"1x{STEPS}",
}
# What is wrong, and the alerts that it raises.
CASES = [
    ({}, []),
    ({QUERIES: f"0+6060x{STEPS}"}, ["PrometheusQueryRate"]),
    ({LOGINS: f"0+3x{STEPS}"}, ["PrometheusAuthFailures"]),
    ({f"prometheus_config_last_reload_successful{{{AT}}}": f"0x{STEPS}"}, ["PrometheusConfigReloadFailed"]),
    ({f"prometheus_config_last_reload_success_timestamp_seconds{{{AT}}}": f"0+1x{STEPS}"}, ["PrometheusConfigReloaded"]),
    ({f"prometheus_engine_query_log_enabled{{{AT}}}": f"0x{STEPS}"}, ["PrometheusQueryLogSilent"]),
    ({f"prometheus_engine_query_log_failures_total{{{AT}}}": f"0+1x{STEPS}"}, ["PrometheusQueryLogSilent"]),
    ({FAILED: f"1x{STEPS}"}, ["PromwardenDrift"]),
    ({FAILED: f"1x{STEPS}", WAIVED: f"1x{STEPS}"}, []),
    ({f"promwarden_report_timestamp_seconds{{{AT}}}": f"0x{STEPS}"}, ["PromwardenSilent"]),
    ({f"promwarden_report_timestamp_seconds{{{AT}}}": None}, ["PromwardenSilent"]),
    ({EXPIRY: f"{HOURS * 3600 + 4 * 86400}x{STEPS}"}, ["PromwardenCertificateDue"]),
    ({f'promwarden_certificate_problems{{{AT},name="prometheus"}}': f"2x{STEPS}"}, ["PromwardenCertificateWrong"]),
    ({f"promwarden_proxy_log_readable{{{AT}}}": f"0x{STEPS}"}, ["PromwardenAuditLogSilent"]),
]


def promtool(*words):
    return subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


class Rules(unittest.TestCase):
    def setUp(self):
        work = tempfile.TemporaryDirectory()
        self.addCleanup(work.cleanup)
        self.directory = Path(work.name)
        self.directory.chmod(0o755)

    def render(self, policy):
        """The rule file of a policy, and the names of its alerts."""
        place = self.directory / "policy.toml"
        place.write_text(policy, encoding="ascii")
        done = subprocess.run([Path(BUILD, "src/bin/promwarden"), "render", "rules", "--policy", place], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rules = self.directory / "rules.yml"
        rules.write_text(done.stdout, encoding="utf-8")
        checked = promtool("check", "rules", rules)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        return set(re.findall(r"- alert: (\w+)", done.stdout))

    def test_each_alert_fires_for_what_it_is_about(self):
        names = self.render(POLICY)
        self.assertEqual(names, {name for _, raised in CASES for name in raised}, "every alert has a case")
        tests = []
        for number, (wrong, raised) in enumerate(CASES):
            series = {name: values for name, values in {**SOUND, **wrong}.items() if values is not None}
            tests.append({"name": f"case {number}", "interval": "1m", "input_series": [{"series": name, "values": values} for name, values in series.items()],
                          "promql_expr_test": [{"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{HOURS}h",
                                                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(raised)]}]})
        played = self.directory / "tests.yml"
        played.write_text(json.dumps({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
        done = promtool("test", "rules", played)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_policy_without_proxy_and_certificates_asks_for_no_metric_of_theirs(self):
        self.assertEqual(self.render("schema = 1\n"), {"PrometheusQueryRate", "PrometheusConfigReloadFailed", "PrometheusConfigReloaded", "PrometheusQueryLogSilent", "PromwardenDrift", "PromwardenSilent"})


if __name__ == "__main__":
    unittest.main()
