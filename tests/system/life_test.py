"""The package's life on a running machine: installed, upgraded, interrupted, removed, installed again, purged."""

import re
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

DROP_IN = "etc/systemd/system/prometheus.service.d"
REMARK = "# edited by the administrator\n"


def setUpModule():
    global DEB
    DEB = machine.package()


class Life(unittest.TestCase):
    """Steps, in the order of their names."""

    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.work.cleanup)
        cls.machine = Machine(machine.tree("bookworm", machine.needs(DEB)))
        cls.addClassCleanup(cls.machine.close)
        cls.deb = cls.machine.put(DEB)
        cls.version = machine.run("dpkg-deb", "--field", DEB, "Version").stdout.strip()
        cls.newer = [cls.machine.put(machine.newer(DEB, f"{cls.version}+{number}", cls.work.name)) for number in (1, 2)]
        cls.machine.boot()

    def dpkg(self, *words, **options):
        return self.machine.do("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words, **options)

    def installed(self):
        return self.machine.do("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "promwarden", check=False).stdout

    def unit(self, name):
        return self.machine.show(name, "ActiveState", "MainPID", "InvocationID", "ActiveEnterTimestampMonotonic")

    def test_1_an_install_starts_the_agent_and_enforces_nothing(self):
        self.dpkg("-i", self.deb)
        self.assertEqual(self.unit("promwardend")["ActiveState"], "active")
        self.assertEqual(self.unit("promwarden-early")["ActiveState"], "inactive")
        for unit in ("promwardend", "promwarden-early"):
            self.assertEqual(self.machine.do("systemctl", "is-enabled", unit).stdout.strip(), "enabled")
        self.assertEqual(self.machine.answers("untrusted"), 200)
        self.assertNotEqual(self.machine.table().returncode, 0)
        policy = self.machine.root / "etc/promwarden/policy.toml"
        policy.write_text(policy.read_text(encoding="utf-8") + REMARK, encoding="utf-8")
        self.machine.apply()
        self.assertEqual(self.machine.answers("untrusted"), 0)

    def test_2_an_upgrade_leaves_no_gap_and_no_trace_in_the_policy(self):
        self.machine.do("systemctl", "restart", "promwarden-early")
        before = {name: self.unit(name) for name in ("promwardend", "promwarden-early", "prometheus")}
        state = self.machine.status()["firewall"]["state"]
        hammers = {role: self.machine.hammer(role) for role in ("untrusted", "trusted")}
        time.sleep(0.3)
        self.dpkg("-i", self.newer[0])
        time.sleep(0.5)
        attempts = {role: hammer.stop() for role, hammer in hammers.items()}
        self.assertEqual({one[2] for one in attempts["untrusted"]}, {"nothing"})
        self.assertEqual({one[2] for one in attempts["trusted"]}, {"answered"})
        after = {name: self.unit(name) for name in before}
        self.assertNotEqual(after["promwardend"]["MainPID"], before["promwardend"]["MainPID"])
        self.assertEqual(after["promwardend"]["ActiveState"], "active")
        self.assertEqual((after["promwarden-early"], after["prometheus"]), (before["promwarden-early"], before["prometheus"]))
        status = self.machine.status()
        self.assertEqual((status["firewall"]["state"], status["policy"]["on_disk_differs"]), (state, False))  # the socket that owns the table was kept
        self.assertIn(REMARK, (self.machine.root / "etc/promwarden/policy.toml").read_text(encoding="utf-8"))
        self.assertEqual(self.installed(), f"installed {self.version}+1")

    def test_3_an_interrupted_upgrade_recovers(self):
        hammer = self.machine.hammer()
        for number, after in enumerate(("0.05", "0.1", "0.2", "0.3", "0.4", "0.6", "0.8", "1.1")):
            self.dpkg("-i", self.newer[(number + 1) % 2], check=False)  # finishes what the last round left
            self.machine.do("env", "DEBIAN_FRONTEND=noninteractive", "timeout", "--signal=KILL", after, "dpkg", "-i", self.newer[number % 2], check=False)
            self.assertEqual(self.machine.table().returncode, 0, after)
        # Unpacked, not configured, and the machine restarts.
        self.dpkg("--force-downgrade", "--unpack", self.newer[1])
        self.assertIn("unpacked", self.installed())
        attempts = hammer.stop()
        self.assertEqual([one for one in attempts if one[2] in ("answered", "connected")], [])
        self.machine.power_off()
        self.machine.net("machine", "nft", "flush", "ruleset")
        self.machine.boot(expect=None)
        wait_until(lambda: self.machine.answers("trusted") == 200, "Prometheus is back", 60)
        self.assertEqual(self.machine.answers("untrusted"), 0)
        self.dpkg("--configure", "-a")
        self.assertEqual(self.installed(), f"installed {self.version}+2")
        self.assertEqual(self.unit("promwardend")["ActiveState"], "active")
        self.assertIn(self.machine.do("promwarden", "status", check=False).returncode, (0, 1, 3))  # what it says of the host is not the matter here

    def test_4_removal_restores_the_host_and_keeps_the_policy(self):
        self.dpkg("-r", "promwarden")
        self.assertNotEqual(self.machine.table().returncode, 0)
        self.assertFalse((self.machine.root / DROP_IN).exists())
        self.assertEqual(self.machine.answers("untrusted"), 200)
        self.machine.do("systemctl", "restart", "prometheus")
        wait_until(lambda: self.machine.answers("untrusted") == 200, "Prometheus starts without the guard")
        self.assertEqual(self.machine.show("promwardend", "LoadState")["LoadState"], "masked" if self.masked("promwardend") else "not-found")
        self.assertIn(REMARK, (self.machine.root / "etc/promwarden/policy.toml").read_text(encoding="utf-8"))
        self.assertTrue((self.machine.root / "var/lib/promwarden/history").exists())

    def masked(self, unit):  # dpkg keeps removed units from starting, until they are purged
        link = self.machine.root / f"etc/systemd/system/{unit}.service"
        return link.is_symlink() and str(link.readlink()) == "/dev/null"

    def test_5_installed_again_it_waits_for_an_apply(self):
        self.dpkg("-i", self.deb)
        self.assertEqual(self.machine.answers("untrusted"), 200)
        self.assertIn(REMARK, (self.machine.root / "etc/promwarden/policy.toml").read_text(encoding="utf-8"))
        self.machine.apply()
        self.assertEqual(self.machine.answers("untrusted"), 0)
        self.assertTrue((self.machine.root / DROP_IN).exists())

    def test_6_removal_works_when_the_state_is_lost(self):
        self.machine.do("systemctl", "stop", "promwardend")
        self.machine.do("sh", "-c", "rm -rf /var/lib/promwarden/*")
        self.dpkg("-r", "promwarden")
        self.assertFalse((self.machine.root / DROP_IN).exists())
        self.machine.do("systemctl", "restart", "prometheus")
        self.machine.do("sh", "-c", "nft delete table inet promwarden || true")
        self.dpkg("-i", self.deb)
        self.machine.apply()

    def test_7_a_purge_leaves_nothing(self):
        self.dpkg("--purge", "promwarden")
        self.machine.do("sh", "-c", "rm -f /root/promwarden_*")
        left = self.machine.do("find", "/", "-xdev", "-not", "-path", "/proc/*", "-not", "-path", "/sys/*", "-name", "*promwarden*").stdout.split()
        run = self.machine.do("find", "/run", "-name", "*promwarden*", "-not", "-path", "/run/systemd/propagate/*").stdout.split()  # that one is systemd's
        self.assertEqual(left + run, [])
        self.assertEqual(self.machine.answers("untrusted"), 200)
        self.assertNotEqual(self.machine.table().returncode, 0)
        self.assertRegex(self.machine.do("getent", "group", "promwarden").stdout, r"^promwarden:")  # files elsewhere may carry its number


if __name__ == "__main__":
    unittest.main()
