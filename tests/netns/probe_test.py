"""promwarden-probe: what it refuses, what it is, and what hostile servers cannot do to it. Each test in a network namespace of its own.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import base64
import contextlib
import ctypes
import json
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or Path(__file__).resolve().parents[2] / "build")
WORKER = BUILD / "src/bin/promwarden-probe"
NOBODY = pwd.getpwnam("nobody").pw_uid
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

HTTP, HANDSHAKE = 0, 1
END = ["answered", "refused", "handshake", "closed", "timeout", "limit", "garbage", "failed"]
TLS = {"1.0": 0, "1.1": 1, "1.2": 2, "1.3": 3}
NONE, FOREIGN, OWN = 0, 1, 2
NONE_CREDENTIAL, WRONG, POLICY = 0, 1, 2


def message(**fields):
    request = {"kind": HTTP, "address": "127.0.0.1", "port": 9090, "tls": False, "server_name": "", "method": "GET", "path": "/-/healthy", "prefix": "",
               "foreign_origin": False, "http2": False, "credential": 0, "identity": 0, "lowest": 0, "highest": 3, "authorities": "", "resume": False, "timeout": 3000}
    request.update(fields)
    return json.dumps(request).encode()


class Worker:
    """A worker as the agent starts it, but for the program that does: nobody, with one descriptor."""

    def __init__(self, *options, uid=NOBODY):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(15)

        def become():
            os.dup2(theirs.fileno(), 3)
            os.closerange(4, 256)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)

        self.process = subprocess.Popen([WORKER, "--inherited", *map(str, options)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        close_fds=False, preexec_fn=become)
        theirs.close()

    def exchange(self, data):
        self.socket.send(data)
        return json.loads(self.socket.recv(1 << 20))

    def ask(self, **fields):
        reply = self.exchange(message(**fields))
        if "error" in reply:
            raise AssertionError(reply)
        answer = reply["answer"]
        answer["end"] = END[answer["end"]]
        return answer

    def handshake(self, version=None, **fields):
        if version is not None:
            fields["lowest"] = fields["highest"] = TLS[version]
        return self.ask(kind=HANDSHAKE, **fields)

    def refusal(self, **fields):
        return self.exchange(message(**fields))["error"]

    def status(self):
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def close(self):
        self.socket.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Server:
    """Accepts connections and does to each, in a thread, what `act` says."""

    def __init__(self, act, context=None):
        self.act, self.context, self.open = act, context, True
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                self.connections += 1
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with contextlib.suppress(OSError), connection:
            if self.context is None:
                return self.act(self, connection)
            with self.context.wrap_socket(connection, server_side=True) as wrapped:
                self.act(self, wrapped)

    def close(self):
        self.open = False
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(4096)
        if not part:
            break
        head += part
    return head


def reply(text):
    def act(_, connection):
        read_head(connection)
        connection.sendall(text)
    return act


def endless(start, part, pause=0.0, limit=1 << 30):
    def act(server, connection):
        read_head(connection)
        connection.sendall(start)
        sent = 0
        while server.open and sent < limit:
            connection.sendall(part)
            sent += len(part)
            if pause:
                time.sleep(pause)
    return act


class InNamespace(unittest.TestCase):
    """This process leaves for a namespace of its own before the first test, and comes back after the last."""

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise RuntimeError("these tests make network namespaces: run them as root")
        if not WORKER.exists():
            raise RuntimeError(f"{WORKER} is not built (PROMWARDEN_BUILD names the build directory)")
        cls.home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        cls.addClassCleanup(cls.go_home)
        os_error = LIBC.unshare(CLONE_NEWNET)
        if os_error != 0:
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", "10.77.0.1/32", "dev", "lo"], check=True)
        cls.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-", dir="/run"))
        cls.directory.chmod(0o755)
        cls.addClassCleanup(shutil.rmtree, cls.directory)

    @classmethod
    def go_home(cls):
        LIBC.setns(cls.home, CLONE_NEWNET)
        os.close(cls.home)

    def worker(self, *options, **others):
        worker = Worker(*options, **others)
        self.addCleanup(worker.close)
        return worker

    def server(self, act, context=None):
        server = Server(act, context)
        self.addCleanup(server.close)
        return server

    def file(self, name, text, mode=0o644, owner=0):
        path = self.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        os.chown(path, owner, -1)
        return path


class Privileges(InNamespace):
    def test_it_runs_without_any_privilege(self):
        worker = self.worker()
        worker.ask(port=1)
        status = worker.status()
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(int(status[capabilities], 16), 0, capabilities)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(set(status["Uid"].split()), {str(NOBODY)})
        self.assertEqual(status["Threads"].strip(), "1")
        limits = Path(f"/proc/{worker.process.pid}/limits").read_text(encoding="utf-8")
        self.assertRegex(limits, r"Max core file size +0 +0")
        self.assertRegex(limits, r"Max open files +64 +64")
        self.assertRegex(limits, r"Max processes +0 +0")

    def test_it_refuses_to_be_root(self):
        worker = self.worker(uid=0)
        self.assertEqual(worker.process.wait(10), 6)

    def test_only_root_may_ask_over_a_named_socket(self):
        path = self.directory / "named"
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o666)  # so that the refusal is the worker's, not the file's

        def become():
            os.dup2(listening.fileno(), 3)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        # sd_listen_fds wants its own pid, which only a shell that becomes the program can name
        process = subprocess.Popen(["sh", "-c", f"LISTEN_FDS=1 LISTEN_PID=$$ exec {WORKER}"], close_fds=False, preexec_fn=become, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        listening.close()

        def converse():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.send(message(port=1))
                return client.recv(1 << 20)

        self.assertIn("answer", json.loads(converse()))
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 1
            with contextlib.suppress(OSError):
                code = 0 if converse() == b"" else 1
                os._exit(code)
            os._exit(0)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, "a stranger was answered")
        self.assertIn("answer", json.loads(converse()))


class Refusals(InNamespace):
    def test_nothing_outside_the_list(self):
        asked = []
        server = self.server(lambda _, connection: asked.append(connection.recv(4096)))
        worker = self.worker()
        for method, path in [("POST", "/-/quit"), ("PUT", "/-/quit"), ("POST", "/-/reload"), ("POST", "/api/v1/admin/tsdb/snapshot"), ("PUT", "/api/v1/admin/tsdb/snapshot"),
                             ("POST", "/api/v1/admin/tsdb/clean_tombstones"), ("POST", "/api/v1/admin/tsdb/delete_series?match[]=up"), ("DELETE", "/api/v1/series"),
                             ("GET", "/debug/pprof/profile"), ("GET", "/debug/pprof/trace"), ("GET", "/anything"), ("get", "/-/healthy"), ("GET", "/-/healthy "),
                             ("GET", "/-/healthy\r\nX: y"), ("GET", ""), ("GET", "http://127.0.0.1/"), ("GET", "//-/healthy"), ("GET /-/quit", "/-/healthy")]:
            with self.subTest(f"{method} {path}"):
                self.assertIn("not on the list", worker.refusal(port=server.port, method=method, path=path)["detail"])
        self.assertEqual(asked, [])

    def test_nothing_but_this_host(self):
        worker = self.worker()
        for address in ("192.0.2.1", "2001:db8::1", "10.77.0.2"):
            for kind in (HTTP, HANDSHAKE):
                with self.subTest(address, kind=kind):
                    self.assertIn("not an address of this host", worker.refusal(kind=kind, address=address)["detail"])
        self.assertEqual(worker.ask(address="10.77.0.1", port=1)["end"], "refused")

    def test_malformed_messages(self):
        worker = self.worker()
        whole = json.loads(message())
        broken = [b"", b"x", b"[]", b"null", b"{" * 60, b'{"kind":0}', b"\xff\xfe", message()[:-1], message() + b"x"]
        broken += [json.dumps({**whole, "more": 1}).encode()]
        broken += [json.dumps({**whole, **change}).encode() for change in (
            {"kind": 2}, {"kind": -1}, {"kind": "http"}, {"port": 0}, {"port": 65536}, {"port": 1 << 70}, {"address": "localhost"}, {"address": "127.0.0.1/8"}, {"timeout": 0},
            {"timeout": 10001}, {"server_name": "a b"}, {"server_name": "a\r\nb"}, {"server_name": "x" * 254}, {"prefix": "x"}, {"prefix": "/a/"}, {"prefix": "/a//b"},
            {"prefix": "/.."}, {"prefix": "/a?b"}, {"lowest": 3, "highest": 1}, {"credential": 3}, {"identity": 9}, {"method": "x" * 600}, {"authorities": "x" * 60000})]
        for data in broken:
            with self.subTest(data[:60]):
                if not data:  # an end of file for such a socket
                    continue
                self.assertIn("error", worker.exchange(data))
        worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.assertIn("too long", worker.exchange(b" " * 70000)["error"]["detail"])
        self.assertEqual(worker.ask(port=1)["end"], "refused")

    def test_descriptors_are_not_taken(self):
        worker = self.worker()
        with open("/etc/hostname", "rb") as file:
            socket.send_fds(worker.socket, [message(port=1)], [file.fileno()] * 8)
        self.assertIn("answer", json.loads(worker.socket.recv(1 << 20)))
        self.assertEqual(len(os.listdir(f"/proc/{worker.process.pid}/fd")), 4)


class Credentials(InNamespace):
    def policy(self, mode=0o600, owner=NOBODY, password="s3cret-of-the-probe\n"):
        secret = self.file("probe.password", password, mode, owner)
        return self.file("policy.toml", f'schema = 1\n[prometheus.probe]\nuser = "probe"\npassword_file = "{secret}"\n')

    def test_they_are_read_by_the_worker_and_sent_once(self):
        heads = []

        def act(_, connection):
            heads.append(read_head(connection))
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n")

        server = self.server(act)
        worker = self.worker("--policy", self.policy())
        answer = worker.ask(port=server.port, credential=POLICY)
        self.assertEqual((answer["status"], answer["headers"]["location"]), (302, "http://127.0.0.1:1/elsewhere"))
        self.assertEqual(server.connections, 1)
        sent = heads[0].split(b"Authorization: Basic ")[1].split(b"\r\n")[0]
        self.assertEqual(base64.b64decode(sent), b"probe:s3cret-of-the-probe")
        worker.ask(port=server.port)
        self.assertNotIn(b"Authorization", heads[1])
        worker.ask(port=server.port, credential=WRONG)
        self.assertIn(b"Authorization", heads[2])
        self.assertNotIn(sent, heads[2])

    def test_a_password_that_others_can_see_is_not_used(self):
        server = self.server(reply(b"HTTP/1.1 200 OK\r\n\r\n"))
        for mode, owner, words in ((0o604, NOBODY, "every user can read it"), (0o620, NOBODY, "lets others write it"), (0o600, 1, "")):
            with self.subTest(oct(mode), owner=owner):
                worker = self.worker("--policy", self.policy(mode, owner))
                error = worker.refusal(port=server.port, credential=POLICY)
                self.assertIn(words, error["detail"])
                self.assertNotIn("s3cret", json.dumps(error))
        self.assertEqual(server.connections, 0)


class Hostile(InNamespace):
    def memory(self, worker):
        return int(worker.status()["VmHWM"].split()[0])

    def check(self, act, end, most_seconds=2.0, context=None, **fields):
        """One question to a server that behaves so: it ends thus, in time and in little memory, and the worker goes on."""
        server = self.server(act, context)
        worker = self.worker()
        worker.ask(port=1, tls=context is not None)
        before, began = self.memory(worker), time.monotonic()
        answer = worker.ask(port=server.port, timeout=1000, tls=context is not None, **fields)
        self.assertIn(answer["end"], [end] if isinstance(end, str) else end, answer)
        self.assertLess(time.monotonic() - began, most_seconds)
        self.assertLess(self.memory(worker) - before, 8 << 10, "KiB more than before")
        self.assertEqual(worker.ask(port=1)["end"], "refused")
        return answer

    def test_silence(self):
        self.check(lambda server, _: time.sleep(5), "timeout")

    def test_slow_loris(self):
        self.check(endless(b"HTTP/1.1 200 OK\r\n", b"x", 0.05), "timeout")
        self.check(endless(b"", b"H", 0.05), ("timeout", "garbage"))

    def test_endless_headers(self):
        self.check(endless(b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"y" * 900 + b"\r\n"), "limit")
        self.check(endless(b"HTTP/1.1 200 OK\r\n", b"y" * 4096), "limit")

    def test_endless_interim_answers(self):
        self.check(endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), "limit")

    def test_endless_body(self):
        answer = self.check(endless(b"HTTP/1.1 200 OK\r\n\r\n", b"z" * 65536), "answered")
        self.assertEqual((answer["status"], answer["truncated"], answer["body"]), (200, True, ""))
        answer = self.check(endless(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"z" * 65536), "answered", path="/api/v1/status/flags")
        self.assertEqual(len(base64.b64decode(answer["body"])), 65536)
        self.check(endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"z" * 4096 + b"\r\n"), "answered")

    def test_compressed_bombs_are_not_unpacked(self):
        answer = self.check(reply(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b" + b"\0" * 18), "answered", path="/api/v1/status/flags")
        self.assertEqual(base64.b64decode(answer["body"])[:2], b"\x1f\x8b")

    def test_garbage(self):
        self.check(reply(os.urandom(4096)), ("garbage", "limit"))
        self.check(reply(b"HTTP/1.1 abc\r\n\r\n"), ("garbage", "answered"))
        self.check(reply(b"SSH-2.0-OpenSSH_9.2\r\n"), "garbage")
        self.check(reply(b""), "closed")

    def test_redirects_are_not_followed(self):
        server = self.server(reply(b"HTTP/1.1 301 Moved\r\nLocation: /api/v1/admin/tsdb/snapshot\r\nContent-Length: 0\r\n\r\n"))
        self.assertEqual(self.worker().ask(port=server.port)["status"], 301)
        self.assertEqual(server.connections, 1)

    def test_control_characters_do_not_come_through(self):
        answer = self.check(reply(b"HTTP/1.1 302 Found\r\nLocation: http://\x1b[31mred\xff/" + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n"), "answered")
        self.assertTrue(answer["headers"]["location"].startswith("http://?[31mred?/"))
        self.assertLessEqual(len(answer["headers"]["location"]), 1024)

    def test_handshakes(self):
        self.check(lambda server, _: time.sleep(5), "timeout", kind=HANDSHAKE)
        self.check(reply(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("handshake", "timeout"), kind=HANDSHAKE)
        self.check(lambda _, connection: connection.sendall(os.urandom(4096)), "handshake", kind=HANDSHAKE)
        self.check(lambda _, connection: None, "closed", kind=HANDSHAKE)
        self.check(endless(b"", b"\x16\x03\x03\x00\x01\x02", 0.02), ("timeout", "handshake"), kind=HANDSHAKE)

    def context(self, names):
        key, certificate = self.directory / "big.key", self.directory / "big.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
                        "-subj", "/CN=big", "-addext", "subjectAltName=" + names], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def test_a_huge_certificate(self):
        context = self.context(",".join(f"DNS:host{number}.example.org" for number in range(4000)))
        self.check(reply(b"HTTP/1.1 200 OK\r\n\r\n"), ("limit", "handshake"), context=context, kind=HANDSHAKE)
        self.check(reply(b"HTTP/1.1 200 OK\r\n\r\n"), ("limit", "handshake"), context=context)

    def test_endless_lines_behind_a_handshake(self):
        context = self.context("DNS:localhost")
        self.check(endless(b"", b"y" * 4096), "garbage", context=context, kind=HANDSHAKE)
        self.check(lambda server, connection: time.sleep(5), "timeout", context=context, kind=HANDSHAKE)

    def test_every_client_is_served_although_one_server_hangs(self):
        server = self.server(lambda server, _: time.sleep(5))
        first, second = self.worker(), self.worker()
        first.socket.send(message(port=server.port, timeout=3000))
        began = time.monotonic()
        self.assertEqual(second.ask(port=1)["end"], "refused")
        self.assertLess(time.monotonic() - began, 1.0)


if __name__ == "__main__":
    unittest.main()
