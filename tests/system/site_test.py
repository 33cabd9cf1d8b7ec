"""The site of [access] on a machine as it is installed: the agent in its sandbox, nginx as Debian's unit starts it, its configuration tried in a unit of its own."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

SITE, LINK, AUDIT = "etc/nginx/sites-available/promwarden", "etc/nginx/sites-enabled/promwarden", "var/log/nginx/promwarden_access.log"
POLICY = """schema = 1
[prometheus]
listen = ["127.0.0.1:9090"]
[firewall.sources]
trusted = ["10.0.0.0/8"]
[[firewall.service]]
name = "prometheus"
ports = [9090]
allow = ["trusted"]
[[tls.certificate]]
name = "proxy"
names = ["localhost"]
install = "nginx"
[access]
server_name = "localhost"
certificate = "proxy"
[access.roles]
admin = ["user:alice"]
viewer = ["user:bob"]
"""


def setUpModule():
    global DEB
    DEB = machine.package()


class Site(unittest.TestCase):
    def setUp(self):
        self.host = Machine(machine.tree("bookworm", [*machine.needs(DEB), "logrotate"]), DEB)
        self.addCleanup(self.host.close)
        (self.host.root / "etc/promwarden/policy.toml").write_text(POLICY, encoding="utf-8")
        self.host.offline("systemctl", "enable", "nginx")
        self.host.boot()
        wait_until(lambda: self.host.do("systemctl", "is-active", "promwardend", check=False).returncode == 0, "the agent runs")

    def files(self):
        """What is there for nginx; what it logs grows by itself."""
        return self.host.do("find", "/etc/nginx", "/run/nginx.pid", "/var/log/nginx", "/var/lib/nginx", "-not", "-path", "*/promwarden/*", "-not", "-name", "*.log", "-printf", "%p %M %u %g %l %s\n").stdout

    def status(self, user=None):
        credentials = ("-u", f"{user}:of {user}") if user else ()
        return self.host.do("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *credentials, "https://localhost/api/v1/query?query=1", check=False).stdout

    def test_installed_refused_and_taken_away(self):
        host, root = self.host, self.host.root
        for user, role in (("alice", "admin"), ("bob", "viewer")):
            host.do("sh", "-c", f"echo 'of {user}' | promwarden access user add {user} --role {role}")
        before = self.files()
        said = host.apply().stdout
        self.assertIn(f"Changed /{SITE}", said, "it waited for its certificate only until that was issued")
        self.assertEqual((self.status(), self.status("alice"), self.status("bob")), ("401", "200", "200"))
        self.assertEqual(host.do("stat", "-c", "%U:%G %a", f"/{AUDIT}").stdout.strip(), "www-data:adm 640", "though the agent's sandbox gives no owners")
        self.assertIn("Nothing had to change.", host.apply().stdout)

        installed = self.files()
        (root / "etc/promwarden/policy.toml").write_text(POLICY + '[access.endpoints]\n"/api/v1/series" = "viewer"\n', encoding="utf-8")
        (root / "etc/nginx/conf.d/other.conf").write_text("nonsense;\n", encoding="ascii")
        refused = host.do("promwarden", "apply", check=False)
        self.assertEqual(refused.returncode, 4, refused.stdout + refused.stderr)
        self.assertIn("/etc/nginx/conf.d/other.conf:1", refused.stderr)
        (root / "etc/nginx/conf.d/other.conf").unlink()
        self.assertEqual(self.files(), installed)
        self.assertIn(f"Changed /{SITE}", host.apply().stdout)

        host.do("logrotate", "--force", "/etc/logrotate.d/nginx")
        wait_until(lambda: self.status("bob") == "200" and host.do("stat", "-c", "%U:%G %a %s", f"/{AUDIT}").stdout.startswith("www-data:adm 640 ") and (root / AUDIT).stat().st_size, "its log goes on")

        (root / LINK).unlink()
        wait_until(lambda: (root / LINK).is_symlink() and self.status() == "401", "the agent puts it back")
        host.do("promwarden", "undo", "--all")
        self.assertFalse((root / LINK).is_symlink() or (root / SITE).exists())
        wait_until(lambda: self.status() == "000", "nobody listens any more")
        self.assertEqual([line for line in self.files().splitlines() if "promwarden_access" not in line], before.splitlines())
        self.assertEqual(host.do("systemctl", "--failed", "--no-legend").stdout.strip(), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
