"""What an apply does to files, and the agent after it: bits are taken, put back by an undo, taken again when somebody gives them back; and nobody who owns a directory
can make it touch anything else. A real kernel in a namespace of the test's own; files in a directory of its own, which the policy names."""

import json
import multiprocessing
import os
import pwd
import shutil
import stat
import subprocess
import time
import unittest

from world import BUILD, Agent, World, policy, require, wait_until

OWNER = pwd.getpwnam("daemon")
ONLY = ["secrets.file-permissions", "config.permissions"]


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def put(path, text="x", bits=0o644, owner=0):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chown(path, owner, owner)
    os.chmod(path, bits)


def rules(*patterns, extra=""):
    return policy() + "".join(f'\n[[file]]\npath = "{pattern}"\nmode = "0640"\n' for pattern in patterns) + extra


def swap(directory, victim, until):
    """As its owner: a file, a link to somebody else's, another name of it where the kernel lets one, a pipe, a directory, nothing; as fast as it goes."""
    os.setgid(OWNER.pw_gid)
    os.setuid(OWNER.pw_uid)
    os.chdir(directory)
    rounds = 0
    while time.monotonic() < until:
        for make in (lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, 0o644)), lambda: os.symlink(victim, "new"), lambda: os.link(victim, "new"),
                     lambda: os.mkfifo("new", 0o666), lambda: os.symlink("/etc/shadow", "new")):
            try:
                make()
                os.rename("new", "key")
                os.chmod("key", 0o666)
            except OSError:
                pass
        try:
            os.rename(directory, directory + ".away")
        except OSError:
            pass
        rounds += 1
    os._exit(0 if rounds > 10 else 1)


class Remedies(unittest.TestCase):
    def setUp(self):
        require("nft", "ip")
        self.world = World(prometheus=False)
        self.addCleanup(self.world.close)
        self.directory = f"/run/promwarden-remedy-{os.getpid()}"
        os.mkdir(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.key = f"{self.directory}/key"

    def agent(self, text):
        agent = Agent(self.world)
        agent.write(text)
        agent.start()
        self.addCleanup(agent.stop)
        return agent

    def changes(self, agent):
        return [change for change in agent.call("Plan")["plan"]["changes"] if change["kind"] == "file"]

    def test_bits_are_taken_and_put_back(self):
        put(self.key, bits=0o666)
        agent = self.agent(rules(f"{self.directory}/*"))
        self.assertEqual([change["subject"] for change in self.changes(agent)], [self.key])
        self.assertEqual(mode(self.key), 0o666)
        agent.apply()
        self.assertEqual(mode(self.key), 0o640)
        self.assertEqual(self.changes(agent), [])
        agent.call("Undo")
        self.assertEqual(mode(self.key), 0o666)

    def test_a_trial_puts_them_back_by_itself(self):
        put(self.key)
        agent = self.agent(rules(self.key))
        agent.apply(confirm_within=1)
        self.assertEqual(mode(self.key), 0o640)
        wait_until(lambda: mode(self.key) == 0o644, "the trial ends")

    def test_only_the_named_control(self):
        put(self.key)
        agent = self.agent(rules(self.key))
        with self.assertRaisesRegex(Exception, "not in force yet"):
            agent.apply(only=["secrets.file-permissions"])
        self.assertEqual(mode(self.key), 0o644)
        agent.apply(only=["network.packet-filter"])
        wait_until(lambda: mode(self.key) == 0o640, "the agent keeps all of the policy that is in force")
        put(f"{self.directory}/other")
        agent.apply(only=["secrets.file-permissions"])

    def test_what_is_audited_is_only_said(self):
        put(self.key)
        audited = "\n[controls]\n" + "".join(f'"{name}" = "audit"\n' for name in ONLY)
        agent = self.agent(rules(self.key, extra=audited))
        agent.apply()
        self.assertEqual(len(self.changes(agent)), 1)
        time.sleep(0.5)
        self.assertEqual(mode(self.key), 0o644)

    def test_a_bit_given_back_is_taken_again_at_once(self):
        put(self.key)
        agent = self.agent(rules(self.key))
        agent.apply()
        wait_until(lambda: not self.changes(agent), "all is as the policy says")
        for bits in (0o644, 0o660, 0o666):
            begun = time.monotonic()
            os.chmod(self.key, bits)
            wait_until(lambda: mode(self.key) & 0o027 == 0, f"{bits:o} is undone")
            print(f"chmod {bits:o} was undone in {(time.monotonic() - begun) * 1000:.0f} ms")
        wait_until(lambda: any(one["subject"] == self.key for one in agent.history("heal")), "it is in the history")
        drift = next(one for one in agent.history("drift") if one["subject"] == self.key)
        self.assertEqual(drift["control"], "secrets.file-permissions")
        self.assertIn("0644", drift["observed"])

    def test_a_new_file_is_closed_too(self):
        put(self.key, bits=0o640)
        agent = self.agent(rules(f"{self.directory}/*"))
        agent.apply()
        time.sleep(0.3)
        put(f"{self.directory}/another", bits=0o644)
        wait_until(lambda: mode(f"{self.directory}/another") == 0o640, "the new file is closed")

    def test_whoever_owns_the_directory_cannot_turn_it_on_others(self):
        victim, theirs = f"{self.directory}/victim", f"{self.directory}/theirs"
        put(victim, "root's", 0o666)
        shadow = mode("/etc/shadow")
        os.mkdir(theirs, 0o755)
        os.chown(theirs, OWNER.pw_uid, OWNER.pw_gid)
        agent = self.agent(rules(f"{theirs}/key"))
        agent.apply()
        until = time.monotonic() + 4
        attacker = multiprocessing.Process(target=swap, args=(theirs, victim, until))
        attacker.start()
        slowest = 0.0
        while time.monotonic() < until:
            begun = time.monotonic()
            agent.call("Status")
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.05)
        attacker.join(20)
        self.assertEqual(attacker.exitcode, 0)
        self.assertEqual((mode(victim), os.stat(victim).st_uid), (0o666, 0))
        self.assertEqual(mode("/etc/shadow"), shadow)
        self.assertLess(slowest, 5)

    def test_the_command_alone(self):
        put(self.key)
        text = rules(self.key)
        path, state = f"{self.directory}/policy.toml", f"{self.directory}/state"
        put(path, text)

        def command(*words):
            with self.world.inside("host"):
                return subprocess.run([BUILD / "src/bin/promwarden", *words, "--policy", path, "--state", state, "--socket", f"{self.directory}/socket"],
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)

        planned = json.loads(command("plan", "--format", "json").stdout)
        self.assertIn(self.key, [change["subject"] for change in planned["changes"]])
        said = command("apply").stdout
        self.assertIn(f"Changed {self.key}", said)
        self.assertEqual(mode(self.key), 0o640)
        self.assertIn(f"Undone {self.key}", command("undo", "--all").stdout)
        self.assertEqual(mode(self.key), 0o644)


if __name__ == "__main__":
    unittest.main()
