#!/usr/bin/python3
"""Runs test programs and counts their tests.

    tally.py [--only PATTERN] COUNTS meson BUILD        every test of a Meson build, except suite "slow"
    tally.py [--only PATTERN] COUNTS files FILE...      unittest files (*.py) and executables
    tally.py [--only PATTERN] COUNTS program NAME COMMAND...   anything; its output is shown

Appends "passed failed skipped" to the file COUNTS, a line for each program. Counts come from the summary that the program prints (doctest, unittest, or
"N passed, N failed"); a program without one is one test. A program that fails or ends in a crash never counts as less than one failure.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).resolve().parents[1]
TIMEOUT = 3600 if os.environ.get("PROMWARDEN_ALL") else 900
ALONE = {"netns/flood_test", "netns/tamper_test"}
PRINTING = threading.Lock()
DOCTEST = re.compile(r"^\[doctest\] test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped", re.MULTILINE)
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\n(?:OK|FAILED|NO TESTS RAN)(?: \((.*)\))?$", re.MULTILINE)
PLAIN = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.MULTILINE)


def count(output: str, status: int) -> tuple[int, int, int]:
    """Passed, failed and skipped tests of one program, from its output and exit status."""
    passed = failed = skipped = found = 0
    for _, ok, bad, left_out in DOCTEST.findall(output):
        found, passed, failed, skipped = found + 1, passed + int(ok), failed + int(bad), skipped + int(left_out)
    for ran, detail in UNITTEST.findall(output):
        numbers = {name: int(number) for name, number in re.findall(r"([a-z ]+)=(\d+)", detail.replace(", ", ","))}
        bad = sum(numbers.get(name, 0) for name in ("failures", "errors", "unexpected successes"))
        left_out = numbers.get("skipped", 0)
        found, passed, failed, skipped = found + 1, passed + max(0, int(ran) - bad - left_out), failed + bad, skipped + left_out
    for ok, bad, left_out in PLAIN.findall(output) if not found else []:
        found, passed, failed, skipped = found + 1, passed + int(ok), failed + int(bad), skipped + int(left_out or 0)
    if not found and status == 0:
        return 1, 0, 0
    ran_nothing = passed + failed + skipped == 0
    return passed, max(failed, 1 if status != 0 or ran_nothing else 0), skipped


def execute(command: list[str], environment: dict[str, str], show: bool) -> tuple[int, str]:
    """Runs a command in a session of its own, so that a hung one can be ended with its children."""
    with subprocess.Popen(command, cwd=TREE, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        timer = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        lines = []
        for line in process.stdout:
            lines.append(line.decode(errors="replace"))
            if show:
                print(lines[-1], end="", flush=True)
        status = process.wait()
        timer.cancel()
    return status, "".join(lines)


class Program(NamedTuple):
    name: str
    command: list[str]
    environment: dict[str, str] = {}
    show: bool = False


def run(program: Program, counts: str) -> None:
    start = time.monotonic()
    status, output = execute(program.command, program.environment, program.show)
    passed, failed, skipped = count(output, status)
    said = [f"{program.name} ... {passed} passed, {failed} failed, {skipped} skipped ({time.monotonic() - start:.1f} s)" + (f", exit status {status}" if status else "")]
    said += [f"    {reason}" for reason in re.findall(r"^(.*\.\.\. skipped .*)$", output, re.MULTILINE)]
    if failed and not program.show:
        said += [f"    {line}" for line in output.splitlines()[-200:]]
    with PRINTING:
        print("\n".join(said), flush=True)
        with open(counts, "a", encoding="ascii") as file:
            print(passed, failed, skipped, file=file)


def run_all(programs: list[Program], counts: str) -> None:
    """As many at a time as there are processors: most of them wait for something. Then, one by one, those that time what they do."""
    alone = [program for program in programs if program.name in ALONE]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done in [pool.submit(run, program, counts) for program in programs if program not in alone]:
            done.result()
    for program in alone:
        run(program, counts)


def meson(build: str) -> list[Program]:
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, check=True).stdout)
    programs = []
    for test in sorted(tests, key=lambda test: test["name"]):
        suites = [suite.rpartition(":")[2] for suite in test["suite"]]
        if "slow" not in suites:
            programs.append(Program("/".join([*suites, test["name"]]), test["cmd"], test["env"]))
    return programs


def files(paths: list[str]) -> list[Program]:
    """Each as a program of its own: some make namespaces for themselves before they do anything."""
    return [Program(f"{path.parent.name}/{path.stem}", [sys.executable, str(path), "-v"] if path.suffix == ".py" else [str(path)]) for path in map(Path, paths)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    parser.add_argument("counts")
    parser.add_argument("kind", choices=["meson", "files", "program"])
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if arguments.kind == "meson":
        programs = meson(arguments.rest[0])
    elif arguments.kind == "files":
        programs = files(arguments.rest)
    else:
        programs = [Program(arguments.rest[0], arguments.rest[1:], show=True)]
    run_all([program for program in programs if arguments.only in program.name], arguments.counts)


if __name__ == "__main__":
    main()
