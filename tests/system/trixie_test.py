"""The same as boot_test.py on Debian 13, with a package built there; and its varlinkctl, which was written by others."""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import boot_test  # noqa: E402
import machine  # noqa: E402

SOCKET = "/run/promwarden/io.promwarden"


@unittest.skipUnless(machine.ALL, "builds in another release: PROMWARDEN_ALL")
class Trixie(boot_test.Boot):
    @classmethod
    def package(cls):
        return "trixie", machine.package_for("trixie")

    def test_5_varlinkctl_introspects_and_calls(self):
        info = self.machine.do("varlinkctl", "info", SOCKET, user="member").stdout
        self.assertIn("io.promwarden", info)
        described = self.machine.do("varlinkctl", "introspect", SOCKET, "io.promwarden", user="member").stdout
        for method in ("Status", "Watch", "Apply"):
            self.assertRegex(described, rf"method {method}\(")
        status = json.loads(self.machine.do("varlinkctl", "--json=short", "call", SOCKET, "io.promwarden.Status", "{}", user="member").stdout)
        self.assertEqual(status["status"]["schema"], "promwarden.status/1")
        refused = self.machine.do("varlinkctl", "call", SOCKET, "io.promwarden.Undo", '{"all":true}', user="member", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("PermissionDenied", refused.stderr)
        self.assertNotEqual(self.machine.do("varlinkctl", "info", SOCKET, user="stranger", check=False).returncode, 0)


if __name__ == "__main__":
    unittest.main()
