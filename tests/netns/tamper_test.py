"""Somebody else changes the table: noticed, undone, recorded; and a stranger is never answered outside the recorded gap."""

import os
import platform
import signal
import time
import unittest

from watch import Stranger, handle_of, live_table
from world import HOST, Refused, WorldTest, policy, wait_until

TABLE = "inet promwarden"
SOURCES = "guard_trusted_ip4_8"
LONGEST_GAP_US = 100_000

# Kind of drift: the command of nft, and what its record must name.
TAMPERS = {
    "flush_ruleset": (lambda w: "flush ruleset", "table promwarden deleted"),
    "delete_table": (lambda w: f"delete table {TABLE}", "table promwarden deleted"),
    "replace_table_by_an_empty_one": (lambda w: f"delete table {TABLE}; add table {TABLE}", "table promwarden deleted"),
    "delete_rule": (lambda w: f"delete rule {TABLE} guard_pre handle {handle_of(w, 'guard_pre', 'goto')}", "rule of chain guard_pre deleted"),
    "replace_rule": (lambda w: f"replace rule {TABLE} guard_pre handle {handle_of(w, 'guard_pre', 'goto')} accept", "rule of chain guard_pre added"),
    "flush_chain": (lambda w: f"flush chain {TABLE} guard_pre", "rule of chain guard_pre deleted"),
    "flush_judge": (lambda w: f"flush chain {TABLE} guard_judge_prometheus", "rule of chain guard_judge_prometheus deleted"),
    "insert_rule_before_ours": (lambda w: f"insert rule {TABLE} guard_pre accept", "rule of chain guard_pre added"),
    "append_rule": (lambda w: f"add rule {TABLE} guard_fwd tcp dport 80 drop", "rule of chain guard_fwd added"),
    "add_element": (lambda w: f"add element {TABLE} {SOURCES} {{ 203.0.0.0 }}", f"element of set {SOURCES} added"),
    "delete_element": (lambda w: f"delete element {TABLE} {SOURCES} {{ 10.0.0.0 }}", f"element of set {SOURCES} deleted"),
    "flush_set": (lambda w: f"flush set {TABLE} {SOURCES}", f"element of set {SOURCES} deleted"),
    "delete_hook_chain": (lambda w: f"flush chain {TABLE} guard_pre; delete chain {TABLE} guard_pre", "chain guard_pre deleted"),
    "delete_set_and_its_rule": (lambda w: f"delete rule {TABLE} guard_judge_prometheus handle {handle_of(w, 'guard_judge_prometheus', SOURCES)}; delete set {TABLE} {SOURCES}",
                                f"set {SOURCES} deleted"),
    "add_set": (lambda w: f"add set {TABLE} more {{ type ipv4_addr; }}", "set more added"),
    "add_counter": (lambda w: f"add counter {TABLE} more", "counter more added"),
    "add_base_chain": (lambda w: f"add chain {TABLE} early {{ type filter hook prerouting priority -300; }}; add rule {TABLE} early tcp dport 9090 tcp dport set 9089",
                       "chain early added"),
    "chain_policy": (lambda w: f"add chain {TABLE} guard_pre {{ policy drop; }}", "chain guard_pre added"),
    "rename_chain": (lambda w: f"rename chain {TABLE} guard_contained guard_renamed", "chain guard_renamed added"),
    "dormant": (lambda w: f"add table {TABLE} {{ flags dormant; }}", "table promwarden added"),
}


class Guarded(WorldTest):
    ownership = "off"

    def setUp(self):
        super().setUp()
        self.agent = self.world.guard(self.policy())
        self.before = live_table(self.world)

    def policy(self, **parts):
        return policy(ownership=self.ownership, **parts)

    def healed(self, count=1, seconds=10):
        return wait_until(lambda: len(heals := self.agent.history("heal")) >= count and heals, f"{count} heals are recorded", seconds)

    def answers(self):
        """What a trusted and an untrusted client get."""
        return self.world.probe([("trusted", HOST["trusted"][4], 9090), ("untrusted", HOST["untrusted"][4], 9090)])


class Tamper(Guarded):
    def undone(self, command, named):
        with Stranger(self.world) as stranger:
            time.sleep(0.05)
            self.world.nft(command(self.world))
            heals = self.healed()
            time.sleep(0.1)
        self.assertEqual(live_table(self.world), self.before)
        drifts = self.agent.history("drift")
        self.assertEqual((len(drifts), len(heals)), (1, 1))
        self.assertEqual(drifts[0]["control"], "network.packet-filter")
        self.assertIn(named, drifts[0]["observed"])
        self.assertEqual(drifts[0]["by"]["comm"], "nft")
        self.assertTrue(drifts[0]["by"]["exe"] == "" or drifts[0]["by"]["exe"].endswith("/nft"), drifts[0]["by"])
        self.assertTrue(0 < heals[0]["gap_us"] < LONGEST_GAP_US, heals[0])
        self.assertGreater(stranger.tries, 20)
        self.assertEqual(stranger.answered_outside(heals), [], (drifts, heals))
        self.assertEqual(self.answers(), [200, "timeout"])

    def test_the_stranger_notices_an_open_port(self):
        self.agent.stop()
        with Stranger(self.world) as stranger:
            time.sleep(0.1)
            self.world.flush()
            time.sleep(0.3)
        self.assertGreater(len(stranger.answered), 20)
        self.assertEqual(len(stranger.answered_outside([])), len(stranger.answered))

    def test_its_own_changes_and_those_elsewhere_are_no_drift(self):
        self.agent.apply(self.policy(sources=["10.0.0.0/8", "192.0.2.0/24"]))
        self.world.nft("add table inet other; add chain inet other early { type filter hook prerouting priority -300; }")
        self.world.nft("delete table inet other")
        time.sleep(0.3)
        self.assertEqual(self.agent.history("drift"), [])
        self.assertFalse(self.agent.status()["firewall"]["contested"])

    def test_audit_reports_and_leaves_it(self):
        self.agent.apply("[agent]\nmode = \"audit\"\n".join(["schema = 1\n", self.policy().removeprefix("schema = 1\n")]))
        self.world.nft(f"insert rule {TABLE} guard_pre accept")
        drift = wait_until(lambda: self.agent.history("drift"), "the drift is recorded")
        self.assertIn("rule of chain guard_pre added", drift[0]["observed"])
        time.sleep(0.3)
        self.assertEqual(self.agent.history("heal"), [])
        self.assertNotEqual(live_table(self.world), self.before)
        self.assertEqual(self.agent.control("network.packet-filter")["verdict"], "fail")


def tamper_case(command, named):
    return lambda self: self.undone(command, named)


for name, (command, named) in TAMPERS.items():
    setattr(Tamper, f"test_{name}", tamper_case(command, named))


class Contest(Guarded):
    def test_a_loop_of_undoing(self):
        rounds = 60
        before = self.agent.cpu_seconds()
        script = f"for i in $(seq {rounds}); do nft flush chain {TABLE} guard_pre; sleep 0.03; done"
        loop = self.world.start("host", ["sh", "-c", script])
        verdicts = set()
        while loop.poll() is None:
            verdicts.add(self.agent.call("Report", only=["network.packet-filter"])["report"]["controls"][0]["verdict"])
            time.sleep(0.02)
        self.assertEqual(loop.returncode, 0)
        firewall = self.agent.status()["firewall"]
        wait_until(lambda: live_table(self.world) == self.before, "the table is right in the end", 5)
        self.assertTrue(firewall["contested"])
        self.assertIn("fail", verdicts)
        self.assertLess(self.agent.cpu_seconds() - before, 3)
        settled = self.agent.cpu_seconds()
        time.sleep(1)
        self.assertLess(self.agent.cpu_seconds() - settled, 0.1, "it is busy although nobody changes anything")
        self.assertLessEqual(len(self.agent.history("heal")), rounds)
        self.assertEqual(self.answers(), [200, "timeout"])

    def test_a_large_foreign_load(self):
        """It is not listened to any longer than it takes to see its size."""
        self.load()
        self.watched_by_generation("elements")

    def test_a_foreign_load_that_overflows_the_listener(self):
        """Whatever happened to the table in it, before it and after it."""
        self.agent.process.send_signal(signal.SIGSTOP)
        self.world.nft(f"flush chain {TABLE} guard_judge_prometheus")
        self.load()
        self.agent.process.send_signal(signal.SIGCONT)
        self.healed()
        self.watched_by_generation("lost")

    def load(self):
        elements = ", ".join(f"10.{i // 256 % 256}.{i % 256}.0-10.{i // 256 % 256}.{i % 256}.9" for i in range(50_000))
        self.world.nft(f"table inet other {{ set many {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}\n}}")

    def watched_by_generation(self, reason):
        watching = wait_until(lambda: (by := self.agent.status()["agent"]["watching"])["by"] == "generation" and by, "it leaves the listener", 20)
        self.assertIn(reason, watching["reason"])
        self.assertEqual(live_table(self.world), self.before)
        for command in (f"delete table {TABLE}", f"flush chain {TABLE} guard_judge_prometheus", f"add element {TABLE} {SOURCES} {{ 203.0.0.0 }}"):
            with self.subTest(command=command):
                count = len(self.agent.history("heal"))
                self.world.nft(command)
                heals = self.healed(count + 1)
                self.assertEqual(live_table(self.world), self.before)
                self.assertLess(heals[-1]["gap_us"], 1_000_000)
        self.assertEqual(self.answers(), [200, "timeout"])


class Disk(Guarded):
    def announced(self, containing):
        return wait_until(lambda: [event for event in self.agent.history("policy") if containing in event["observed"]], f"an event says {containing!r}")

    def test_a_saved_file_is_announced_and_not_obeyed(self):
        self.agent.write(self.policy(sources=["203.0.113.0/24"]))
        self.announced("differs")
        self.assertTrue(self.agent.status()["policy"]["on_disk_differs"])
        self.assertEqual(live_table(self.world), self.before)
        self.assertEqual(self.answers(), [200, "timeout"])
        os.kill(self.agent.process.pid, signal.SIGHUP)
        wait_until(lambda: not self.agent.status()["policy"]["on_disk_differs"], "SIGHUP takes it")
        self.assertEqual(self.answers(), ["timeout", 200])

    def test_reload_takes_it(self):
        self.agent.write(self.policy(sources=["203.0.113.0/24"]))
        self.agent.call("Reload")
        self.assertEqual(self.answers(), ["timeout", 200])

    def test_a_bad_file_changes_nothing(self):
        for text in ("schema = 1\n[firewall\n", self.policy(sources=["203.0.113.5/24"]), self.policy(firewall="unknown_key = 1")):
            with self.subTest(text=text):
                events = len(self.agent.history("policy"))
                self.agent.write(text)
                wait_until(lambda count=events: len(self.agent.history("policy")) > count, "it is announced")
                os.kill(self.agent.process.pid, signal.SIGHUP)
                for method in ("Reload", "Apply", "Plan"):
                    with self.assertRaises(Refused) as refused:
                        self.agent.call(method)
                    self.assertEqual(refused.exception.name, "PolicyInvalid")
                self.assertEqual(live_table(self.world), self.before)
                self.assertIn("on_disk_problem", self.agent.status()["policy"])


class Life(Guarded):
    """What stays when the agent goes, and what a trial leaves."""

    OTHER = ("203.0.113.0/24",)

    def counts(self):
        return {one["name"]: (one["allowed"], one["denied"]) for one in self.agent.status()["firewall"]["services"]}["prometheus"]

    def test_killed_and_started_again(self):
        self.assertEqual(self.answers(), [200, "timeout"])
        counts = self.counts()
        self.assertTrue(all(counts))
        for number in (signal.SIGKILL, signal.SIGTERM):
            self.agent.stop(number)
            self.assertEqual(live_table(self.world), self.before)
            self.assertEqual(self.answers(), [200, "timeout"])
            self.agent.start()
            self.assertEqual(live_table(self.world), self.before)
            now = self.counts()
            self.assertTrue(now[0] > counts[0] and now[1] > counts[1], f"{counts} became {now}")
            counts = now

    def test_what_was_changed_while_no_agent_ran_is_undone_at_start(self):
        for command in (f"flush chain {TABLE} guard_judge_prometheus", "flush ruleset"):
            with self.subTest(command=command):
                self.agent.stop(signal.SIGKILL)
                self.world.nft(command)
                self.assertEqual(self.answers(), [200, 200])
                self.agent.start()
                self.assertEqual(live_table(self.world), self.before)
                self.assertEqual(self.answers(), [200, "timeout"])

    def test_the_policy_on_disk_is_not_what_a_start_loads(self):
        self.agent.stop()
        self.agent.write(self.policy(sources=self.OTHER))
        self.agent.start()
        self.assertEqual(live_table(self.world), self.before)
        self.assertTrue(self.agent.status()["policy"]["on_disk_differs"])

    def test_nothing_happens_before_a_first_apply(self):
        self.world.unguard()
        self.agent = self.world.guard()
        self.assertIsNone(live_table(self.world))
        self.assertEqual(self.agent.status()["firewall"]["state"], "absent")
        self.assertEqual(self.answers(), [200, 200])

    def test_a_trial_that_nobody_confirms(self):
        self.agent.apply(self.policy(sources=self.OTHER), confirm_within=1)
        self.assertTrue(self.agent.status()["policy"]["in_force"]["trial"])
        self.assertEqual(self.answers(), ["timeout", 200])
        wait_until(lambda: self.agent.history("undo"), "it is undone", 5)
        self.assertEqual(live_table(self.world), self.before)
        self.assertEqual(self.answers(), [200, "timeout"])
        self.assertFalse(self.agent.status()["policy"]["in_force"]["trial"])
        self.assertTrue(self.agent.status()["policy"]["on_disk_differs"])

    def test_a_trial_that_is_confirmed(self):
        self.agent.apply(self.policy(sources=self.OTHER), confirm_within=1)
        self.agent.call("Confirm")
        time.sleep(1.5)
        self.assertEqual(self.answers(), ["timeout", 200])
        self.assertEqual(self.agent.history("undo"), [])
        with self.assertRaises(Refused) as refused:
            self.agent.call("Confirm")
        self.assertEqual(refused.exception.name, "NothingPending")
        self.agent.stop(signal.SIGKILL)
        self.agent.start()
        self.assertEqual(self.answers(), ["timeout", 200])

    def test_a_trial_that_ends_while_no_agent_runs(self):
        self.agent.apply(self.policy(sources=self.OTHER), confirm_within=1)
        self.agent.stop(signal.SIGKILL)
        time.sleep(1.2)
        self.assertEqual(self.answers(), ["timeout", 200])
        self.agent.start()
        self.assertEqual(live_table(self.world), self.before)
        self.assertEqual(len(self.agent.history("undo")), 1)

    def test_a_trial_outlives_a_restart(self):
        self.agent.apply(self.policy(sources=self.OTHER), confirm_within=4)
        self.agent.stop(signal.SIGKILL)
        self.agent.start()
        self.assertTrue(self.agent.status()["policy"]["in_force"]["trial"])
        self.assertEqual(self.answers(), ["timeout", 200])
        wait_until(lambda: self.agent.history("undo"), "it is undone", 10)
        self.assertEqual(live_table(self.world), self.before)

    def test_undo(self):
        self.agent.apply(self.policy(sources=self.OTHER))
        self.agent.call("Undo")
        self.assertEqual(live_table(self.world), self.before)
        self.agent.call("Undo", all=True)
        self.assertIsNone(live_table(self.world))


class Owned(Guarded):
    """ownership = "auto": where the kernel can, nobody else can change the table at all."""

    ownership = "auto"

    def setUp(self):
        super().setUp()
        kernel = tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])
        self.firewall = self.agent.status()["firewall"]
        self.assertEqual(self.firewall["state"], "owned" if kernel >= (6, 9) else "plain")
        self.able = kernel >= (6, 9)

    def test_others_cannot_change_it(self):
        if not self.able:
            self.assertIn("6.9", self.firewall["reason"])
            return
        with Stranger(self.world) as stranger:
            for name, (command, _) in TAMPERS.items():
                with self.subTest(tamper=name):
                    done = self.world.run("host", "nft", "-f", "-", text=command(self.world), check=False)
                    self.assertEqual(done.returncode == 0, name == "flush_ruleset", done.stderr)
                    self.assertEqual(live_table(self.world), self.before)
        self.assertEqual(stranger.answered, [])
        self.assertEqual(self.agent.history("drift"), [])
        self.assertEqual(self.agent.status()["agent"]["watching"]["by"], "nothing")
        self.assertEqual(self.answers(), [200, "timeout"])

    def test_killed_and_started_again(self):
        with Stranger(self.world) as stranger:
            self.agent.stop(signal.SIGKILL)
            time.sleep(0.1)
            self.agent.start()
            self.assertEqual(self.agent.status()["firewall"]["state"], self.firewall["state"])
            self.agent.apply(self.policy(sources=["10.0.0.0/8"]))
        self.assertEqual(stranger.answered, [])
        self.assertEqual(self.answers(), [200, "timeout"])

    def test_from_owned_to_plain_and_back(self):
        if not self.able:
            return
        with Stranger(self.world) as stranger:
            for ownership, state, by in (("off", "plain", "notifications"), ("auto", "owned", "nothing")):
                self.agent.apply(policy(ownership=ownership))
                status = self.agent.status()
                self.assertEqual((status["firewall"]["state"], status["agent"]["watching"]["by"]), (state, by))
        self.assertEqual(stranger.answered, [])


if __name__ == "__main__":
    unittest.main()
