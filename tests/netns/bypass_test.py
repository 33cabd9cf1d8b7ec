"""Control network.bypass: what can lead packets around the filter is named, and what the filter covers is no failure."""

import contextlib
import ctypes
import os
import socket
import struct
import unittest

from world import LIBC, World, policy, require, wait_until

CONTROL = "network.bypass"
SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_PROG_LOAD, BPF_PROG_TYPE_XDP = 5, 6
RTM_SETLINK, NLM_F_REQUEST, NLM_F_ACK = 19, 1, 4
IFLA_XDP, IFLA_XDP_FD, IFLA_XDP_FLAGS, XDP_FLAGS_SKB_MODE = 43, 1, 3, 2


def attribute(kind, content):
    return struct.pack("=HH", 4 + len(content), kind) + content + b"\0" * (-len(content) % 4)


def xdp_pass():
    """A program that lets every packet pass: r0 = XDP_PASS; exit."""
    instructions = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0), 16)
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack("=IIQQ", BPF_PROG_TYPE_XDP, 2, ctypes.addressof(instructions), ctypes.addressof(licence)).ljust(128, b"\0")
    fd = LIBC.syscall(SYS_BPF[os.uname().machine], BPF_PROG_LOAD, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "cannot load an XDP program")
    return fd


class Bypass(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        require("tc")
        cls.world = World(prometheus=False)
        cls.addClassCleanup(cls.world.close)
        cls.agent = cls.world.guard(policy())

    def finding(self, subject, *words):
        """Waits for the failure that names a subject, and everything that it should say."""
        def found():
            report = self.agent.control(CONTROL)
            return next((one for one in report["findings"] if one["subject"] == subject), None) if report["verdict"] == "fail" else None
        one = wait_until(found, f"{CONTROL} names {subject}", 5)
        for word in words:
            self.assertIn(word, one["observed"])
        self.assertEqual(one["evidence"], "kernel")
        self.assertEqual(one["remedy"]["kind"], "manual")
        return one

    def gone(self):
        report = self.agent.control(CONTROL)
        self.assertEqual((report["verdict"], report["findings"]), ("pass", []), report)

    def rules(self, text):
        """Rules of somebody else, until the test ends."""
        name = " ".join(text.split()[1:3])
        self.world.nft(text)
        self.addCleanup(self.world.run, "host", "nft", "delete", "table", *name.split())

    def test_nothing(self):
        self.gone()

    def test_what_dockerd_writes_is_covered(self):
        self.world.publish()
        try:
            self.gone()
        finally:
            for family in ("ip", "ip6"):
                self.world.run("host", "nft", "delete", "table", family, "nat")

    def test_a_redirect_that_is_judged_is_covered(self):
        self.rules("table inet detour { chain there { type nat hook prerouting priority dstnat; tcp dport 8081 redirect to :9090; }\n}")
        self.gone()
        self.assertIn("covered by the guard", self.agent.control(CONTROL)["reason"])

    def test_a_source_that_is_rewritten_before_the_guard(self):
        self.rules("table ip forge { chain there { type filter hook prerouting priority -260; ip saddr 203.0.113.2 ip saddr set 10.0.0.77; }\n}")
        self.finding("table ip forge chain there", "ip saddr")

    def test_a_port_that_is_rewritten_after_the_guard(self):
        self.rules("table inet forge { chain late { type filter hook input priority 20; tcp dport 8082 tcp dport set 9090; }\n}")
        self.finding("table inet forge chain late", "dport")

    def test_a_netdev_chain_that_forwards(self):
        self.rules('table netdev mover { chain early { type filter hook ingress device "to_untrusted" priority -500; tcp dport 9090 fwd to "docker0"; }\n}')
        self.finding("table netdev mover chain early")

    @contextlib.contextmanager
    def tc_filter(self, *words):
        """A classifier on what comes from strangers, for a while."""
        self.world.run("host", "tc", "qdisc", "add", "dev", "to_untrusted", "clsact")
        try:
            self.world.run("host", "tc", "filter", "add", "dev", "to_untrusted", "ingress", "protocol", "all", "u32", "match", "u32", "0", "0", *words)
            yield
        finally:
            self.world.run("host", "tc", "qdisc", "del", "dev", "to_untrusted", "clsact")

    def test_tc_redirect(self):
        with self.tc_filter("action", "mirred", "egress", "redirect", "dev", "docker0"):
            self.finding("to_untrusted", "tc", "mirred", "ingress")
        self.gone()

    def test_tc_filter_that_only_classifies_is_covered(self):
        with self.tc_filter("flowid", "1:1"):
            self.gone()

    def test_route_localnet_is_named_and_covered(self):
        self.world.sysctl("host", "ipv4/conf/to_untrusted/route_localnet", 1)
        try:
            self.gone()
            self.assertIn("route_localnet", self.agent.control(CONTROL)["reason"])
        finally:
            self.world.sysctl("host", "ipv4/conf/to_untrusted/route_localnet", 0)

    def test_xdp(self):
        program = xdp_pass()
        try:
            self.attach(program)
            self.finding("to_untrusted", "XDP")
            self.attach(-1)
            self.gone()
        finally:
            os.close(program)

    def attach(self, program):
        with self.world.inside("host"):
            index = socket.if_nametoindex("to_untrusted")
            route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        xdp = attribute(IFLA_XDP | 0x8000, attribute(IFLA_XDP_FD, struct.pack("=i", program)) + attribute(IFLA_XDP_FLAGS, struct.pack("=I", XDP_FLAGS_SKB_MODE)))
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0) + xdp
        with route:
            route.send(struct.pack("=IHHII", 16 + len(body), RTM_SETLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
            error = struct.unpack("=i", route.recv(4096)[16:20])[0]
        if error:
            raise OSError(-error, "cannot attach an XDP program")


if __name__ == "__main__":
    unittest.main()
