"""prometheus.yml edited on a machine as it is installed: the agent in its sandbox, which gives no groups, and Prometheus reloaded through its unit."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

POLICY = """schema = 1
[prometheus]
listen = ["127.0.0.1:9090"]
[firewall.sources]
trusted = ["10.0.0.0/8"]
[[firewall.service]]
name = "prometheus"
ports = [9090]
allow = ["trusted"]
[controls]
"config.service-sandbox" = "off"
"network.listen-address" = "off"
"""
SECRET = "hunter2-of-node"
CONFIG = f"""# Ours. Ask before you touch it.
scrape_configs:
-   job_name: node   # the rack by the door
    scheme: https
    basic_auth:
        username: scraper
        password: {SECRET}
    static_configs: [{{targets: ['node.example.org:9100']}}]
"""


def setUpModule():
    global DEB
    DEB = machine.package()


class Edits(unittest.TestCase):
    def setUp(self):
        self.host = Machine(machine.tree("bookworm", machine.needs(DEB)), DEB)
        self.addCleanup(self.host.close)
        (self.host.root / "etc/promwarden/policy.toml").write_text(POLICY, encoding="utf-8")
        self.config = self.host.root / "etc/prometheus/prometheus.yml"
        self.config.write_text(CONFIG, encoding="utf-8")
        self.host.offline("chown", "root:prometheus", "/etc/prometheus/prometheus.yml")
        self.config.chmod(0o640)
        self.host.offline("systemctl", "enable", "prometheus")
        self.host.boot()
        wait_until(lambda: self.host.do("systemctl", "is-active", "promwardend", check=False).returncode == 0, "the agent runs")
        wait_until(lambda: "Server is Ready" in self.ask("/-/ready"), "Prometheus answers")

    def ask(self, path):
        return self.host.do("curl", "-s", f"http://127.0.0.1:9090{path}", check=False).stdout

    def access(self, path="/etc/prometheus/prometheus.yml"):
        return self.host.do("stat", "-c", "%U:%G %a", path).stdout.strip()

    def test_a_secret_moves_into_a_file_and_back(self):
        self.host.apply()
        planned = self.host.do("promwarden", "plan", "--edit-config", check=False).stdout
        self.assertIn("prometheus.yml", planned)
        self.assertNotIn(SECRET, planned)
        pid = self.host.do("systemctl", "show", "prometheus", "-p", "MainPID").stdout
        done = self.host.do("promwarden", "apply", "--edit-config", check=False)
        self.assertIn("Changed /etc/prometheus/prometheus.yml", done.stdout, done.stdout + done.stderr)
        text = self.config.read_text(encoding="utf-8")
        self.assertNotIn(SECRET, text)
        self.assertIn("# the rack by the door", text)
        self.assertEqual(self.access(), "root:prometheus 640", "as before, though the agent gives no groups")
        holder = self.host.do("grep", "-rlF", SECRET, "/etc", "/var/lib/promwarden", "/run/promwarden", check=False).stdout.split()
        self.assertEqual(len(holder), 1, holder)
        self.assertEqual(self.access(holder[0]), "root:prometheus 640")
        self.assertIn("password_file", self.ask("/api/v1/status/config"), "the running server has it")
        self.assertEqual(self.host.do("systemctl", "show", "prometheus", "-p", "MainPID").stdout, pid, "by a reload")
        self.host.do("promwarden", "undo")
        self.assertEqual((self.config.read_text(encoding="utf-8"), self.access()), (CONFIG, "root:prometheus 640"))
        self.assertNotIn("password_file", self.ask("/api/v1/status/config"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
