"""Certificates on a machine as it is installed: the agent in its sandbox, programs in units of their own, Prometheus under its own user."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

POLICY = """schema = 1
[prometheus]
web_config = "/etc/prometheus/web.yml"
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
[[tls.certificate]]
name = "other"
names = ["other.example.org"]
issuer = "command"
[[tls.issuer]]
name = "command"
command = ["/usr/local/bin/issuer"]
"""
ISSUER = """#!/bin/sh
{ id -u; pwd; grep CapEff /proc/self/status; touch /etc/trace 2>&1; cat | head -c 35; } >&2
exit 3
"""


def setUpModule():
    global DEB
    DEB = machine.package()


class Certificates(unittest.TestCase):
    def test_issue_rotate_and_an_issuer(self):
        host = Machine(machine.tree("bookworm", machine.needs(DEB)), DEB)
        self.addCleanup(host.close)
        root = host.root
        (root / "etc/prometheus/web.yml").write_text("# theirs\n", encoding="utf-8")
        (root / "etc/default/prometheus").write_text('ARGS="--web.config.file=/etc/prometheus/web.yml"\n', encoding="utf-8")
        (root / "etc/promwarden/policy.toml").write_text(POLICY, encoding="utf-8")
        issuer = root / "usr/local/bin/issuer"
        issuer.write_text(ISSUER, encoding="utf-8")
        issuer.chmod(0o755)
        host.boot()
        wait_until(lambda: host.do("systemctl", "is-active", "promwardend", check=False).returncode == 0, "the agent runs")
        host.do("promwarden", "apply", check=False)
        web = root / "etc/prometheus/web.yml"
        wait_until(lambda: "cert_file" in web.read_text(encoding="utf-8"), "the agent issues what is missing")
        self.assertTrue(web.read_text(encoding="utf-8").startswith("# theirs\n"))
        key = "/etc/prometheus/promwarden/tls/prometheus/1/key.pem"
        self.assertEqual(host.do("stat", "-c", "%U:%G %a", key).stdout.strip(), "root:prometheus 640")
        wait_until(lambda: (root / "etc/promwarden/probe/client.pem").exists(), "the probe has a certificate of its own")
        host.do("systemctl", "restart", "prometheus")
        wait_until(lambda: host.do("curl", "-sf", "--cacert", "/etc/prometheus/promwarden/tls/authorities.pem", "https://localhost:9090/-/ready", check=False).returncode == 0, "Prometheus serves it")
        for words in ((), ("--rekey",)):
            self.assertRegex(host.do("promwarden", "cert", "rotate", "prometheus", *words).stdout, r", seen served\n")
        self.assertIn("/2/cert.pem", web.read_text(encoding="utf-8"))

        failed = host.do("promwarden", "cert", "issue", "other", check=False)
        self.assertEqual(failed.returncode, 4, failed.stderr)
        self.assertIn("/var/lib/private/promwarden-issuer/command", failed.stderr)
        self.assertIn("CapEff: 0000000000000000", failed.stderr)
        self.assertIn("Read-only file system", failed.stderr)
        self.assertIn("-----BEGIN CERTIFICATE REQUEST-----", failed.stderr)
        self.assertNotRegex(failed.stderr, r"status 1: 0 ")
        self.assertEqual(host.do("systemctl", "--failed", "--no-legend").stdout.strip(), "")

    def test_clients_of_an_authority_that_was_removed(self):
        """Debian's Prometheus asks again who resumes a session. One that says that a later Go built it may not, and has to be restarted: by us only where we may."""
        host = Machine(machine.tree("bookworm", machine.needs(DEB)), DEB)
        self.addCleanup(host.close)
        root = host.root
        (root / "etc/default/prometheus").write_text('ARGS="--web.config.file=/etc/prometheus/web.yml"\n', encoding="utf-8")
        (root / "etc/prometheus/web.yml").write_text("# theirs\n", encoding="utf-8")
        program = root / "usr/bin/prometheus"
        program.write_bytes(program.read_bytes().replace(b"go1.19.8", b"go1.23.8"))
        policy = POLICY.partition('[[tls.certificate]]\nname = "other"')[0].replace("[[tls.certificate]]", '[tls]\nclient_auth = "require"\n[[tls.certificate]]', 1)
        write = lambda restart: (root / "etc/promwarden/policy.toml").write_text(policy.replace("[prometheus]", f'[prometheus]\nrestart = "{restart}"'), encoding="utf-8")
        write("when-needed")
        host.boot()
        wait_until(lambda: host.do("systemctl", "is-active", "promwardend", check=False).returncode == 0, "the agent runs")
        host.do("promwarden", "apply", check=False)
        host.do("systemctl", "restart", "prometheus")
        ready = ("curl", "-sf", "--cacert", "/etc/prometheus/promwarden/tls/authorities.pem", "--cert", "/etc/promwarden/probe/client.pem", "https://localhost:9090/-/ready")
        pid = lambda: host.do("systemctl", "show", "-p", "MainPID", "--value", "prometheus").stdout.strip()
        stale = lambda: "clients that are believed no more" in host.do("promwarden", "check", "--only", "tls.client-auth", check=False).stdout
        wait_until(lambda: host.do(*ready, check=False).returncode == 0, "Prometheus serves whom it should")
        before = pid()
        self.assertIn("Prometheus was restarted", host.do("promwarden", "cert", "rotate-ca").stdout)
        self.assertNotEqual(pid(), before)
        self.assertEqual(host.do(*ready, check=False).returncode, 0, "it serves again when that is said")
        self.assertFalse(stale())
        write("never")
        host.do("promwarden", "apply", check=False)
        before = pid()
        self.assertIn("until it is restarted", host.do("promwarden", "cert", "rotate-ca").stdout)
        self.assertEqual(pid(), before)
        self.assertTrue(stale())
        host.do("systemctl", "restart", "prometheus")
        self.assertFalse(stale())


if __name__ == "__main__":
    unittest.main(verbosity=2)
