"""The three completions in the shells they are for: what they offer is what the program's own --help lists. zsh and fish are installed by tests/run --all."""

import functools
import os
import pty
import re
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

COMPLETIONS = Path(__file__).resolve().parents[2] / "packaging/completions"
BUILD = os.environ.get("PROMWARDEN_BUILD")
CONTROL = "network.packet-filter"


@functools.cache
def program(*words: str) -> str:
    return subprocess.run([Path(BUILD, "src/bin/promwarden"), *words], capture_output=True, text=True, timeout=60, check=True).stdout


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(BUILD, 'src/bin').resolve()}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}


def bash(lines: list[str]) -> list[set[str]]:
    script = f"source {COMPLETIONS}/promwarden.bash\ncompopt() {{ COMPREPLY=(FILES); }}\n"  # outside of a completion, bash knows no compopt
    for line in lines:
        words = line.split(" ")
        script += f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; _promwarden; echo \"${{COMPREPLY[@]}}\"\n"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True, env=environment())
    return [set(answer.split()) for answer in done.stdout.splitlines()]


def fish(lines: list[str]) -> list[set[str]]:
    script = f"source {COMPLETIONS}/promwarden.fish\n" + "".join(f"complete -C '{line}'\necho END\n" for line in lines)
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(["fish", "--no-config", "-c", script], cwd=home, capture_output=True, text=True, timeout=120, check=True, env=environment() | {"HOME": home})
    return [{row.split("\t")[0] for row in answer.splitlines()} for answer in done.stdout.split("END\n")[:-1]]


ZSHRC = """autoload -Uz compinit && fpath=({completions} $fpath) && compinit -D -u
unsetopt auto_list auto_menu
compadd() {{
    [[ "${{(j: :)@[1,(i)(-|--)]}}" == *-[OAD]\\ * ]] || {{ local -a hits; builtin compadd -A hits "$@"; print -rl -- $hits >>{home}/offered }}
    builtin compadd "$@"
}}
offered() {{ BUFFER=''; print END >>{home}/offered }}
zle -N offered && bindkey '^X' offered
print END >>{home}/offered
"""


def zsh(lines: list[str]) -> list[set[str]]:
    """An interactive shell on a terminal: its line is typed, then Tab, then a key that ends the list."""
    with tempfile.TemporaryDirectory() as home:
        Path(home, ".zshrc").write_text(ZSHRC.format(completions=COMPLETIONS, home=home), encoding="utf-8")
        offered = Path(home, "offered")
        terminal, other = pty.openpty()
        with subprocess.Popen(["zsh", "-i"], stdin=other, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home, start_new_session=True,
                              env=environment() | {"HOME": home, "ZDOTDIR": home}) as shell:
            try:
                for number, line in enumerate(["", *lines]):
                    deadline = time.monotonic() + 60
                    if number > 0:
                        os.write(terminal, f"{line}\t\x18".encode())
                    while not offered.exists() or offered.read_text(encoding="utf-8").count("END\n") <= number:
                        if time.monotonic() > deadline:
                            raise AssertionError(f"zsh says nothing to {line!r}")
                        time.sleep(0.01)
            finally:
                shell.kill()
                os.close(terminal)
                os.close(other)
        return [set(answer.split()) for answer in offered.read_text(encoding="utf-8").split("END\n")[1:-1]]


@unittest.skipUnless(BUILD, "PROMWARDEN_BUILD names no build")
class Completions(unittest.TestCase):
    def offers(self, shell) -> None:
        rows = re.findall(r"^  ([a-z-]+(?: [a-z-]+){0,2}) .*?  \S", program("--help").partition("\nCommands\n")[2].partition("\nOptions\n")[0], re.MULTILINE)
        firsts = {row.split()[0] for row in rows}
        self.assertIn("check", firsts)
        lines = {"promwarden ": lambda got: self.assertEqual(firsts, {one for one in got if not one.startswith("-")}),
                 "promwarden apply --co": lambda got: self.assertEqual(got, {"--confirm-within"}),
                 "promwarden check --only network.p": lambda got: self.assertEqual(got, {CONTROL, "network.published-ports"}),
                 "promwarden --state plan apply --co": lambda got: self.assertEqual(got, {"--confirm-within"}),
                 "promwarden explain ": lambda got: self.assertIn(CONTROL, got),
                 "promwarden check --fail-on ": lambda got: self.assertEqual(got, {"critical", "high", "medium", "low"}),
                 "promwarden lint --as ": lambda got: self.assertEqual(got, set(re.search(r"suggests: (.+)", program("lint", "--help"))[1].split(", "))),
                 "promwarden policy ": lambda got: self.assertLessEqual({"check", "show"}, got)}
        for row in rows:
            lines[f"promwarden {row} --"] = lambda got, row=row: self.assertEqual(
                {one for one in got if one.startswith("--")}, set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", program(*row.split(), "--help"), re.MULTILINE)))
        answers = shell(list(lines))
        self.assertEqual(len(answers), len(lines))
        for (line, holds), answer in zip(lines.items(), answers):
            with self.subTest(line):
                holds(answer)

    def test_bash(self):
        self.offers(bash)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed: tests/run --all")
    def test_zsh(self):
        self.offers(zsh)

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed: tests/run --all")
    def test_fish(self):
        self.offers(fish)


if __name__ == "__main__":
    unittest.main()
