"""Changes of a policy while packets rain: no trusted one is lost, no untrusted one passes, counters go on."""

import ctypes
import mmap
import os
import signal
import socket
import struct
import threading
import time
import unittest

from world import ALL, HOST, LIBC, World, wait_until

CHANGES = 1000 if ALL else 200
SOURCES = 2000    # CIDRs in the list; the trusted client's is always among them
REPLACED = 100    # of them, by each change
PORT = 9090
SO_RCVBUFFORCE = 33
SENDERS = 2       # of each kind
BURST = 4         # packets between two pauses of a sender
PAUSE = 0.0002    # s
PR_SET_PDEATHSIG = 1

POLICY = """schema = 1
[firewall]
ownership = "off"
[firewall.sources]
trusted = "@{list}"
[[firewall.service]]
name = "metrics"
protocol = "udp"
ports = [9090]
allow = ["trusted"]
"""


class Child:
    """A process of ours in a namespace. It ends when stop() says so, and leaves what it counted in shared memory."""

    def __init__(self, world, role, work):
        self.count = mmap.mmap(-1, mmap.PAGESIZE)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
                self.stopped = False
                signal.signal(signal.SIGTERM, self.end)
                with world.inside(role):
                    work(self)
                os._exit(0)
            finally:
                os._exit(1)

    def end(self, *_):
        self.stopped = True

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        _, status = os.waitpid(self.pid, 0)
        if status != 0:
            raise RuntimeError("a sender failed")
        return self.value()

    def value(self):
        return struct.unpack("=Q", self.count[:8])[0]


def sender(marker):
    """Sends numbered packets: marker, number."""
    def work(self):
        number = 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.connect((HOST[marker[0]][4], PORT))
            while not self.stopped:
                for _ in range(BURST):
                    one.send(struct.pack("=cBQ", marker[0][:1].encode(), marker[1], number))
                    number += 1
                self.count[:8] = struct.pack("=Q", number)
                time.sleep(PAUSE)
    return work


class Receiver(threading.Thread):
    """A UDP service of the host, with room for whatever it is not quick enough for."""

    def __init__(self, world):
        super().__init__(daemon=True)
        with world.inside("host"):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 512 << 20)
        self.socket.bind(("0.0.0.0", PORT))
        self.socket.setblocking(False)
        self.received = {}  # (kind, sender): numbers
        self.stopped = threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.05):
            self.drain()

    def drain(self):
        while True:
            try:
                kind, index, number = struct.unpack("=cBQ", self.socket.recv(64))
            except BlockingIOError:
                return
            self.received.setdefault((kind, index), []).append(number)

    def finish(self):
        """Everything that arrived."""
        self.stopped.set()
        self.join()
        self.drain()
        return self.received

    def close(self):
        self.finish()
        self.socket.close()


class Flood(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World(prometheus=False)
        cls.addClassCleanup(cls.world.close)

    def setUp(self):
        self.receiver = Receiver(self.world)
        self.addCleanup(self.receiver.close)
        self.addCleanup(self.world.unguard)
        self.agent = self.world.guard()
        self.list = self.agent.directory / "sources.txt"
        self.rotate(0)
        self.agent.write(POLICY.format(list=self.list))
        self.agent.apply()

    def rotate(self, step):
        """The list of sources after a number of changes: /32s, /24s and /20s of strangers, and the trusted client's network."""
        first = step * REPLACED
        lines = ["10.0.0.0/24"]
        for i in range(first, first + SOURCES - 1):
            kind, at = i % 3, i // 3
            lines.append(f"198.18.{at // 256 % 256}.{at % 256}/32" if kind == 0 else f"{100 + at // 65536 % 8}.{at // 256 % 256}.{at % 256}.0/24" if kind == 1
                         else f"{130 + at // 4096 % 8}.{at // 16 % 256}.{at % 16 * 16}.0/20")
        new = self.list.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n", encoding="ascii")
        new.rename(self.list)

    def counts(self):
        service = self.agent.status()["firewall"]["services"][0]
        return service["allowed"], service["denied"]

    def flood(self, meanwhile):
        """Sends from both sides while something happens; returns what was sent and what arrived."""
        before = self.counts()
        children = {(role, index): Child(self.world, role, sender((role, index))) for role in ("trusted", "untrusted") for index in range(SENDERS)}
        try:
            wait_until(lambda: all(child.value() > 10 for child in children.values()), "all send")
            meanwhile()
        finally:
            sent = {key: child.stop() for key, child in children.items()}
        time.sleep(0.2)
        received = self.receiver.finish()
        after = self.counts()
        trusted = sum(sent["trusted", index] for index in range(SENDERS))
        untrusted = sum(sent["untrusted", index] for index in range(SENDERS))
        self.assertGreater(min(sent.values()), 100)
        lost = {index: sorted(set(range(sent["trusted", index])) - set(received.get((b"t", index), [])))[:20] for index in range(SENDERS)}
        self.assertEqual(lost, {index: [] for index in range(SENDERS)}, "trusted packets were lost")
        self.assertEqual([key for key in received if key[0] == b"u"], [], "untrusted packets passed")
        self.assertEqual((after[0] - before[0], after[1] - before[1]), (trusted, untrusted), "the counters are not what was sent")

    def test_control_without_changes(self):
        self.flood(lambda: time.sleep(2))

    def test_changes(self):
        self.flood(lambda: self.change("Reload"))

    def test_changes_of_the_structure(self):
        """A prefix length that comes and goes, and another service: chains, sets and rules change, not only elements."""
        self.flood(self.change_structure)

    def change_structure(self):
        more = POLICY + '[[firewall.service]]\nname = "other"\nports = ["{port}"]\nallow = ["trusted"]\n'
        for step in range(CHANGES // 10):
            self.rotate(step)
            with open(self.list, "a", encoding="ascii") as more_sources:
                more_sources.write(f"44.0.0.0/{9 + step % 7}\n")
            self.agent.write((POLICY if step % 2 else more).format(list=self.list, port=f"{9100 + step % 5}-9110"))
            self.agent.call("Reload")

    def change(self, method):
        last = (0, 0)
        for step in range(1, CHANGES + 1):
            self.rotate(step)
            self.assertNotEqual(self.agent.call(method)["plan"]["changes"], [], "nothing was changed")
            if step % 50 == 0:
                now = self.counts()
                self.assertTrue(now[0] > last[0] and now[1] > last[1], f"the counters went from {last} to {now}")
                last = now


if __name__ == "__main__":
    unittest.main()
