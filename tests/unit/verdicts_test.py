"""Every control has a case for every verdict: what the test programs of the controls decided, collected while they run."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or ROOT / "build")
VERDICTS = ("pass", "fail", "unknown", "not-applicable")
PROGRAMS = ("controls", "servers", "live", "files", "permissions", "site", "certificates", "deployment")


class Verdicts(unittest.TestCase):
    def test_every_control_has_a_case_for_every_verdict(self):
        catalogue = (ROOT / "src/controls/catalogue.cpp").read_text(encoding="utf-8")
        controls = re.findall(r'^    {"([a-z]+\.[a-z-]+)", "', catalogue, re.MULTILINE)
        self.assertGreater(len(controls), 60)
        with tempfile.NamedTemporaryFile("r", encoding="ascii") as notes:
            for name in PROGRAMS:
                program = BUILD / f"tests/unit/{name}_test"
                done = subprocess.run([program], env={**os.environ, "PROMWARDEN_VERDICTS": notes.name}, capture_output=True, text=True, timeout=120, check=False)
                self.assertEqual(done.returncode, 0, f"{program}\n{done.stdout[-2000:]}")
            seen = {tuple(line.split()) for line in notes}
        missing = sorted({(control, verdict) for control in controls for verdict in VERDICTS} - seen)
        self.assertEqual(missing, [], f"{len(missing)} cases are missing")


if __name__ == "__main__":
    unittest.main()
