"""Hosts that lack something: the package installs, boots, and does what can be done there, or says that it cannot."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402


def setUpModule():
    if not machine.ALL:
        return
    global BASE, DEB
    DEB = machine.package()
    BASE = machine.tree("bookworm", machine.needs(DEB))


@unittest.skipUnless(machine.ALL, "takes a minute: PROMWARDEN_ALL")
class Hosts(unittest.TestCase):
    def machine(self, **options):
        made = Machine(BASE, DEB, **options)
        self.addCleanup(made.close)
        return made

    def guarded(self, made):
        self.assertEqual(made.answers("untrusted"), 0)
        wait_until(lambda: made.answers("trusted") == 200, "Prometheus answers whom the policy trusts", 60)

    def test_without_prometheus_and_nginx(self):
        made = self.machine()
        made.offline("sh", "-c", "dpkg --purge --force-depends prometheus nginx-light nginx nginx-common >/dev/null; rm -rf /etc/prometheus")
        made.boot()
        done = made.apply()
        self.assertEqual(made.table().returncode, 0, done.stderr)
        # It comes later: what listens on the port is guarded from its first moment on.
        hammer = made.hammer()
        listener = made.do("systemd-run", "--unit=late", "python3", "-m", "http.server", "9090")
        wait_until(lambda: made.answers("trusted") in (200, 404), f"the late server answers {listener.stderr}", 20)
        self.assertEqual([one for one in hammer.stop() if one[2] in ("answered", "connected")], [])

    def test_without_ipv6(self):
        made = self.machine()
        for where in ("all", "default"):
            made.net("machine", "sysctl", "-qw", f"net.ipv6.conf.{where}.disable_ipv6=1")
        made.boot()
        made.apply()
        self.guarded(made)

    def test_without_dbus(self):
        made = self.machine()
        for unit in ("dbus.service", "dbus.socket"):
            made.mask(unit)
        made.boot()
        self.assertNotEqual(made.do("test", "-S", "/run/dbus/system_bus_socket", check=False).returncode, 0)
        made.apply()
        self.guarded(made)
        self.assertIn("promwarden-guard.conf", made.show("prometheus", "DropInPaths")["DropInPaths"])
        self.assertEqual(made.show("prometheus", "NeedDaemonReload")["NeedDaemonReload"], "no")

    def test_where_rules_are_forbidden_it_says_so(self):
        made = self.machine()
        made.boot(capability=None, expect=None)
        agent = made.show("promwardend", "ActiveState", "ExecMainStatus", "NRestarts")
        self.assertEqual((agent["ActiveState"], agent["ExecMainStatus"], agent["NRestarts"]), ("failed", "6", "0"))
        self.assertEqual(made.show("promwarden-early", "ActiveState")["ActiveState"], "active")  # nothing to do, nothing to fail at
        done = made.do("systemd-run", "--quiet", "--pipe", "--wait", "promwarden", "apply", check=False)  # not with this test's capabilities
        self.assertEqual(done.returncode, 6, done.stdout + done.stderr)
        self.assertIn("Operation not permitted", done.stderr)
        self.assertNotEqual(made.do("test", "-e", "/etc/systemd/system/prometheus.service.d", check=False).returncode, 0)
        wait_until(lambda: made.answers("trusted") == 200, "Prometheus runs as before")
        print("\nunprivileged: " + (done.stderr.strip().splitlines() or [""])[-1], file=sys.stderr)

    def test_with_a_read_only_root(self):
        made = self.machine()
        (made.root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
        state = made.directory / "state"
        state.mkdir(mode=0o750)
        options = ["--read-only", f"--bind={state}:/var/lib/promwarden", "--tmpfs=/var/lib/prometheus:mode=1777"]
        made.boot(*options, expect=None)
        self.assertNotEqual(made.do("touch", "/etc/x", check=False).returncode, 0)
        made.apply()
        self.guarded(made)
        self.assertIn("/run/systemd/system/prometheus.service.d/promwarden-guard.conf", made.show("prometheus", "DropInPaths")["DropInPaths"])
        made.do("systemctl", "restart", "prometheus")
        self.guarded(made)
        made.power_off()
        made.net("machine", "nft", "flush", "ruleset")
        hammer = made.hammer()
        made.boot(*options, expect=None)
        self.guarded(made)
        self.assertEqual([one for one in hammer.stop() if one[2] in ("answered", "connected")], [])
        wait_until(lambda: "promwarden-guard.conf" in made.show("prometheus", "DropInPaths")["DropInPaths"], "the drop-in is there again", 10)

    def test_with_the_tables_of_a_container_engine(self):
        made = self.machine()
        made.boot()
        made.do("sh", "-c", "iptables -t nat -N DOCKER && iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER && "
                "iptables -t nat -A DOCKER -p tcp --dport 8080 -j REDIRECT --to-ports 9090 && iptables -A FORWARD -j ACCEPT && iptables -I INPUT -j ACCEPT")
        wait_until(lambda: made.answers("untrusted", 8080) == 200, "the published port answers a stranger")
        made.apply()
        self.guarded(made)
        self.assertEqual(made.answers("untrusted", 8080), 0)
        self.assertEqual(made.do("iptables", "-t", "nat", "-S", "DOCKER").stdout.count("REDIRECT"), 1)  # theirs stays theirs

    def test_firewalld_comes_goes_and_reloads_without_touching_the_guard(self):
        made = self.machine()
        (made.root / "etc/promwarden/policy.d/plain.toml").write_text('[firewall]\nownership = "off"\n', encoding="ascii")
        made.boot()
        made.apply()
        handle = made.do("nft", "-a", "list", "table", "inet", "promwarden").stdout.splitlines()[0]
        hammer = made.hammer()
        for command in (("systemctl", "start", "firewalld"), ("firewall-cmd", "--reload"), ("firewall-cmd", "--complete-reload"), ("systemctl", "stop", "firewalld")):
            made.do(*command)
            self.assertEqual(made.do("nft", "-a", "list", "table", "inet", "promwarden").stdout.splitlines()[0], handle, command)  # the very same table
        self.assertEqual({one[2] for one in hammer.stop()}, {"nothing"})
        made.do("systemctl", "enable", "firewalld")
        made.power_off()
        made.net("machine", "nft", "flush", "ruleset")
        made.boot()
        self.assertNotIn("ordering cycle", made.do("journalctl", "-b", "--no-pager").stdout)
        self.assertEqual(made.show("firewalld", "ActiveState")["ActiveState"], "active")
        self.assertEqual(made.answers("untrusted"), 0)
        self.assertEqual(made.table().returncode, 0)

    def test_a_second_instance_leaves_the_units_alone(self):
        made = self.machine()
        made.boot()
        done = made.do("promwarden", "apply", "--state", "/run/second", "--socket", "/run/second.socket", "--force", "--format", "json", check=False)
        self.assertIn(done.returncode, (0, 1, 3), done.stderr)
        self.assertEqual(json.loads(done.stdout)["schema"], "promwarden.report/1")
        self.assertEqual(made.table().returncode, 0)
        self.assertNotEqual(made.do("test", "-e", "/etc/systemd/system/prometheus.service.d", check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
