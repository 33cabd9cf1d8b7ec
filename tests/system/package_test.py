"""The .deb as it is shipped: built twice in two directories, and what Debian's own checkers say about it. PROMWARDEN_FULL_DEB names a directory with `build.log`
and the packages where it was built already."""

import hashlib
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import SOURCE, run  # noqa: E402

PROGRAMS = ["usr/bin/promwarden", "usr/sbin/promwardend", "usr/sbin/promwarden-probe", "usr/libexec/promwarden/promwarden-early"]


@unittest.skipUnless(machine.ALL, "builds the package as it is shipped: PROMWARDEN_ALL")
class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.work.cleanup)
        if given := os.environ.get("PROMWARDEN_FULL_DEB"):
            cls.directory = Path(given)
        else:
            cls.directory = cls.build("first")
        cls.deb = next(cls.directory.glob("promwarden_*.deb"))
        cls.tree = Path(cls.work.name, "tree")
        run("dpkg-deb", "-x", cls.deb, cls.tree)

    @classmethod
    def build(cls, name):
        """In a directory of another name and length."""
        directory, temporary = Path(cls.work.name, name), Path(cls.work.name, f"tmp-{name}")
        directory.mkdir()
        temporary.mkdir()
        done = run(SOURCE / "packaging/build-deb", directory, env={**os.environ, "TMPDIR": str(temporary)}, timeout=3600)
        (directory / "build.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        return directory

    def test_lintian_has_no_error_and_no_warning(self):
        done = run("lintian", "-EvIL", "+pedantic", "--allow-root", self.deb, check=False)
        self.assertEqual([line for line in done.stdout.splitlines() if line.startswith(("E:", "W:"))], [])
        self.assertIn("Processing binary package promwarden", done.stdout + done.stderr)

    def test_every_compiler_call_was_hardened(self):
        done = run("blhc", "--all", self.directory / "build.log", check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])

    def test_every_program_is_hardened(self):
        for program in PROGRAMS:
            with self.subTest(program):
                # Of control flow, Debian's own start files lack the mark, so that no program can have it as a whole.
                done = run("hardening-check", "--nocfprotection", self.tree / program, check=False)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertIn("endbr64", run("objdump", "-d", "--no-show-raw-insn", self.tree / program).stdout)

    def test_two_builds_are_the_same(self):
        other = next(self.build("second-of-two").glob("promwarden_*.deb"))
        self.assertEqual(hashlib.sha256(other.read_bytes()).hexdigest(), hashlib.sha256(self.deb.read_bytes()).hexdigest())


if __name__ == "__main__":
    unittest.main()
