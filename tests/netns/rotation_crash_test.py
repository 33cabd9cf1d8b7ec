#!/usr/bin/python3
"""An issue, a renewal, a rekey and a change of the authority, interrupted: killed at every step, an error at every step, a full disk. Nothing is half done after that,
and the next run completes it. What must hold is `Interrupted.published`, after each of them."""

import base64
import contextlib
import re
import shutil
import ssl
import time
import unittest
from pathlib import Path

import rotation
from rotation import ALL, PROMETHEUS, TLS, WEB, WEB_TEXT, WithHost, run

STEPS = ("mkdir", "mkdirat", "openat", "write", "fchown", "fchmod", "fsync", "link", "linkat", "rename", "renameat", "renameat2", "symlinkat", "unlink", "unlinkat")
ERRORS = {"ENOSPC": "openat", "EIO": "fsync", "EDQUOT": "write", "EROFS": "linkat", "EMFILE": "openat"}  # and the step that the short run tries them at
CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)")


def shows(certificate, key):
    """A handshake in memory with that pair, by a client that knows the authorities, the name, and RFC 5280 in its strict reading. The serial number."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)  # refuses a key that does not fit
    client = ssl.create_default_context(cafile=TLS / "authorities.pem")
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    upstream, downstream = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(downstream, upstream, server_hostname="localhost"), server.wrap_bio(upstream, downstream, server_side=True)]
    for _ in range(4):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[0].getpeercert()["serialNumber"]


def complete_key(text):
    """Whether that is one whole PKCS#8 key: its outermost length is that of all of it."""
    match = re.fullmatch(r"-----BEGIN PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END PRIVATE KEY-----\n", text)
    der = base64.b64decode(match[1]) if match else b"\0\0"
    return der[0] == 0x30 and len(der) == (der[1] + 2 if der[1] < 0x80 else der[2] + 3)


class Interrupted(WithHost):
    def snapshot(self):
        self.saved = self.host.directory / "saved"
        self.saved.mkdir()
        for name, path in (("prometheus", PROMETHEUS), ("state", self.host.state)):
            path.mkdir(exist_ok=True)
            run("cp", "-a", path, self.saved / name)
        self.used = set()  # serial numbers

    def restore(self):
        run("sh", "-c", f"rm -rf {PROMETHEUS}/* {PROMETHEUS}/.[!.]* {self.host.state} && cp -a {self.saved}/prometheus/. {PROMETHEUS} && cp -a {self.saved}/state {self.host.state}")

    def traced(self, words, *injection):
        """The command under strace, and what was traced: pairs of a call's name and its line."""
        log = self.host.directory / "trace"
        done = self.host.cert(*words, check=False, before=("strace", "-f", "-qq", "-o", log, "-e", f"trace={','.join(STEPS)}", *injection))
        calls = [(match[1], line) for line in log.read_text(errors="replace").splitlines() if (match := CALL.match(line)) or (match := re.match(r"^\d+ +(\w+)\(", line))]
        self.no_key_was_open(calls)
        return done, calls

    def no_key_was_open(self, calls):
        """The mode of a file with a private key in it, from its first byte on, whatever it was called."""
        modes = {}
        for name, line in calls:
            match = CALL.match(line)
            if not match:
                continue
            arguments, result = match[2], match[3]
            if name == "openat" and int(result) >= 0:
                made = re.search(r"(?:O_CREAT|__O_TMPFILE|O_TMPFILE)\S*, 0(\d+)$", arguments)
                modes[result] = [int(made[1], 8)] if made else []
            if name == "fchmod":
                modes.setdefault(arguments.split(",")[0], []).append(int(arguments.split(", ")[1], 8))
            if name == "write" and "PRIVATE KEY" in arguments:
                keys = modes.setdefault(arguments.split(",")[0], [])
                self.assertTrue(keys, f"it was made here: {line}")
                modes[arguments.split(",")[0]] = keys = type("Key", (list,), {})(keys)
        for made in modes.values():
            if type(made) is not list:
                self.assertFalse([oct(mode) for mode in made if mode & 0o007], "a key was open to others")

    def points(self, words):
        """Where it can be interrupted, from the moment on at which the program comes to its own files: pairs of a step and its number. First those that change something,
        then those that only open something to read it: the first and the last of each kind, since a kill there is a kill at the next change."""
        self.restore()
        done, calls = self.traced(words)
        self.assertEqual(done.returncode, 0, done.stderr)
        begins = next(i for i, (_, line) in enumerate(calls) if str(self.host.state) in line)
        counts, changing, reading = {}, [], {}
        for i, (name, line) in enumerate(calls):
            counts[name] = counts.get(name, 0) + 1
            if i < begins:
                continue
            if name != "openat" or re.search("O_CREAT|O_TMPFILE|O_WRONLY|O_RDWR", line):
                changing.append((name, counts[name]))
            else:
                reading.setdefault(re.sub(r"^\d+ +|\(\d+|= -?\d+.*", "", line), []).append((name, counts[name]))
        steps = {name for name, _ in changing}
        self.assertIn("fsync", steps)
        self.assertTrue({"renameat", "renameat2", "rename"} & steps)
        return changing, sorted({point for all_of_kind in reading.values() for point in (all_of_kind[0], all_of_kind[-1])})

    def published(self):
        """What must hold at any moment, and the serial number of the pair that web.yml names; None: it names none."""
        text = WEB.read_text()
        self.assertTrue(text.startswith(WEB_TEXT), text)
        named = dict(re.findall(r"^  (cert_file|key_file): (\S+)$", text, re.MULTILINE))
        self.assertIn(len(named), (0, 2), text)
        for path in [*TLS.rglob("*"), *self.host.state.rglob("*")]:
            if path.is_file() and not path.is_symlink() and b"PRIVATE KEY" in (content := path.read_bytes()):
                self.assertEqual(path.stat().st_mode & 0o007, 0, f"{path} is open to others")
                if not path.parent.name.startswith("."):
                    self.assertTrue(complete_key(content.decode()), f"{path} is half written")
        if not named:
            return None
        self.assertEqual(Path(named["cert_file"]).parent, Path(named["key_file"]).parent)
        return shows(named["cert_file"], named["key_file"])

    def converges(self, words, what):
        done = self.host.cert(*words, check=False)
        self.assertEqual(done.returncode, 0, f"{what}: the next run: {done.stderr}")
        serial = self.published()
        self.assertIsNotNone(serial, what)
        self.assertNotIn(serial, self.used, f"{what}: a serial number was used again")
        self.used.add(serial)
        left = [path for top in (TLS, self.host.state) for path in top.rglob(".*")] + list(PROMETHEUS.glob("*.promwarden")) + list(PROMETHEUS.glob("*.new"))
        self.assertEqual(left, [], what)
        self.assertEqual(list((self.host.state / "tls/intents").iterdir()), [], what)

    def interrupted(self, words, what, *injection):
        """One run with that injection, what must hold after it, and the next run. True where it said that it was done."""
        self.restore()
        done, _ = self.traced(words, "-e", *injection)
        serial = self.published()
        self.assertTrue(self.old is None or serial is not None, what)
        if done.returncode == 0:
            self.assertNotEqual(serial, self.old, f"{what}: it said that it was done")
        elif done.returncode == 4 and words[0] != "rotate-ca":
            self.assertGreater(self.host.list()["prometheus"]["failed_attempts"], 0, f"{what}: a failed run makes the next one wait")
        self.converges(words, what)
        return done.returncode == 0

    def matrix(self, *words):
        started = time.monotonic()
        changing, reading = self.points(words)
        self.restore()
        self.old = self.published()
        steps = {name: [point for point in changing if point[0] == name] for name, _ in changing}
        if ALL:
            kills = [("KILL", *point) for point in changing]
            errors = [(error, *point) for error in ERRORS for point in changing] + [(error, *point) for error in ("EIO", "EMFILE") for point in reading]
        else:
            kills = [("KILL", *point) for points in steps.values() for point in {points[0], points[-1]}]
            errors = [(error, *steps[at][len(steps[at]) // 2]) for error, at in ERRORS.items()]
        tolerated = 0
        for event, step, number in kills + errors:
            what = f"{' '.join(words)}: {event} at {step} {number}"
            with self.subTest(what):
                tolerated += self.interrupted(words, what, f"inject={step}:{'signal=KILL' if event == 'KILL' else f'error={event}'}:when={number}") and event != "KILL"
        print(f"{' '.join(words)}: {len(changing)} changes, {len(reading)} kinds of reading; {len(kills)} kills, {len(errors)} errors ({tolerated} of them tolerated), {time.monotonic() - started:.0f} s", flush=True)

    def test_issue(self):
        self.snapshot()
        self.matrix("issue", "prometheus")

    def test_renewal(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix("rotate", "prometheus")

    def test_rekey(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix("rotate", "prometheus", "--rekey")

    def test_change_of_the_authority(self):
        self.host.cert("issue", "prometheus")
        self.snapshot()
        self.matrix("rotate-ca")


class FullDisk(Interrupted):
    """A real ext4 without a free block, below what Prometheus reads and below what promwarden keeps."""

    def mount(self, place):
        image = self.host.directory / f"image{place.name}"
        with open(image, "wb") as file:
            file.truncate(4 << 20)
        run("mkfs.ext4", "-q", "-F", "-N", "256", image)
        saved = self.host.directory / f"kept{place.name}"
        run("cp", "-a", place, saved)
        if run("mount", "-o", "loop", image, place, check=False).returncode != 0:
            print("no loop device: a full tmpfs instead of a full ext4")
            run("mount", "-t", "tmpfs", "-o", "size=512k", "none", place)
        self.addCleanup(run, "umount", place)
        run("cp", "-a", f"{saved}/.", place)

    def fill(self, place):
        filler = place / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1 << 9, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        return filler

    def full(self, place):
        self.host.cert("issue", "prometheus")
        self.used = set()
        self.mount(place)
        before = self.published()
        filler = self.fill(place)
        done = self.host.cert("rotate", "prometheus", "--rekey", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("No space left", done.stderr)
        self.assertEqual(self.published(), before)
        filler.unlink()
        self.converges(("rotate", "prometheus", "--rekey"), "after a full disk")

    def test_what_prometheus_reads(self):
        self.full(PROMETHEUS)

    def test_what_promwarden_keeps(self):
        self.full(self.host.state)


for inherited in [name for name in dir(Interrupted) if name.startswith("test_")]:
    setattr(FullDisk, inherited, None)


if __name__ == "__main__":
    rotation.main(__file__, "strace", "mkfs.ext4")
