"""packaging/install itself, where the build packages are there already: twice in a row on a booted machine, and in a root that no systemd runs.
PROMWARDEN_BUILT names a build to package instead of compiling."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine  # noqa: E402


@unittest.skipUnless(machine.ALL, "compiles everything: PROMWARDEN_ALL")
class Install(unittest.TestCase):
    def setUp(self):
        self.machine = Machine(machine.tree("bookworm", machine.build_packages(), name="bookworm-build"))
        self.addCleanup(self.machine.close)

    def check_output(self, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        lines = done.stdout.splitlines()
        said = [line for line in lines if line.startswith("promwarden: ")]
        self.assertLessEqual(len(said), 10)
        self.assertIn("promwarden: the policy is applied", said)
        self.assertTrue(said[-1].startswith("promwarden: done"), said[-1])
        self.assertTrue(any("network.packet-filter" in line and line.startswith("pass") for line in lines), done.stdout)

    def install(self, *words):
        environment = [word.removeprefix("--setenv=") for word in machine.build_options() if word.startswith("--setenv=")]
        return self.machine.do("env", *environment, "/source/packaging/install", *words, check=False, timeout=3600)

    def test_twice_in_a_row_on_a_booted_machine(self):
        self.machine.boot(*machine.build_options())
        self.check_output(self.install())
        self.assertEqual((self.machine.answers("untrusted"), self.machine.answers("trusted")), (0, 200))
        self.check_output(self.install())
        self.assertEqual((self.machine.answers("untrusted"), self.machine.answers("trusted")), (0, 200))
        removed = self.install("--remove")
        self.assertEqual(removed.returncode, 0, removed.stderr)
        self.assertEqual(self.machine.answers("untrusted"), 200)

    def test_in_a_root_without_systemd(self):
        def install(command):
            return self.machine.offline("sh", "-c", command, options=[*machine.build_options(), "--capability=CAP_NET_ADMIN"], check=False, timeout=3600)
        accepted = self.machine.root / "var/lib/promwarden/accepted"
        refused = install("python3 -m http.server 9090 >/dev/null 2>&1 & /source/packaging/install; code=$?; nft list ruleset; exit $code")
        self.assertEqual(refused.returncode, 1, refused.stdout + refused.stderr)
        self.assertRegex(refused.stderr, r"9090.*python3")
        self.assertRegex(refused.stderr, r"promwarden: the policy was not applied")
        self.assertNotIn("table inet promwarden", refused.stdout)
        self.assertFalse(accepted.exists())

        done = install("/source/packaging/install")
        self.check_output(done)
        self.assertIn("nothing watches it", done.stdout)
        self.assertTrue(accepted.exists())
        self.assertFalse((self.machine.root / "etc/systemd/system/prometheus.service.d").exists())


if __name__ == "__main__":
    unittest.main()
