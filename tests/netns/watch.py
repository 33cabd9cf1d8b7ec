"""What tests of the watch over the table share: the table as a value, and a stranger who knocks all the time."""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import struct
import time

from world import HOST, LIBC, parse_time

PR_SET_PDEATHSIG = 1
MARGIN = 0.02  # s; what scheduling may add between the kernel and a clock


def live_table(world):
    """The live table without handles and counts: {object: content}; None where there is none."""
    listed = world.run("host", "nft", "-j", "-s", "list", "table", "inet", "promwarden", check=False)
    if listed.returncode != 0:
        return None
    table = {}
    for entry in json.loads(listed.stdout)["nftables"]:
        (kind, value), = entry.items()
        if kind == "metainfo":
            continue
        value = {key: part for key, part in value.items() if key not in ("handle", "packets", "bytes")}
        if kind == "rule":
            table["chain", value["chain"]]["rules"].append(value)
            continue
        if "elem" in value:
            value["elem"].sort(key=str)
        table[kind, value["name"]] = value | ({"rules": []} if kind == "chain" else {})
    return table


def handle_of(world, chain, containing=""):
    """The handle of the first rule of a chain of ours whose text contains something."""
    for line in world.run("host", "nft", "-a", "list", "chain", "inet", "promwarden", chain).stdout.splitlines():
        if "# handle" in line and not line.lstrip().startswith(("chain", "table")) and containing in line:
            return line.rpartition(" ")[2]
    raise AssertionError(f"no rule in {chain} contains {containing!r}")


class Stranger:
    """A process that tries to connect every half millisecond, and remembers each answer: when the try began, and when the answer was seen."""

    def __init__(self, world, target=HOST["untrusted"][4]):
        self.world, self.target = world, target
        self.answered, self.tries = [], 0

    def __enter__(self):
        self.results, results = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            try:
                LIBC.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
                os.close(self.results)
                os.nice(-15)  # it must knock while the machine is busy, too
                self.knock(results)
            finally:
                os._exit(1)
        os.close(results)
        if os.read(self.results, 1) != b"!":
            raise RuntimeError("the stranger did not start")
        return self

    def knock(self, results):
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        answered, waiting, tries = [], {}, 0
        poll = select.poll()
        with self.world.inside("untrusted"):
            os.write(results, b"!")
            while not stopped:
                one = socket.socket()
                one.setblocking(False)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                begun = time.time()
                with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                    one.connect((self.target, 9090))
                tries += 1
                waiting[one.fileno()] = (one, begun)
                poll.register(one, select.POLLOUT)
                time.sleep(0.0004)
                for fd, _ in poll.poll(0):
                    answered.append((waiting[fd][1], time.time()))
                    poll.unregister(fd)
                    waiting.pop(fd)[0].close()
                for fd in [fd for fd, (_, since) in waiting.items() if time.time() - since > 0.05]:
                    poll.unregister(fd)
                    waiting.pop(fd)[0].close()
        with os.fdopen(results, "w") as out:
            json.dump([tries, answered], out)
        os._exit(0)

    def __exit__(self, *_):
        os.kill(self.child, signal.SIGTERM)
        with os.fdopen(self.results) as results:
            text = results.read()
        os.waitpid(self.child, 0)
        self.tries, self.answered = json.loads(text) if text else (0, [])

    def answered_outside(self, heals):
        """Those answers that were certainly not within the gap of any heal."""
        windows = [(parse_time(heal["time"]) - heal["gap_us"] / 1e6 - MARGIN, parse_time(heal["time"]) + MARGIN) for heal in heals]
        return [(begun, seen) for begun, seen in self.answered if not any(begun <= end and start <= seen for start, end in windows)]
