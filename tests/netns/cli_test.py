"""The command as a whole, against a real kernel: each test in a network namespace of its own. Needs root, nft, ip, unshare and nsenter.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PROMWARDEN_BUILD", os.path.join(ROOT, "build"))
COMMAND = os.environ.get("PROMWARDEN", os.path.join(BUILD, "src/bin/promwarden"))
AGENT = os.environ.get("PROMWARDEND", os.path.join(BUILD, "src/bin/promwardend"))

GUARD = {"network.packet-filter", "network.container-path", "network.bypass", "access.local-users"}


def others_off():
    """A table for a policy under which nothing but the guard decides the exit status: what else is on this machine is not what these tests are about."""
    listed = subprocess.run([COMMAND, "explain", "--format", "json"], stdout=subprocess.PIPE, check=True).stdout
    ids = [control["id"] for control in json.loads(listed)]
    return "[controls]\n" + "".join(f'"{name}" = "off"\n' for name in ids if name not in GUARD)


POLICY = """schema = 1

[firewall.sources]
office = ["192.0.2.0/24", "198.51.100.7"]

[[firewall.service]]
name  = "prometheus"
ports = [9090]
allow = ["office"]
"""


class CommandTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="promwarden-test-", dir="/run")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.namespace = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE)
        self.addCleanup(self.end_namespace)
        self.namespace.stdout.readline()
        self.run_inside("ip", "link", "set", "lo", "up")
        self.policy = self.path("policy.toml")
        self.write_policy(POLICY)
        os.mkdir(self.path("policy.d"), 0o755)
        self.others = self.path("policy.d/others.toml")
        with open(self.others, "w") as file:
            file.write(others_off())
        os.chmod(self.others, 0o644)

    def end_namespace(self):
        self.namespace.kill()
        self.namespace.wait()
        self.namespace.stdout.close()

    def path(self, name):
        return os.path.join(self.directory, name)

    def write_policy(self, text):
        with open(self.policy, "w") as file:
            file.write(text)
        os.chmod(self.policy, 0o644)

    def inside(self, *words):
        return ["nsenter", "-t", str(self.namespace.pid), "-n", *words]

    def run_inside(self, *words, **options):
        return subprocess.run(self.inside(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, **options)

    def words(self, *words):
        return [COMMAND, *words, "--policy", self.policy, "--state", self.path("state"), "--socket", self.path("socket")]

    def command(self, *words, status=0, before=()):
        done = self.run_inside(*before, *self.words(*words))
        self.assertEqual(done.returncode, status, f"{words}: {done.stdout}{done.stderr}")
        return done

    def ruleset(self):
        return self.run_inside("nft", "-s", "list", "ruleset").stdout

    def content(self):
        """The whole ruleset. The kernel lists sets and their elements in the order of their making, which means nothing; that of rules does."""
        rules, others = [], []
        for item in json.loads(self.run_inside("nft", "-j", "-s", "list", "ruleset").stdout)["nftables"]:
            for kind, value in item.items():
                value.pop("handle", None)
                value["elem"] = sorted(value.get("elem", []), key=str)
                (rules if kind == "rule" else others).append(json.dumps({kind: value}, sort_keys=True))
        rules.sort(key=lambda rule: json.loads(rule)["rule"]["chain"])  # stable: the order within a chain stays
        return sorted(others) + rules

    def listen(self):
        script = "import socket,sys,time\ns = socket.create_server(('0.0.0.0', 9090))\nprint('ready', flush=True)\ntime.sleep(600)"
        process = subprocess.Popen(self.inside(sys.executable, "-c", script), stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.stdout.readline()


class Looking(CommandTest):
    def test_an_unknown_key_is_shown_with_a_caret_and_the_nearest(self):
        self.write_policy(POLICY.replace("allow =", "alow ="))
        done = self.command("check", status=2)
        self.assertIn("policy.toml:9:1:", done.stderr)
        self.assertRegex(done.stderr, r"\n *\^")
        self.assertIn("allow", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_policy_check_and_show(self):
        self.assertIn("is valid: 1 service, 1 source group with 2 networks", self.command("policy", "check").stdout)
        os.unlink(self.others)
        shown = self.command("policy", "show").stdout
        self.write_policy(shown)
        self.assertEqual(self.command("policy", "show").stdout, shown)
        self.write_policy("schema = 2\n")
        answer = json.loads(self.command("policy", "check", "--format", "json", status=2).stdout)
        self.assertFalse(answer["valid"])
        self.assertEqual(answer["diagnostics"][0]["location"]["line"], 1)

    def test_check_fails_before_apply_and_plan_names_what_would_be_added(self):
        self.command("check", status=1)
        self.command("check", "--fail-on", "critical", "--only", "network.bypass", status=0)
        planned = self.command("plan", status=1).stdout
        self.assertIn("+ element guard_office_ip4_24 192.0.2.0", planned)
        self.assertEqual(self.ruleset(), "")
        self.assertFalse(os.path.exists(self.path("state")), "looking makes no state")

    def test_a_report_in_a_file_and_in_other_formats(self):
        output = self.path("report.json")
        self.command("check", "--format", "json", "--output", output, status=1)
        with open(output) as file:
            self.assertEqual(json.load(file)["schema"], "promwarden.report/1")
        for form, mark in (("sarif", '"2.1.0"'), ("junit", "<testsuite"), ("openmetrics", "# EOF")):
            self.assertIn(mark, self.command("check", "--format", form, status=1).stdout)
        self.command("check", "--output", "/dev/null", status=2)
        self.assertFalse(os.path.isfile("/dev/null"))

    def test_usage(self):
        for words in (["chekc"], ["check", "--only", "network.bypas"], ["plan", "--format", "sarif"], ["check", "--fail-on", "worst"], ["why"], ["why", "10.0.0.1:0"],
                      ["apply", "--confirm-within", "soon"], ["policy"], ["explain", "network.bypas"]):
            self.command(*words, status=2)
        self.assertIn("did you mean 'check'?", self.command("chekc", status=2).stderr)
        self.assertIn("network.bypass", self.command("explain", "network.bypas", status=2).stderr)

    def test_what_needs_the_agent_says_so(self):
        for words in (["watch"], ["history"], ["confirm"]):
            self.command(*words, status=5)
        done = self.command("status", status=1)
        self.assertIn("no agent answers", done.stderr)
        self.assertIn("network.packet-filter", done.stdout)

    def test_an_ordinary_user_sees_what_can_be_seen(self):
        user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = self.command("check", status=3, before=user)
        self.assertRegex(done.stdout, r"unknown +\w+ +network\.packet-filter")
        for words in (["plan"], ["apply"], ["undo"], ["confirm"], ["why", "192.0.2.1"]):
            self.command(*words, status=6, before=user)
        os.chmod(self.policy, 0o600)
        self.command("check", status=6, before=user)

    def test_a_result_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run(self.words("explain"), stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 3)
        self.assertIn("No space left", done.stderr)


class Acting(CommandTest):
    def test_apply_makes_it_so_and_twice_is_once(self):
        self.assertIn("Changed table inet promwarden", self.command("apply").stdout)
        self.command("check")
        self.assertIn("Nothing to change", self.command("plan").stdout)
        before = self.ruleset()
        self.assertIn("Nothing had to change", self.command("apply").stdout)
        self.assertEqual(self.ruleset(), before)

    def test_undo_restores_exactly(self):
        self.run_inside("nft", "add table ip other; add chain ip other c; add rule ip other c tcp dport 22 accept")
        nothing = self.content()
        self.command("apply")
        first = self.content()
        self.write_policy(POLICY.replace("198.51.100.7", "10.0.0.0/8"))
        self.command("apply")
        self.assertNotEqual(self.content(), first)
        self.command("undo")
        self.assertEqual(self.content(), first)
        self.command("apply")
        self.command("undo", "--all")
        self.assertEqual(self.content(), nothing)
        self.command("undo", status=2)

    def test_a_trial_that_nobody_confirms_ends_by_itself(self):
        self.command("apply")
        first = self.content()
        self.write_policy(POLICY.replace("198.51.100.7", "10.0.0.0/8"))
        self.assertIn("promwarden confirm", self.command("apply", "--confirm-within", "2s").stderr)
        self.assertNotEqual(self.content(), first)
        deadline = time.monotonic() + 20
        while self.content() != first and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(self.content(), first)
        self.command("confirm", status=5)
        with open(self.path("state/history")) as file:
            kinds = [json.loads(line)["kind"] for line in file]
        self.assertEqual(kinds, ["apply", "apply", "undo"])

    def test_whoever_comes_next_ends_a_trial(self):
        self.command("apply", "--confirm-within", "2s")
        waiters = subprocess.run(["pgrep", "-f", "-x", "--", " ".join(self.words("apply", "--confirm-within", "2s"))], stdout=subprocess.PIPE, text=True).stdout.split()
        self.assertEqual(len(waiters), 1)
        os.kill(int(waiters[0]), signal.SIGKILL)
        time.sleep(2.5)
        self.assertNotEqual(self.ruleset(), "")
        self.assertIn("nobody confirmed", self.command("check", status=1).stderr)
        self.assertEqual(self.ruleset(), "")

    def test_confirm_keeps(self):
        self.command("apply", "--confirm-within", "3s")
        applied = self.ruleset()
        self.command("apply", status=2)  # another one has to wait
        self.command("confirm")
        time.sleep(4)
        self.assertEqual(self.ruleset(), applied)
        self.command("plan")

    def test_audit_prints_and_leaves(self):
        self.write_policy(POLICY + '\n[controls]\n"network.packet-filter" = "audit"\n')
        done = self.command("apply", status=1)
        self.assertIn("+ element", done.stdout)
        self.assertIn("In mode audit, so left as it is", done.stdout)
        self.assertEqual(self.ruleset(), "")

    def test_a_stranger_on_the_port_is_named(self):
        self.listen()
        refused = self.command("apply", status=2)
        self.assertIn("python", refused.stderr)
        self.assertEqual(self.ruleset(), "")
        self.command("apply", "--force")
        self.command("apply")  # it was vouched for

    def test_the_callers_own_connection_is_not_cut(self):
        self.command("apply")
        self.run_inside("ip", "addr", "add", "203.0.113.1/24", "dev", "lo")
        # Over loopback everything passes, so the peer has to be elsewhere.
        self.run_inside("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(self.far_namespace().pid))
        for words in (["addr", "add", "198.51.100.1/24", "dev", "near"], ["link", "set", "near", "up"]):
            self.run_inside("ip", *words)
        far = ["nsenter", "-t", str(self.far.pid), "-n"]
        for words in (["addr", "add", "198.51.100.7/24", "dev", "far"], ["link", "set", "far", "up"]):
            subprocess.run([*far, "ip", *words], check=True)
        self.write_policy(POLICY.replace(', "198.51.100.7"', ""))
        server = ("import socket, subprocess, sys\ns = socket.create_server(('198.51.100.1', 9090))\nprint('ready', flush=True)\n"
                  "accepted, _ = s.accept()\nd = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)\n"
                  "print(d.stdout)\nsys.exit(d.returncode)")
        client = "import socket, time\ns = socket.create_connection(('198.51.100.1', 9090))\ntime.sleep(600)"
        for extra, status in (([], 2), (["--force"], 0)):
            process = subprocess.Popen(self.inside(sys.executable, "-c", server, *self.words("apply", *extra)), stdout=subprocess.PIPE, text=True)
            self.assertEqual(process.stdout.readline(), "ready\n")
            peer = subprocess.Popen([*far, sys.executable, "-c", client])
            try:
                output, _ = process.communicate(timeout=60)
            finally:
                peer.kill()
                peer.wait()
            self.assertEqual(process.returncode, status, output)
            self.assertIn("your own connection" if status else "Cut     198.51.100.7", output)

    def far_namespace(self):
        self.far = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE)
        self.addCleanup(self.far.stdout.close)
        self.addCleanup(self.far.wait)
        self.addCleanup(self.far.kill)
        self.far.stdout.readline()
        return self.far


class Why(CommandTest):
    def test_trusted_untrusted_and_loopback(self):
        self.command("apply")
        trusted = self.command("why", "192.0.2.77:9090").stdout
        self.assertIn("passes", trusted)
        self.assertIn("guard_office_ip4_24 has 192.0.2.0/24", trusted)
        self.assertIn("policy.toml:4:11 (group office)", trusted)
        stranger = self.command("why", "203.0.113.5", status=1).stdout
        self.assertIn("203.0.113.5 to port 9090/tcp (service prometheus): dropped", stranger)
        self.assertIn("203.0.113.5 is not in guard_office_ip4_24", stranger)
        self.assertIn("policy.toml:6:", stranger)
        self.command("why", "[2001:db8::1]:9090", status=1)
        self.command("why", "::ffff:192.0.2.1")
        self.assertIn("Over loopback", self.command("why", "127.0.0.1:9090").stdout)
        self.assertIn("no rule of the live table looks at this port", self.command("why", "203.0.113.5:22").stdout)
        answer = json.loads(self.command("why", "203.0.113.5:9090", "--format", "json", status=1).stdout)
        self.assertEqual((answer["schema"], answer["ports"][0]["outcome"], answer["ports"][0]["passes"]), ("promwarden.why/1", "dropped", False))

    def test_local_users_are_named(self):
        self.write_policy(POLICY + 'local_users = ["root"]\n')
        self.command("apply")
        self.assertIn("root may, everybody else is refused", self.command("why", "::1", status=1).stdout)

    def test_no_table_and_a_changed_one(self):
        self.assertIn("There is no table inet promwarden", self.command("why", "203.0.113.5").stdout)
        self.command("apply")
        self.run_inside("nft", "delete", "element", "inet", "promwarden", "guard_office_ip4_24", "{ 192.0.2.0 }")
        changed = self.command("why", "192.0.2.77", status=1).stdout
        self.assertIn("The live table is not the policy's: it differs in 1 place.", changed)

    def test_another_table_that_drops(self):
        self.command("apply")
        self.run_inside("nft", "add table inet other; add chain inet other early { type filter hook prerouting priority -300; }; "
                               "add rule inet other early iifname != lo tcp dport 9090 ip saddr 192.0.2.0/25 counter drop; "
                               "add chain inet other late { type filter hook input priority 0; policy drop; }; add rule inet other late ct state established accept")
        first = self.command("why", "192.0.2.7", status=1).stdout
        self.assertIn("dropped by another table", first)
        self.assertIn("table inet other chain early (prerouting, priority -300) drops it, before promwarden's rules see it", first)
        self.assertNotIn("late", first)
        self.assertIn("chain late (input, priority 0) may drop it", self.command("why", "192.0.2.200").stdout)


class ThroughTheAgent(CommandTest):
    def setUp(self):
        super().setUp()
        self.agent = subprocess.Popen(self.inside(AGENT, *self.words()[1:]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(self.agent.wait)
        self.addCleanup(self.agent.kill)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.path("socket")) and time.monotonic() < deadline:
            time.sleep(0.05)

    def test_a_policy_from_apply_to_undo(self):
        self.assertIn("none is in force", self.command("status", status=1).stdout)
        self.assertIn("Changed table inet promwarden", self.command("apply").stdout)
        self.assertIn("prometheus: 0 packets allowed, 0 denied", self.command("status").stdout)
        self.assertIn("Nothing to change", self.command("plan").stdout)
        self.command("check")
        self.assertIn("passes", self.command("why", "192.0.2.1").stdout)
        self.write_policy(POLICY.replace("198.51.100.7", "10.0.0.0/8"))
        self.command("apply", "--confirm-within", "60s")
        self.command("confirm")
        self.command("confirm", status=2)
        kinds = [json.loads(line)["kind"] for line in self.command("history", "--since", "1h", "--format", "json").stdout.splitlines()]
        self.assertEqual([kind for kind in kinds if kind == "apply"], ["apply", "apply"])
        self.command("undo", "--all")
        self.command("undo", status=2)

    def test_what_the_agent_refuses(self):
        self.write_policy(POLICY.replace("allow =", "alow ="))
        self.assertIn("policy.toml:9:1:", self.command("apply", status=2).stderr)
        other = self.path("other.toml")
        with open(other, "w") as file:
            file.write(POLICY)
        done = self.run_inside(COMMAND, "apply", "--policy", other, "--state", self.path("state"), "--socket", self.path("socket"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("has another policy, " + self.policy, done.stderr)

    def owned(self):
        return json.loads(self.command("status", "--format", "json").stdout)["firewall"]["state"] == "owned"

    def test_ownership_follows_a_trial_and_its_end(self):
        self.command("apply")
        if not self.owned():
            self.skipTest("this kernel has no owned tables that persist")
        self.write_policy(POLICY + '\n[firewall]\nownership = "off"\n')
        self.command("apply", "--confirm-within", "4s")
        self.assertFalse(self.owned())
        self.assertEqual(self.run_inside("nft", "add", "chain", "inet", "promwarden", "foreign").returncode, 0)
        deadline = time.monotonic() + 20
        while not self.owned() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertTrue(self.owned(), "the trial is over; the policy before it owns the table")
        self.assertIn("Operation not permitted", self.run_inside("nft", "add", "chain", "inet", "promwarden", "foreign").stderr)
        self.command("apply")
        self.assertFalse(self.owned())
        self.command("undo")
        self.assertTrue(self.owned())

    def test_a_trial_that_a_command_ended_is_over_for_the_agent_too(self):
        plain = POLICY.replace("[firewall.sources]", '[firewall]\nownership = "off"\n[firewall.sources]')
        self.write_policy(plain)
        self.command("apply")
        self.write_policy(plain.replace("198.51.100.7", "10.0.0.0/8"))
        self.command("apply", "--confirm-within", "3s")
        self.agent.send_signal(signal.SIGSTOP)
        time.sleep(3.1)
        done = self.run_inside(COMMAND, "plan", "--policy", self.policy, "--state", self.path("state"), "--socket", self.path("none"))
        self.agent.send_signal(signal.SIGCONT)
        self.assertIn("has been undone", done.stderr)
        table = lambda: self.run_inside("nft", "list", "table", "inet", "promwarden").stdout
        deadline = time.monotonic() + 20
        while ("10.0.0.0" in table() or "on trial" in self.command("status").stdout) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        self.assertIn("198.51.100.7", table())
        self.assertNotIn("10.0.0.0", table())
        self.assertNotIn("on trial", self.command("status").stdout)

    def test_a_table_of_somebody_else_is_a_matter_of_permission(self):
        owner = subprocess.Popen(self.inside("nft", "-i"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.addCleanup(owner.communicate)
        owner.stdin.write("add table inet promwarden { flags owner; }\n")
        owner.stdin.flush()
        deadline = time.monotonic() + 20
        while "promwarden" not in self.run_inside("nft", "list", "tables").stdout and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertIn("owned by another process", self.command("apply", "--force", status=6).stderr)

    def test_watch_streams_until_interrupted(self):
        watch = subprocess.Popen(self.inside(*self.words("watch", "--format", "json")), stdout=subprocess.PIPE, text=True)
        self.addCleanup(watch.stdout.close)
        time.sleep(0.5)
        self.command("apply")
        self.assertEqual(json.loads(watch.stdout.readline())["kind"], "apply")
        watch.send_signal(signal.SIGINT)
        self.assertEqual(watch.wait(10), 0)

    def test_watch_ends_with_the_agent(self):
        watch = subprocess.Popen(self.inside(*self.words("watch")), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.5)
        self.agent.terminate()
        _, errors = watch.communicate(timeout=10)
        self.assertEqual(watch.returncode, 5)
        self.assertIn(b"the agent has ended", errors)


class WithoutPrivilege(CommandTest):
    def test_what_may_not_be_done_is_said_in_one_way(self):
        without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
        denied = self.command("apply", status=6, before=without)
        self.assertIn("not permitted", denied.stderr.lower())
        agent = self.run_inside(*without, AGENT, *self.words()[1:])
        self.assertEqual(agent.returncode, 6, agent.stderr)
        self.assertIn("not permitted", agent.stderr.lower())


if __name__ == "__main__":
    unittest.main()
