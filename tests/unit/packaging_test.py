"""Manual pages, completions and the program name the same commands; the unit stays as closed as it was."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
BUILD = os.environ.get("PROMWARDEN_BUILD")


def text(name: str) -> str:
    return (PACKAGING / name).read_text(encoding="utf-8")


def bash_commands() -> set[str]:
    return set(re.search(r"commands='([^']+)'", text("completions/promwarden.bash"))[1].split())


def options(words: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", words.replace("\\-", "-")))


class Words(unittest.TestCase):
    def test_completions_and_manual_name_the_same_commands(self):
        commands = bash_commands()
        self.assertIn("check", commands)
        self.assertEqual(set(re.findall(r"^        '([a-z-]+):", text("completions/_promwarden"), re.MULTILINE)), commands)
        self.assertEqual(set(re.search(r"set -l commands (.+)", text("completions/promwarden.fish"))[1].split()), commands)
        manual = text("man/promwarden.1").partition(".SH COMMANDS")[2].partition(".SH OPTIONS")[0]
        self.assertEqual(set(word.replace("\\-", "-") for word in re.findall(r"^\.TP\n(?:\.B |\\fB)([a-z]+(?:\\-[a-z]+)?)", manual.replace("rotate\\-ca", "rotate"), re.MULTILINE)), commands)

    def test_completions_and_manual_name_the_same_options(self):
        manual = options(text("man/promwarden.1").partition(".SH OPTIONS")[2].partition(".SH EXIT STATUS")[0])
        self.assertEqual(options(text("completions/promwarden.bash")), manual)
        self.assertEqual(options(text("completions/_promwarden")), manual)
        fish = set(re.findall(r" -l ([a-z-]+)", text("completions/promwarden.fish")))
        self.assertEqual({"--" + name for name in fish - {"commands", "none", "used"}}, manual)

    @unittest.skipUnless(BUILD, "PROMWARDEN_BUILD names no build")
    def test_the_program_has_every_command(self):
        program = Path(BUILD, "src/bin/promwarden")
        for command in sorted(bash_commands()):
            with self.subTest(command):
                done = subprocess.run([program, command, "--help"], capture_output=True, text=True, timeout=20, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(BUILD, "PROMWARDEN_BUILD names no build")
    def test_the_other_manuals_name_the_options_of_their_programs(self):
        for name in ("promwardend", "promwarden-probe", "promwarden-metrics"):
            with self.subTest(name):
                printed = subprocess.run([Path(BUILD, "src/bin", name), "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
                manual = text(f"man/{name}.8").partition(".SH OPTIONS")[2].partition("\n.SH ")[0]
                self.assertEqual(options(manual) - {"--help", "--version"}, options(printed.partition("\n")[0]))

    def test_the_manual_names_every_method_of_the_socket_and_who_may_call_it(self):
        rows = dict(re.findall(r'\{"([A-Z]\w+)", Access::(\w+),', (PACKAGING.parent / "src/agent/api.cpp").read_text(encoding="utf-8")))
        self.assertEqual(rows["Status"], "anyone")
        everybody, _, root = text("man/promwardend.8").partition("may call\n")[2].partition("are for root.")[0].partition(";\n")
        for words, access in ((everybody, "anyone"), (root, "root")):
            self.assertEqual(set(re.findall(r"[A-Z]\w{2,}", words)), {name for name, who in rows.items() if who == access})


@unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze here")
class Unit(unittest.TestCase):
    def test_the_boot_waits_for_no_bus_and_comes_after_those_who_flush(self):
        for name in ("promwardend.service", "promwarden-early.service"):
            after = " ".join(re.findall(r"^After=(.*)$", text(f"systemd/{name}.in"), re.MULTILINE)).split()
            self.assertLessEqual({"nftables.service", "netfilter-persistent.service", "ufw.service"}, set(after), name)
            self.assertFalse({"dbus.service", "dbus.socket", "firewalld.service", "network.target"} & set(after), name)

    def exposure(self, name, most):
        """The unit's score, ten times as large, is at most that."""
        with tempfile.TemporaryDirectory() as directory:
            unit = Path(directory, name)
            unit.write_text(text(f"systemd/{name}.in").replace("@sbindir@", "/usr/sbin").replace("@libexecdir@", "/usr/libexec/promwarden"), encoding="utf-8")
            done = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={most}", unit], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-300:] + done.stderr)

    def test_exposure_is_at_most_2_1(self):
        self.exposure("promwardend.service", 21)
        self.exposure("promwarden-early.service", 21)

    def test_exposure_of_what_speaks_to_strangers_is_at_most_1_0(self):
        self.exposure("promwarden-probe.service", 10)
        self.exposure("promwarden-metrics.service", 10)


if __name__ == "__main__":
    unittest.main()
