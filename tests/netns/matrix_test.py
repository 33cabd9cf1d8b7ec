"""Who reaches a guarded port, by which way: every cell by real packets, with the guard, without rules, and with ufw-like rules to show what those miss."""

import contextlib
import pwd
import random
import select
import socket
import struct
import time
import unittest

import world
from world import CLIENT, CONTAINER, HOST, PUBLISHED, REWRITTEN, World, WorldTest, checksum, policy, wait_until

WAYS = {
    "listener of the host": (HOST, 9090),
    "published": (PUBLISHED, 9090),
    "published, remapped": (PUBLISHED, 8080),
    "address of the container": ({"trusted": CONTAINER, "untrusted": CONTAINER}, 9090),
    "redirect": (HOST, 8081),
    "stateless rewrite": (REWRITTEN, 8082),
    "tproxy": (HOST, 8083),
}
MISSED_BY_UFW = {"published", "published, remapped", "address of the container", "tproxy"}
CELLS = [(way, role, version) for way in WAYS for role in ("trusted", "untrusted") for version in (4, 6)]


def targets():
    return [(role, WAYS[way][0][role][version], WAYS[way][1]) for way, role, version in CELLS]


class Matrix(WorldTest):
    def cells(self, expected):
        """Compares every cell; `expected` says what one is by its way and role."""
        for (way, role, version), got in zip(CELLS, self.world.probe(targets(), 0.9)):
            with self.subTest(way=way, role=role, version=version):
                self.assertEqual(got, expected(way, role))

    def detours(self):
        """Container rules and detours, made anew: unguard() flushes them."""
        self.world.publish()
        self.world.divert()

    def test_without_rules_everything_answers(self):
        self.detours()
        self.cells(lambda way, role: 200)

    def test_guard_drops_the_untrusted_on_every_way(self):
        self.detours()
        agent = self.world.guard(policy())
        self.cells(lambda way, role: 200 if role == "trusted" else "timeout")
        service = agent.status()["firewall"]["services"][0]
        self.assertGreaterEqual(service["denied"], len(CELLS) // 2)
        self.assertGreaterEqual(service["allowed"], len(CELLS) // 2)

    def test_guard_rejects_the_untrusted_at_once(self):
        self.detours()
        self.world.guard(policy(service='deny = "reject"'))
        start = time.monotonic()
        self.cells(lambda way, role: 200 if role == "trusted" else "refused")
        self.assertLess(time.monotonic() - start, 0.9, "some cell waited for its time to run out")

    def test_rules_of_other_tables_do_not_open_it(self):
        self.detours()
        self.world.nft("""table inet opener {
            chain first { type filter hook prerouting priority -300; accept; }
            chain second { type filter hook input priority -10; accept; }
            chain third { type filter hook forward priority -100; accept; }
            chain silent { type filter hook prerouting priority -299; notrack; }
        }""")
        self.world.guard(policy())
        for (way, role, version), got in zip(CELLS, self.world.probe(targets(), 0.9)):
            if way == "listener of the host" or role == "untrusted":  # without tracking there is no DNAT for anybody
                with self.subTest(way=way, role=role, version=version):
                    self.assertNotEqual(got, 200) if role == "untrusted" else self.assertEqual(got, 200)

    def test_rules_at_the_input_hook_miss_what_is_not_for_it(self):
        self.detours()
        self.world.ufw_like()
        self.cells(lambda way, role: 200 if role == "trusted" or way in MISSED_BY_UFW else "timeout")

    def test_without_ipv6_sources_ipv6_is_closed(self):
        self.world.publish()
        self.world.guard(policy(sources=["10.0.0.0/8"]))
        ways = ("listener of the host", "published", "published, remapped", "address of the container")
        cells = [(way, version) for way in ways for version in (4, 6)]
        answers = self.world.probe([("trusted", WAYS[way][0]["trusted"][version], WAYS[way][1]) for way, version in cells])
        for (way, version), got in zip(cells, answers):
            with self.subTest(way=way, version=version):
                self.assertEqual(got, 200 if version == 4 else "timeout")

    def test_route_localnet_does_not_open_loopback(self):
        self.world.sysctl("host", "ipv4/conf/to_untrusted/route_localnet", 1)
        self.addCleanup(self.world.sysctl, "host", "ipv4/conf/to_untrusted/route_localnet", 0)
        self.world.sysctl("untrusted", "ipv4/conf/wan/route_localnet", 1)
        self.world.run("untrusted", "ip", "rule", "add", "pref", "1", "to", "127.0.0.1", "ipproto", "tcp", "dport", "9090", "lookup", "77")
        self.world.run("untrusted", "ip", "route", "add", "127.0.0.0/8", "via", HOST["untrusted"][4], "table", "77")
        self.world.run("untrusted", "ip", "rule", "add", "pref", "100", "lookup", "local")
        self.world.run("untrusted", "ip", "rule", "del", "pref", "0")
        attempt = ("untrusted", "127.0.0.1", 9090)
        one = lambda: connect_from(self.world, *attempt, CLIENT["untrusted"][4])
        self.assertTrue(one(), "the way over route_localnet is not there without rules")
        self.world.guard(policy())
        self.assertFalse(one())

    def test_containers(self):
        """Out of a container: to a remote Prometheus always; to the host's only where siblings are allowed."""
        self.world.publish()
        self.world.listen("trusted", 9090)
        self.addCleanup(self.world.close_listeners, 2)
        outward = [("container", CLIENT["trusted"][version], 9090) for version in (4, 6)]
        inward = [("container", address, 9090) for address in ("172.17.0.1", "fd17::1", HOST["trusted"][4], HOST["trusted"][6])]
        self.world.guard(policy())
        self.assertEqual(self.world.probe(outward, 2), [200, 200])
        self.assertEqual(self.world.probe(inward), ["timeout"] * 4)
        self.world.agent.apply(policy(firewall='sibling_containers = "allow"'))
        self.assertEqual(self.world.probe(inward + outward, 2), [200] * 6)
        self.cells_of_strangers_stay_closed()

    def cells_of_strangers_stay_closed(self):
        strangers = [("untrusted", CONTAINER[4], 9090), ("untrusted", HOST["untrusted"][4], 9090), ("untrusted", PUBLISHED["untrusted"][6], 8080)]
        self.assertEqual(self.world.probe(strangers), ["timeout"] * 3)


class InsideAContainer(unittest.TestCase):
    """A host that is a container itself: its uplink is a veth, here below a bridge. Only the default route tells that from the bridge of a container engine."""

    def setUp(self):
        self.world = World()
        self.addCleanup(self.world.close)
        self.world.add_namespace("street")
        self.world.cable("street", "up0", {}, {4: "198.51.100.2"}, gateway={4: "198.51.100.1"})
        self.world.run("host", "ip", "link", "add", "br0", "type", "bridge")
        self.world.address("host", "br0", {4: "198.51.100.1"})
        self.world.run("host", "ip", "link", "set", "br0", "up")
        self.world.run("host", "ip", "link", "set", "up0", "master", "br0")
        self.world.listen("street", 9090)

    def test_the_uplink_is_no_container(self):
        strangers = [("street", "198.51.100.1", 9090), ("street", CONTAINER[4], 9090)]
        others = [("untrusted", "198.51.100.2", 9090), ("container", HOST["trusted"][4], 9090)]  # through the host to somebody else's server; a sibling
        probed = lambda: self.world.probe(strangers + others)
        self.world.guard(policy(firewall='sibling_containers = "allow"'))
        self.assertEqual(probed(), [200, 200, "timeout", 200], "without a route br0 is a container bridge")
        self.world.run("host", "ip", "route", "add", "default", "via", "198.51.100.2")
        wait_until(lambda: probed() == ["timeout", "timeout", 200, 200], "br0 is the way out, and the agent knows")
        self.world.run("host", "ip", "route", "del", "default")
        wait_until(lambda: probed() == [200, 200, "timeout", 200], "br0 is a container bridge again")


def connect_from(some_world, role, address, port, source, seconds=0.8):
    """Whether a handshake from a chosen source address succeeds."""
    one = some_world.connection(role, address, port, source)
    if isinstance(one, OSError):
        return False
    with one:
        ready = select.select([], [one], [], seconds)[1]
        return bool(ready) and one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


class Loopback(WorldTest):
    ADDRESSES = ("127.0.0.1", "::1", HOST["trusted"][4], HOST["untrusted"][6])
    USERS = {name: pwd.getpwnam(name).pw_uid for name in ("root", "www-data", "nobody")}

    def users(self, expected):
        for name, uid in self.USERS.items():
            for address in self.ADDRESSES:
                with self.subTest(user=name, address=address):
                    self.assertEqual(self.world.http_as("host", uid, address, 9090), expected(name))

    def test_without_local_users_anyone(self):
        self.world.guard(policy())
        self.users(lambda name: 200)

    def test_local_users_are_the_only_ones(self):
        self.world.guard(policy(service='local_users = ["root", "www-data"]'))
        self.users(lambda name: "refused" if name == "nobody" else 200)
        self.assertEqual(self.world.probe([("trusted", HOST["trusted"][4], 9090), ("untrusted", HOST["untrusted"][4], 9090)]), [200, "timeout"])

    def test_input_rules_admit_every_local_user(self):
        self.world.ufw_like()
        self.users(lambda name: 200)

    def test_a_user_that_is_taken_out_loses_what_is_open(self):
        self.world.guard(policy(service='local_users = ["root", "www-data"]'))
        with live_connection(self.world, "host", "127.0.0.1") as one:
            self.assertEqual(ask(one), 200)
            self.world.agent.apply(policy(service='local_users = ["www-data"]'))
            self.assertNotEqual(ask(one), 200)


class Fragments(WorldTest):
    """SYNs in pieces and behind extension headers, made by hand: an answer is a SYN-ACK that comes back."""

    def answers(self, role, shape):
        version = 4 if shape in SHAPES4 else 6
        source, target = CLIENT[role][version], HOST[role][version]
        port = random.randrange(20_000, 60_000)
        packets = (SHAPES4 if version == 4 else SHAPES6)[shape](source, target, port)
        with self.world.inside(role):
            listener = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_TCP)
            sender = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        with listener, sender:
            for packet in packets:
                sender.sendto(packet, (target, 0))
            deadline = time.monotonic() + 0.7
            while (left := deadline - time.monotonic()) > 0:
                if not select.select([listener], [], [], left)[0]:
                    break
                segment = listener.recv(4096)
                segment = segment[(segment[0] & 15) * 4:] if version == 4 else segment
                if struct.unpack("!HH", segment[:4]) == (9090, port) and segment[13] & 0x12 == 0x12:
                    return True
        return False

    def test_every_shape(self):
        for shape in (*SHAPES4, *SHAPES6):
            with self.subTest(shape=shape, rules="none"):
                self.assertTrue(self.answers("untrusted", shape), "the shape itself does not get through")
        self.world.guard(policy())
        for shape in (*SHAPES4, *SHAPES6):
            for role in ("trusted", "untrusted"):
                with self.subTest(shape=shape, role=role):
                    self.assertEqual(self.answers(role, shape), role == "trusted")


def syn(source, target, port):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    head = struct.pack("!HHIIBBHHH", port, 9090, random.getrandbits(32), 0, 5 << 4, 0x02, 8192, 0, 0)
    pseudo = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    pseudo += struct.pack("!BBH", 0, 6, len(head)) if family == socket.AF_INET else struct.pack("!IHBB", len(head), 0, 0, 6)
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def ip4(source, target, payload, identity, offset, more):
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), identity, more << 13 | offset // 8, 64, 6, 0, socket.inet_aton(source), socket.inet_aton(target)) + payload


def pieces4(source, target, port):
    segment, identity = syn(source, target, port), random.randrange(1, 65536)
    return [ip4(source, target, segment[at:at + 8], identity, at, at + 8 < len(segment)) for at in range(0, len(segment), 8)]


def ip6(source, target, first_header, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), first_header, 64) + socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target) + payload


def options(following):
    """An options header that holds only padding."""
    return bytes([following, 0, 1, 4, 0, 0, 0, 0])


HOP_BY_HOP, FRAGMENT, DESTINATION, TCP = 0, 44, 60, 6
SHAPES4 = {
    "plain IPv4": lambda s, t, p: [ip4(s, t, syn(s, t, p), 7, 0, False)],
    "IPv4 fragments of 8 bytes": pieces4,
    "IPv4 fragments of 8 bytes, last first": lambda s, t, p: pieces4(s, t, p)[::-1],
}
SHAPES6 = {
    "plain IPv6": lambda s, t, p: [ip6(s, t, TCP, syn(s, t, p))],
    "destination options": lambda s, t, p: [ip6(s, t, DESTINATION, options(TCP) + syn(s, t, p))],
    "hop-by-hop and twice destination options": lambda s, t, p: [ip6(s, t, HOP_BY_HOP, options(DESTINATION) + options(DESTINATION) + options(TCP) + syn(s, t, p))],
    "atomic fragment": lambda s, t, p: [ip6(s, t, FRAGMENT, struct.pack("!BBHI", TCP, 0, 0, 7) + syn(s, t, p))],
}


@contextlib.contextmanager
def live_connection(some_world, role, address, port=9090):
    one = some_world.connection(role, address, port)
    with one:
        if not select.select([], [one], [], 3)[1] or (error := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            raise AssertionError(f"no connection to {address}")
        one.settimeout(1)
        yield one


def ask(one):
    """A request over a connection that stays open."""
    try:
        one.sendall(b"GET /-/ready HTTP/1.1\r\nHost: prometheus\r\n\r\n")
        answer = one.recv(4096)
        return int(answer.split()[1]) if answer else "closed"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return world.outcome(error.errno)


class Revocation(WorldTest):
    """A source that loses its trust loses its connections."""

    def revoke(self, deny, expected):
        for version, lost in ((4, "fd00:12::/48"), (6, "10.0.0.0/8")):
            with self.subTest(version=version):
                agent = self.world.guard(policy(service=f'deny = "{deny}"'))
                with live_connection(self.world, "trusted", HOST["trusted"][version]) as one:
                    self.assertEqual(ask(one), 200)
                    agent.apply(policy(sources=[lost], service=f'deny = "{deny}"'))
                    self.assertEqual(ask(one), expected)
                    if deny == "drop":
                        agent.apply(policy(service=f'deny = "{deny}"'))
                        one.settimeout(5)
                        self.assertIn(b"200", wait_until(lambda: one.recv(4096), "the connection goes on where its source is trusted again"))
                self.world.unguard()

    def test_drop_silences_it(self):
        self.revoke("drop", "timeout")

    def test_reject_resets_it(self):
        self.revoke("reject", "reset")

    def test_published(self):
        self.world.publish()
        agent = self.world.guard(policy())
        with live_connection(self.world, "trusted", PUBLISHED["trusted"][4], 8080) as one:
            agent.apply(policy(sources=["fd00:12::/48"]))
            self.assertEqual(ask(one), "timeout")

    def test_input_rules_let_it_live(self):
        self.world.ufw_like()
        with live_connection(self.world, "trusted", HOST["trusted"][4]) as one:
            self.assertEqual(ask(one), 200)
            handle = next(line.rpartition(" ")[2] for line in self.world.run("host", "nft", "-a", "list", "chain", "inet", "ufwlike", "input").stdout.splitlines()
                          if "10.0.0.0/8" in line)
            self.world.run("host", "nft", "delete", "rule", "inet", "ufwlike", "input", "handle", handle)
            self.assertEqual(ask(one), 200)
            self.assertEqual(self.world.http("trusted", HOST["trusted"][4], 9090), "timeout")


if __name__ == "__main__":
    unittest.main()
