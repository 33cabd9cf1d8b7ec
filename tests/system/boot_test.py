"""The installed package on a booted Debian 12 (trixie_test.py: 13): what is enforced when, from before the first packet on, and whoever interferes."""

import json
import re
import subprocess
import sys
import time
import unittest
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

DROP_IN = "/etc/systemd/system/prometheus.service.d/promwarden-guard.conf"


def call(made, method, user=None):
    """One Varlink call from inside the machine; the name of the error, or None."""
    program = ("import json, socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect('/run/promwarden/io.promwarden');"
               "s.sendall(json.dumps({'method': 'io.promwarden.' + sys.argv[1], 'parameters': {}}).encode() + b'\\0'); data = b''\n"
               "while not data.endswith(b'\\0'):\n    data += s.recv(1 << 20)\n"
               "print(json.loads(data[:-1]).get('error', ''))")
    done = made.do("python3", "-c", program, method, user=user, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


class Boot(unittest.TestCase):
    """Steps of one machine's life, in the order of their names."""

    @classmethod
    def package(cls):
        return "bookworm", machine.package()

    @classmethod
    def setUpClass(cls):
        release, deb = cls.package()
        cls.machine = Machine(machine.tree(release, machine.needs(deb)), deb)
        cls.addClassCleanup(cls.machine.close)
        cls.machine.offline("sh", "-c", "useradd -M member && useradd -M stranger && usermod -aG promwarden member")
        cls.machine.boot()

    def test_1_an_installed_package_enforces_nothing(self):
        wait_until(lambda: self.machine.answers("untrusted") == 200, "Prometheus answers everybody before the first apply")
        self.assertNotEqual(self.machine.table().returncode, 0)
        self.assertEqual(self.machine.show("promwardend", "ActiveState")["ActiveState"], "active")
        early = self.machine.show("promwarden-early", "ActiveState", "Result", "ExecMainStatus")
        self.assertEqual((early["ActiveState"], early["ExecMainStatus"]), ("active", "0"))  # it ran, and did nothing
        self.assertFalse((self.machine.root / DROP_IN[1:]).exists())

    def test_2_the_first_apply_closes_the_port_and_installs_the_drop_in(self):
        planned = self.machine.do("promwarden", "plan", check=False)
        self.assertIn(DROP_IN, planned.stdout)
        done = self.machine.apply()
        self.assertIn(DROP_IN, done.stdout)
        self.assertEqual(self.machine.answers("untrusted"), 0)
        self.assertEqual(self.machine.answers("trusted"), 200)
        self.assertIn("ExecStartPre=+/usr/libexec/promwarden/promwarden-early --check", self.machine.do("cat", DROP_IN).stdout)
        self.assertEqual(self.machine.do("stat", "-c", "%U %a", DROP_IN, DROP_IN.rpartition("/")[0]).stdout.split(), ["root", "644", "root", "755"])
        shown = self.machine.show("prometheus", "DropInPaths", "NeedDaemonReload")
        self.assertIn(DROP_IN, shown["DropInPaths"])
        self.assertEqual(shown["NeedDaemonReload"], "no")
        self.machine.do("systemctl", "restart", "prometheus")
        wait_until(lambda: self.machine.answers("trusted") == 200, "Prometheus answers again")
        self.assertEqual(self.machine.do("promwarden", "plan", check=False).returncode, 0)

    def test_3_after_a_reboot_no_stranger_is_answered_once(self):
        # A trial that admits everybody is over with the boot: what was accepted before it is what the early unit loads.
        policy = self.machine.root / "etc/promwarden/policy.toml"
        accepted = policy.read_text(encoding="utf-8")
        policy.write_text(accepted.replace("10.0.0.0/8", "0.0.0.0/0"), encoding="utf-8")
        self.machine.apply("--confirm-within", "1h")
        self.assertEqual(self.machine.answers("untrusted"), 200)
        self.machine.kill()
        policy.write_text(accepted, encoding="utf-8")
        self.machine.net("machine", "nft", "flush", "ruleset")  # the namespace outlives the machine; a real one would have lost its rules
        hammers = {(role, version): self.machine.hammer(role, version=version) for role in ("untrusted", "trusted") for version in (4, 6)}
        time.sleep(0.5)
        self.machine.boot()
        wait_until(lambda: self.machine.answers("trusted") == 200, "Prometheus answers whom the policy trusts", 60)
        time.sleep(2.5)  # a client that nobody answers waits almost a second
        early = self.machine.show("promwarden-early", "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic", "ExecMainStatus", "ActiveState")
        pre = self.machine.show("network-pre.target", "ActiveEnterTimestampMonotonic")
        attempts = {key: hammer.stop() for key, hammer in hammers.items()}
        self.assertEqual((early["ActiveState"], early["ExecMainStatus"]), ("active", "0"))
        loaded = int(early["ExecMainExitTimestampMonotonic"])
        self.assertLessEqual(loaded, int(pre["ActiveEnterTimestampMonotonic"]))
        print(f"\nearly unit: {(loaded - int(early['ExecMainStartTimestampMonotonic'])) / 1000:.1f} ms from exec to exit, "
              f"{(int(pre['ActiveEnterTimestampMonotonic']) - loaded) / 1000:.1f} ms before network-pre.target", file=sys.stderr)
        for key in (("untrusted", 4), ("untrusted", 6), ("trusted", 6)):  # the default policy names no IPv6 source
            answers = [one for one in attempts[key] if one[2] in ("answered", "connected")]
            self.assertEqual(answers, [], key)
            before = [one for one in attempts[key] if one[1] * 1e6 < loaded]
            after = {one[2] for one in attempts[key] if one[0] * 1e6 > loaded}
            self.assertGreater(len(before), 50, key)
            self.assertEqual(after, {"nothing"}, key)  # not even a reset from the first moment on
        self.assertIn("answered", {one[2] for one in attempts[("trusted", 4)]})
        self.assertEqual(self.machine.do("promwarden", "confirm", check=False).returncode, 2)  # no trial is waiting
        self.assertIn("the trial was not confirmed", self.machine.do("promwarden", "history").stdout)

    def test_4_the_agent_runs_in_its_sandbox(self):
        shown = self.machine.show("promwardend", "ActiveState", "MainPID", "StatusText", "FileDescriptorStoreMax")
        self.assertEqual(shown["ActiveState"], "active")
        status = self.machine.do("cat", f"/proc/{shown['MainPID']}/status").stdout
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.assertEqual((fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"))
        self.assertEqual(int(fields["CapEff"], 16), 1 << 12 | 1 << 2 | 1 << 3 | 1 << 19)  # NET_ADMIN, DAC_READ_SEARCH, FOWNER, SYS_PTRACE
        for unit, most in {"promwardend.service": 2.1, "promwarden-early.service": 2.1, "promwarden-probe@.service": 1.0, "promwarden-probe.service": 1.0,
                           "promwarden-metrics.service": 1.0, "promwarden-metrics@.service": 1.0}.items():
            if not any((self.machine.root / directory / unit).exists() for directory in ("lib/systemd/system", "usr/lib/systemd/system")):
                self.assertNotIn(unit, ("promwardend.service", "promwarden-early.service"))
                continue
            with self.subTest(unit):
                done = self.machine.do("systemd-analyze", "security", "--no-pager", unit.replace("@.", "@x."))
                score = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1])
                print(f"\n{unit}: exposure {score}", file=sys.stderr)
                self.assertLessEqual(score, most)

    def test_5_members_may_look_and_strangers_may_not(self):
        self.assertEqual(call(self.machine, "Status", user="member"), "")
        self.assertIn("PermissionError", call(self.machine, "Status", user="stranger"))
        for method in ("Apply", "Confirm", "Undo", "Reload"):
            self.assertEqual(call(self.machine, method, user="member"), "org.varlink.service.PermissionDenied", method)
        looked = self.machine.do("promwarden", "status", "--format", "json", user="member", check=False)
        self.assertEqual(json.loads(looked.stdout)["firewall"]["state"], "owned" if owned(self.machine) else "plain", looked.stderr)

    def test_6_a_flushed_ruleset_is_never_an_open_port(self):
        hammer = self.machine.hammer()
        events = len(self.history())
        try:
            for command in (("nft", "flush", "ruleset"), ("systemctl", "restart", "nftables"), ("systemctl", "stop", "nftables"), ("ufw", "allow", "9090/tcp"),
                            ("ufw", "--force", "enable"), ("ufw", "reload"), ("ufw", "disable"), ("nft", "delete", "table", "inet", "promwarden")):
                self.machine.do(*command, check=command[-1] != "promwarden")  # an owned table cannot be deleted
                time.sleep(0.3)
                self.assertEqual(self.machine.table().returncode, 0, command)
                self.assertEqual(self.machine.answers("trusted"), 200, command)
        finally:
            attempts = hammer.stop()
        self.assertEqual([one for one in attempts if one[2] in ("answered", "connected")], [])
        gaps = [event["gap_us"] for event in self.history()[events:] if event["kind"] == "heal" and "gap_us" in event]
        print(f"\nowned: {owned(self.machine)}; gaps: {gaps} us", file=sys.stderr)

    def test_7_with_a_plain_table_the_agent_puts_it_back(self):
        self.machine.do("sh", "-c", "printf '[firewall]\\nownership = \"off\"\\n' >/etc/promwarden/policy.d/plain.toml")
        self.machine.apply()
        self.assertFalse(owned(self.machine))
        hammer = self.machine.hammer()
        events = len(self.history())
        try:
            for command in (("nft", "flush", "ruleset"), ("systemctl", "restart", "nftables"), ("ufw", "--force", "enable"), ("ufw", "disable"),
                            ("nft", "delete", "table", "inet", "promwarden")):
                self.machine.do(*command)
                wait_until(lambda: self.machine.table().returncode == 0, "the table is back", 5)
                time.sleep(0.2)
        finally:
            attempts = hammer.stop()
        heals = [event for event in self.history()[events:] if event["kind"] == "heal"]
        self.assertGreaterEqual(len(heals), 3)  # ufw's rules are in tables of their own
        print(f"\nplain: gaps {[event['gap_us'] for event in heals]} us", file=sys.stderr)
        # Between a flush and its repair the port is open, and the record says so: whoever got an answer got it within a gap that is in the history.
        ahead = time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)
        gaps = [(end - event["gap_us"] / 1e6 - 0.005, end + 0.005) for event in heals for end in [parse_time(event["time"]) - ahead]]
        for started, ended, what in attempts:
            if what in ("answered", "connected"):
                self.assertTrue(any(first < ended and started < last for first, last in gaps), (started, ended, gaps))
        self.assertLess(sum(event["gap_us"] for event in heals) / len(heals), 100_000)

    def test_8_without_the_guard_the_server_does_not_start(self):
        self.machine.do("systemctl", "stop", "promwardend", "prometheus")
        self.machine.do("nft", "delete", "table", "inet", "promwarden")
        started = self.machine.do("systemctl", "start", "prometheus", check=False)
        self.assertNotEqual(started.returncode, 0)
        wait_until(lambda: "there is no table inet promwarden" in self.machine.do("systemctl", "status", "prometheus", "--no-pager", "--full", check=False).stdout,
                   "systemctl status prometheus says why", 5)
        self.assertEqual(self.machine.answers("trusted"), 0)
        # The early unit is enough: it needs no agent.
        self.machine.do("systemctl", "restart", "promwarden-early")
        self.machine.do("systemctl", "reset-failed", "prometheus")
        self.machine.do("systemctl", "start", "prometheus")
        wait_until(lambda: self.machine.answers("trusted") == 200, "Prometheus runs behind the guard")
        self.assertEqual(self.machine.answers("untrusted"), 0)
        self.machine.do("systemctl", "start", "promwardend")

    def test_9_a_lost_policy_leaves_its_ports_closed(self):
        self.machine.do("systemctl", "enable", "nftables", "ufw")  # their start flushes, so the early unit waits for it
        self.machine.do("ufw", "--force", "enable")
        self.machine.power_off()
        self.machine.net("machine", "nft", "flush", "ruleset")
        state = self.machine.root / "var/lib/promwarden"
        (state / "accepted").write_bytes((state / "accepted").read_bytes()[:200])
        self.machine.boot(expect="degraded")  # it says so
        early = int(self.machine.show("promwarden-early", "ExecMainStartTimestampMonotonic")["ExecMainStartTimestampMonotonic"])
        for unit in ("nftables", "ufw"):
            before = self.machine.show(unit, "ActiveState", "ExecMainExitTimestampMonotonic")
            self.assertEqual(before["ActiveState"], "active")
            self.assertLessEqual(int(before["ExecMainExitTimestampMonotonic"]), early, unit)
        self.assertNotIn("ordering cycle", self.machine.do("journalctl", "-b", "--no-pager").stdout)
        self.assertEqual(self.machine.answers("untrusted"), 0)
        self.assertEqual(self.machine.answers("trusted"), 0)
        self.assertIn("chain guard_pre", self.machine.table().stdout)
        wait_until(lambda: "200" in self.machine.do("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9090/-/ready", check=False).stdout,
                   "loopback stays open", 60)
        self.assertIn("is lost", self.machine.do("journalctl", "-b", "-u", "promwarden-early", "--no-pager").stdout)
        self.machine.apply()
        wait_until(lambda: self.machine.answers("trusted") == 200, "the next apply opens it for whom the policy trusts")

    def history(self):
        done = self.machine.do("promwarden", "history", "--format", "json", check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]


def parse_time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def owned(made):
    return made.status()["firewall"]["state"] == "owned"


if __name__ == "__main__":
    unittest.main()
