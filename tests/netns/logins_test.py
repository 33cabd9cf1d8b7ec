"""Refused logins, counted by an agent from the audit log of a real nginx with the generated site: across rotation, truncation and restarts of both.

In a network namespace, with an /etc/nginx and a /var/log/nginx of its own. Needs root, nginx and openssl.
"""

import base64
import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PROMWARDEN_BUILD", os.path.join(ROOT, "build"))
COMMAND = os.environ.get("PROMWARDEN", os.path.join(BUILD, "src/bin/promwarden"))
AGENT = os.environ.get("PROMWARDEND", os.path.join(BUILD, "src/bin/promwardend"))
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
LOG, SITE = "/var/log/nginx/promwarden_access.log", 19443
POLICY = 'schema = 1\n[agent]\nrecheck = "10m"\n[prometheus]\nlisten = ["127.0.0.1:19090"]\n[access]\nserver_name = "localhost"\nlisten = ["127.0.0.1:%d"]\n[access.roles]\nadmin = ["user:alice"]\n' % SITE


def setUpModule():
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, clone_newnet, ms_rec, ms_private = 0x20000, 0x40000000, 0x4000, 0x40000
    if libc.unshare(clone_newns | clone_newnet) != 0 or libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for place in ("/etc/nginx", "/var/log/nginx"):
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", place], check=True)


class Logins(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="promwarden-logins-", dir="/run")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.policy = f"{self.directory}/policy.toml"
        with open(self.policy, "w") as file:
            file.write(POLICY)
        os.chmod(self.policy, 0o644)
        for name in os.listdir("/var/log/nginx"):
            os.remove(f"/var/log/nginx/{name}")
        self.agent = self.nginx = None
        self.addCleanup(self.stop_all)

    def stop_all(self):
        for process in (self.agent, self.nginx):
            if process and process.poll() is None:
                process.terminate()
                process.wait()

    def start_agent(self):
        self.agent = subprocess.Popen([AGENT, "--policy", self.policy, "--state", f"{self.directory}/state", "--socket", f"{self.directory}/socket"], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, AttributeError):
                return self.metrics()
            self.assertLess(time.monotonic(), deadline, "the agent does not answer")
            time.sleep(0.05)

    def restart_agent(self, number):
        self.agent.send_signal(number)
        self.agent.wait()
        self.start_agent()

    def metrics(self):
        """Given, none, unreadable."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(f"{self.directory}/socket")
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b""
            while piece := client.recv(65536):
                text += piece
        text = text.decode()
        self.readable = int(re.search(r"^promwarden_proxy_log_readable (\d)$", text, re.MULTILINE)[1])
        return tuple(int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE)[1])
                     for name in (r'promwarden_proxy_auth_failures_total\{credentials="given"\}', r'promwarden_proxy_auth_failures_total\{credentials="none"\}', "promwarden_proxy_log_unreadable_lines_total"))

    def becomes(self, *expected):
        deadline = time.monotonic() + 60
        while (now := self.metrics()) != expected:
            self.assertLess(time.monotonic(), deadline, f"{now}, not {expected}")
            self.assertTrue(all(one <= most for one, most in zip(now, expected, strict=True)), f"{now} is more than {expected}")
            time.sleep(0.1)
        time.sleep(1.5)  # nothing is counted twice
        self.assertEqual(self.metrics(), expected)

    def start_nginx(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", f"{self.directory}/key.pem", "-out",
                        f"{self.directory}/cert.pem"], check=True, stderr=subprocess.DEVNULL)
        done = subprocess.run([COMMAND, "access", "user", "add", "alice", "--policy", self.policy], input="right\n", text=True, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = subprocess.run([COMMAND, "render", "nginx", "--policy", self.policy], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        site = done.stdout.replace("/etc/nginx/promwarden/tls/", f"{self.directory}/")
        paths = " ".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{self.directory}/nginx.conf", "w") as file:
            file.write(f"daemon off; user www-data; worker_processes 2; pid {self.directory}/nginx.pid; error_log {self.directory}/error.log;\nevents {{}}\nhttp {{ {paths}\n{site}\n}}\n")
        self.nginx = subprocess.Popen([NGINX, "-c", f"{self.directory}/nginx.conf"])
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                return self.ask("nobody", "x")
            self.assertLess(time.monotonic(), deadline, "nginx does not answer")
            time.sleep(0.05)

    @staticmethod
    def ask(user=None, password=None, agent="a browser", target="/api/v1/query"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        headers = {"User-Agent": agent, "Host": "localhost"}
        if user is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", SITE, timeout=30, context=context)) as client:
            client.request("GET", target, headers=headers)
            return client.getresponse().status

    def test_what_nginx_refuses_is_counted_through_rotation_and_restarts(self):
        self.start_agent()
        self.assertEqual(self.metrics(), (0, 0, 0))
        self.assertEqual(self.readable, 0)
        self.assertEqual(self.start_nginx(), 401)
        self.assertEqual([self.ask("alice", "wrong"), self.ask(), self.ask("alice", "right"), self.ask('a"},{"status":401,"\\', "x", 'x","status":200,"y":"')], [401, 401, 502, 401])
        self.assertEqual([self.ask("promwarden-probe-nobody", "not-a-password", "promwarden-probe"), self.ask(agent="promwarden-probe"), self.ask("alice", "wrong", "promwarden-probe")], [401] * 3)
        self.becomes(4, 1, 0)
        self.assertEqual(self.readable, 1)
        # as logrotate does it: a new name, a new file, then nginx is told
        os.rename(LOG, LOG + ".1")
        self.ask("alice", "late")
        os.close(os.open(LOG, os.O_CREAT | os.O_WRONLY, 0o640))
        shutil.chown(LOG, "www-data", "adm")
        os.kill(self.nginx.pid, signal.SIGUSR1)
        while os.path.getsize(LOG) == 0:
            self.ask("alice", "right")
        self.ask("alice", "new file")
        self.becomes(6, 1, 0)
        self.restart_agent(signal.SIGTERM)
        self.assertEqual(self.metrics(), (6, 1, 0))
        self.agent.kill()
        self.agent.wait()
        self.ask("alice", "nobody looks")
        self.start_agent()
        self.becomes(7, 1, 0)
        os.truncate(LOG, 0)
        self.ask("alice", "after copytruncate")
        self.becomes(8, 1, 0)

    def test_a_log_that_is_hostile(self):
        line = json.dumps({"user": "bob", "status": 401, "agent": "x"}) + "\n"
        with open(LOG, "w") as log:
            log.write(line * 3)  # from before
        self.start_agent()
        self.assertEqual(self.metrics(), (0, 0, 0))
        with open(LOG, "ab") as log:
            log.write(b"\x00\xff\n{{{\n[1]\n" + os.urandom(1000).replace(b"\n", b"") + b"\n" + line.encode())
            log.flush()
            self.becomes(1, 0, 4)
            for _ in range(256):
                log.write(b"A" * (1 << 20))
                log.flush()
            log.write(b"\n" + line.encode())
            log.flush()
            self.becomes(2, 0, 5)
        with open(f"/proc/{self.agent.pid}/status", encoding="ascii") as status:
            self.assertLess(int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]), 64 << 10)
        os.remove(LOG)
        os.mkfifo(LOG)
        time.sleep(5)
        self.assertEqual(self.metrics(), (2, 0, 5))
        os.remove(LOG)
        with open(LOG, "w") as log:
            log.write(line)
        self.becomes(3, 0, 5)


if __name__ == "__main__":
    unittest.main()
