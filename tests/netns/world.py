"""A small world of network namespaces around one guarded host, for the tests in this directory.

    trusted    10.0.0.2, fd00:12::2         a client that the policy admits
    untrusted  203.0.113.2, 2001:db8::2     a client that it does not
    host       10.0.0.1, 203.0.113.1 ...    a real Prometheus on [::]:9090, both clients and a container bridge
    container  172.17.0.2, fd17::2          behind docker0, with a server of its own on 9090

Addresses of the host that end in 11 publish the container as dockerd does (9090 and, remapped, 8080). Namespaces and processes have names and ids of their
own and are ended by World.close(), so worlds of several tests can live beside each other.
"""

import contextlib
import ctypes
import errno
import itertools
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
from datetime import datetime, timezone
from pathlib import Path

BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or Path(__file__).resolve().parents[2] / "build")
AGENT = BUILD / "src/bin/promwardend"
ALL = bool(os.environ.get("PROMWARDEN_ALL"))

CLONE_NEWNET = 0x40000000
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = itertools.count()

HOST = {"trusted": {4: "10.0.0.1", 6: "fd00:12::1"}, "untrusted": {4: "203.0.113.1", 6: "2001:db8::1"}}
CLIENT = {"trusted": {4: "10.0.0.2", 6: "fd00:12::2"}, "untrusted": {4: "203.0.113.2", 6: "2001:db8::2"}}
PUBLISHED = {"trusted": {4: "10.0.0.11", 6: "fd00:12::11"}, "untrusted": {4: "203.0.113.11", 6: "2001:db8::11"}}
REWRITTEN = {"trusted": {4: "10.0.0.12", 6: "fd00:12::12"}, "untrusted": {4: "203.0.113.12", 6: "2001:db8::12"}}
CONTAINER = {4: "172.17.0.2", 6: "fd17::2"}

POLICY = """schema = 1
[firewall]
ownership = "{ownership}"
{firewall}
[firewall.sources]
trusted = [{sources}]
[[firewall.service]]
name = "prometheus"
ports = [9090]
allow = ["trusted"]
{service}
"""
TRUSTED_SOURCES = ("10.0.0.0/8", "fd00:12::/48")


def policy(ownership="off", sources=TRUSTED_SOURCES, service="", firewall=""):
    """A policy for port 9090; `service` and `firewall` are further lines of their sections."""
    return POLICY.format(ownership=ownership, sources=", ".join(f'"{source}"' for source in sources), service=service, firewall=firewall)


def require(*tools):
    """Fails, with a reason, where the tests cannot run."""
    if os.geteuid() != 0:
        raise RuntimeError("these tests make network namespaces: run them as root")
    for tool in (*tools, "ip", "nft"):
        if shutil.which(tool) is None:
            raise RuntimeError(f"{tool} is not installed")
    if not AGENT.exists():
        raise RuntimeError(f"{AGENT} is not built (PROMWARDEN_BUILD names the build directory)")


def wait_until(condition, what, seconds=10.0):
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return value


def parse_time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).timestamp()


class Refused(Exception):
    """An error reply of the agent."""

    def __init__(self, reply):
        super().__init__(f"{reply['error']}: {reply.get('parameters', {}).get('text', '')}".strip())
        self.name = reply["error"].rpartition(".")[2]


class Agent:
    """promwardend in a world's host namespace, with files of its own."""

    def __init__(self, world, name="agent"):
        self.world = world
        self.directory = world.directory / name
        self.directory.mkdir(mode=0o755)
        self.policy_file, self.state, self.socket = (self.directory / part for part in ("policy.toml", "state", "socket"))
        self.log = self.directory / "log"
        self.process = None

    def write(self, text):
        """Replaces the policy on disk, as an editor does."""
        new = self.directory / "new.toml"
        new.write_text(text, encoding="utf-8")
        new.chmod(0o644)
        new.rename(self.policy_file)

    def start(self):
        arguments = ["--policy", self.policy_file, "--state", self.state, "--socket", self.socket]
        with open(self.log, "ab") as log:
            # Before others: what it does with a change is measured in microseconds, and a machine that builds beside us would add its own.
            self.process = self.world.start("host", ["nice", "-n", "-15", AGENT, *arguments], stderr=log)
        self.wait_for_socket()

    def wait_for_socket(self):
        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"promwardend ended with {self.process.returncode}: {self.log.read_text(encoding='utf-8')}")
            with contextlib.suppress(OSError):
                return self.call("Explain", control="network.bypass")
        wait_until(answers, "promwardend answers", 20)

    def stop(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(20)
        self.process = None

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps({"method": f"io.promwarden.{method}", "parameters": parameters}).encode() + b"\0")
            answer = b""
            while not answer.endswith(b"\0"):
                piece = connection.recv(1 << 20)
                if not piece:
                    raise ConnectionError(f"{method}: the agent closed the connection")
                answer += piece
        reply = json.loads(answer[:-1])
        if "error" in reply:
            raise Refused(reply)
        return reply.get("parameters", {})

    def apply(self, text=None, **parameters):
        if text is not None:
            self.write(text)
        return self.call("Apply", force=True, **parameters)

    def status(self):
        return self.call("Status")["status"]

    def history(self, kind=None):
        """The last events (at most 200), oldest first."""
        events = self.call("History")["events"]
        return [event for event in events if kind in (None, event["kind"])]

    def control(self, name):
        """The report of one control, from an observation made now."""
        time.sleep(1.1)  # readers get a new one at most once a second
        return self.call("Report", only=[name])["report"]["controls"][0]

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class World:
    def __init__(self, prometheus=True):
        require(*(["prometheus"] if prometheus else []))
        self.prefix = f"pw{os.getpid()}x{next(NUMBERS)}"
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-", dir="/run"))
        self.directory.chmod(0o755)
        self.namespaces, self.processes, self.listeners = {}, [], []
        self.agent, self.diverted = None, False
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.stop_serving = threading.Event()
        self.server = None
        try:
            self.build()
            if prometheus:
                self.start_prometheus()
        except BaseException:
            self.close()
            raise

    # ---- namespaces

    def add_namespace(self, role):
        name = f"{self.prefix}{role}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        self.namespaces[role] = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        self.run(role, "ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self, role):
        """This thread, and what it starts, in a namespace; sockets stay where they were made."""
        if LIBC.setns(self.namespaces[role], CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {role}")
        try:
            yield
        finally:
            LIBC.setns(self.home, CLONE_NEWNET)

    def run(self, role, *command, text=None, check=True):
        with self.inside(role):
            done = subprocess.run([str(word) for word in command], input=text, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))[:200]}: {done.stderr.strip()}")
        return done

    def start(self, role, command, **options):
        """A process that close() ends."""
        process = subprocess.Popen(["ip", "netns", "exec", f"{self.prefix}{role}", *map(str, command)], stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def nft(self, text, role="host"):
        return self.run(role, "nft", "-f", "-", text=text)

    def sysctl(self, role, name, value):
        with self.inside(role):
            Path("/proc/sys/net", name).write_text(f"{value}\n", encoding="ascii")

    def build(self):
        for role in ("host", "trusted", "untrusted", "container"):
            self.add_namespace(role)
        self.sysctl("host", "ipv4/ip_forward", 1)
        self.sysctl("host", "ipv6/conf/all/forwarding", 1)
        for number, role in enumerate(("trusted", "untrusted")):
            self.network(role, f"to_{role}", number, HOST[role], CLIENT[role])
            for more in (PUBLISHED, REWRITTEN):
                self.address("host", f"to_{role}", more[role])
        self.run("host", "ip", "link", "add", "docker0", "type", "bridge")
        self.address("host", "docker0", {4: "172.17.0.1", 6: "fd17::1"})
        self.run("host", "ip", "link", "set", "docker0", "up")
        self.cable("container", "veth17", {}, CONTAINER, gateway={4: "172.17.0.1", 6: "fd17::1"})
        self.run("host", "ip", "link", "set", "veth17", "master", "docker0")
        self.server = threading.Thread(target=self.serve, daemon=True)
        self.listen("container", 9090)
        self.server.start()
        everywhere = [(role, CONTAINER[version], 9090) for role in ("trusted", "untrusted") for version in (4, 6)]
        wait_until(lambda: self.probe(everywhere) == [200] * 4, "the bridge forwards", 20)

    def cable(self, role, name, host, client, gateway=None):
        """A pair of veth: to the guard, the host's end without a bridge looks like that of a container."""
        self.run("host", "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", f"{self.prefix}{role}")
        self.connect(role, name, "eth0", host, client, gateway)

    def network(self, role, name, number, host, client):
        """What a network card leads to: a tunnel over veth, because the guard knows by its kind that it is no container's."""
        below, ends = f"v{name}"[:15], (f"169.254.{number}.1", f"169.254.{number}.2")
        self.cable(role, below, {4: ends[0]}, {4: ends[1]}, gateway={})
        for side, link, parent, (local, remote) in (("host", name, below, ends), (role, "wan", "eth0", ends[::-1])):
            self.run(side, "ip", "link", "add", link, "type", "vxlan", "id", number, "dstport", "4789", "local", local, "remote", remote, "dev", parent)
        self.connect(role, name, "wan", host, client)

    def connect(self, role, name, peer, host, client, gateway=None):
        self.address("host", name, host)
        self.run("host", "ip", "link", "set", name, "up")
        self.address(role, peer, client)
        self.run(role, "ip", "link", "set", peer, "up")
        for version, via in (host if gateway is None else gateway).items():
            self.run(role, "ip", f"-{version}", "route", "add", "default", "via", via)

    def address(self, role, link, addresses):
        for version, address in addresses.items():
            extra = ["nodad"] if version == 6 else []
            self.run(role, "ip", "address", "add", f"{address}/{24 if version == 4 else 64}", "dev", link, *extra)

    # ---- what a host has

    def publish(self):
        """The rules that dockerd writes for `-p ADDRESS:9090:9090 -p ADDRESS:8080:9090`."""
        for family, version, container, bridge_net, loopback in (("ip", 4, "172.17.0.2", "172.17.0.0/24", "127.0.0.0/8"), ("ip6", 6, "[fd17::2]", "fd17::/64", "::1")):
            published = ", ".join(PUBLISHED[role][version] for role in ("trusted", "untrusted"))
            self.nft(f"""table {family} nat {{
                chain DOCKER {{
                    {family} daddr {{ {published} }} iifname != "docker0" tcp dport 9090 counter dnat to {container}:9090
                    {family} daddr {{ {published} }} iifname != "docker0" tcp dport 8080 counter dnat to {container}:9090
                }}
                chain PREROUTING {{ type nat hook prerouting priority dstnat; fib daddr type local jump DOCKER; }}
                chain OUTPUT {{ type nat hook output priority -100; {family} daddr != {loopback} fib daddr type local jump DOCKER; }}
                chain POSTROUTING {{ type nat hook postrouting priority srcnat; {family} saddr {bridge_net} oifname != "docker0" masquerade; }}
            }}""")

    def divert(self):
        """Three detours to a port of the host: 8081 redirected, 8082 rewritten without state (on addresses of its own), 8083 by tproxy."""
        self.nft("""table inet detour {
            chain redirected { type nat hook prerouting priority dstnat; tcp dport 8081 redirect to :9090; }
        }""")
        for family, version in (("ip", 4), ("ip6", 6)):
            own = ", ".join(REWRITTEN[role][version] for role in ("trusted", "untrusted"))
            self.nft(f"""table {family} rewrite {{
                chain there {{ type filter hook prerouting priority -240; {family} daddr {{ {own} }} tcp dport 8082 tcp dport set 9090; }}
                chain back {{ type filter hook postrouting priority 300; {family} saddr {{ {own} }} tcp sport 9090 tcp sport set 8082; }}
                }}
                table {family} proxied {{
                chain there {{ type filter hook prerouting priority mangle;
                    meta l4proto tcp socket transparent 1 meta mark set 1 accept
                    tcp dport 8083 tproxy to :9099 meta mark set 1 accept; }}
                }}""")
            if not self.diverted:
                self.run("host", "ip", f"-{version}", "rule", "add", "fwmark", "1", "lookup", "100")
                self.run("host", "ip", f"-{version}", "route", "add", "local", "default", "dev", "lo", "table", "100")
        if not self.diverted:
            self.listen("host", 9099, transparent=True)
        self.diverted = True

    def ufw_like(self):
        """What ufw makes of "allow from trusted to any port 9090, deny 9090": rules at the input hook only."""
        self.nft("""table inet ufwlike { chain input { type filter hook input priority 0; policy accept;
            ct state established,related accept
            iif lo accept
            ip saddr 10.0.0.0/8 accept
            ip6 saddr fd00:12::/48 accept
            tcp dport 9090 drop; }
        }""")

    def start_prometheus(self):
        config = self.directory / "prometheus.yml"
        config.write_text("global:\n  scrape_interval: 1h\n", encoding="ascii")
        with open(self.directory / "prometheus.log", "wb") as log:
            self.prometheus = self.start("host", ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.directory}/tsdb",
                                                  "--web.listen-address=:9090"], stderr=log, stdout=log)
        wait_until(lambda: self.http("host", "127.0.0.1", 9090) == 200, "Prometheus is ready", 60)

    def listen(self, role, port, transparent=False):
        """A server that answers every request with 200, on IPv4 and IPv6."""
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            with self.inside(role):
                listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if transparent:
                level, option = (socket.SOL_IP, IP_TRANSPARENT) if family == socket.AF_INET else (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)
                listener.setsockopt(level, option, 1)
            listener.bind((address, port))
            listener.listen(64)
            listener.setblocking(False)
            self.listeners.append(listener)

    def close_listeners(self, count):
        """Those that listen() made last; each call makes two."""
        for listener in [self.listeners.pop() for _ in range(count)]:
            listener.close()

    def serve(self):
        """Accepts and answers; a request is one packet here."""
        open_connections = []
        while not self.stop_serving.wait(0.005):
            for listener in list(self.listeners):
                with contextlib.suppress(OSError):
                    while True:
                        connection = listener.accept()[0]
                        connection.setblocking(False)
                        open_connections.append(connection)
            for connection in list(open_connections):
                try:
                    if connection.recv(4096):
                        connection.send(b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n")
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                connection.close()
                open_connections.remove(connection)
        for connection in open_connections:
            connection.close()

    # ---- clients

    def connection(self, role, address, port, source=None):
        """A socket that has begun to connect."""
        with self.inside(role):
            one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        one.setblocking(False)
        if source:
            one.bind((source, 0))
        try:
            one.connect((address, port))
        except BlockingIOError:
            pass
        except OSError as error:
            one.close()
            return error
        return one

    def probe(self, targets, seconds=0.8):
        """HTTP to (role, address, port) for each of targets, all at once: a status, 'timeout', 'refused', 'reset' or another error's name."""
        results = ["timeout"] * len(targets)
        with selectors.DefaultSelector() as selector:
            for index, (role, address, port) in enumerate(targets):
                one = self.connection(role, address, port)
                if isinstance(one, OSError):
                    results[index] = outcome(one.errno)
                else:
                    selector.register(one, selectors.EVENT_WRITE, index)
            deadline = time.monotonic() + seconds
            while selector.get_map() and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    self.advance(selector, key, results)
            for key in list(selector.get_map().values()):
                selector.unregister(key.fileobj)
                key.fileobj.close()
        return results

    @staticmethod
    def advance(selector, key, results):
        one, index = key.fileobj, key.data
        try:
            if key.events == selectors.EVENT_WRITE:
                if error := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, "")
                one.send(b"GET /-/ready HTTP/1.0\r\n\r\n")
                selector.modify(one, selectors.EVENT_READ, index)
                return
            answer = one.recv(4096)
            results[index] = int(answer.split()[1]) if answer else "closed"
        except OSError as error:
            results[index] = outcome(error.errno)
        selector.unregister(one)
        one.close()

    def http(self, role, address, port, seconds=0.8):
        return self.probe([(role, address, port)], seconds)[0]

    def http_as(self, role, uid, address, port):
        """http() by a process of another user. A child does it: the user of a socket is that of the process that made it."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with self.inside(role):
                    os.setgroups([])
                    os.setresgid(65534, 65534, 65534)
                    os.setresuid(uid, uid, uid)
                    os.write(writer, str(plain_http(address, port)).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            answer = answers.read().decode()
        os.waitpid(child, 0)
        return int(answer) if answer.isdigit() else answer

    # ---- the end

    def guard(self, text=None):
        """Starts an agent and, where a policy is given, applies it."""
        self.agent = Agent(self, f"agent{next(NUMBERS)}")
        self.agent.write(text or policy())
        self.agent.start()
        if text is not None:
            self.agent.apply()
        return self.agent

    def unguard(self):
        """Ends the agent and takes every rule away, its own and others'."""
        if self.agent is not None:
            self.agent.stop()
            self.agent = None
        self.flush()

    def flush(self):
        self.nft("flush ruleset")

    def close(self):
        if self.agent is not None:
            self.agent.stop()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(20)
        self.stop_serving.set()
        if self.server is not None and self.server.is_alive():
            self.server.join(20)
        for listener in self.listeners:
            listener.close()
        for role, fd in self.namespaces.items():
            os.close(fd)
            subprocess.run(["ip", "netns", "del", f"{self.prefix}{role}"], check=False)
        os.close(self.home)
        shutil.rmtree(self.directory, ignore_errors=True)


class WorldTest(unittest.TestCase):
    """Tests that share one world, each on an unguarded host."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)

    def setUp(self):
        self.addCleanup(self.world.unguard)


def outcome(number):
    names = {errno.ECONNREFUSED: "refused", errno.ECONNRESET: "reset", errno.EPIPE: "reset", errno.ETIMEDOUT: "timeout"}
    return names.get(number, errno.errorcode.get(number, str(number)))


def plain_http(address, port, seconds=0.8):
    """http() in whatever namespace and by whatever user we are."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as one:
            one.settimeout(seconds)
            one.connect((address, port))
            one.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
            answer = one.recv(4096)
            return int(answer.split()[1]) if answer else "closed"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return outcome(error.errno)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
