"""The generated site in front of a live Prometheus with its admin API, lifecycle and write receiver on: every row of access_cases.tsv gets its status.

Both ways of authentication: passwords, and auth_request with a stand-in for oauth2-proxy that answers as its documentation says. Raw requests over HTTP/1.1, and those that can be
expressed so over HTTP/2. Needs root, nginx, prometheus, openssl and curl; everything happens in a network namespace.
"""

import base64
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PROMWARDEN_BUILD", os.path.join(ROOT, "build"))
COMMAND = os.environ.get("PROMWARDEN", os.path.join(BUILD, "src/bin/promwarden"))
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
SITE, PROMETHEUS, IDENTITY = 19443, 19090, 14180
PASSWORDS = {"admin": "a-pass", "viewer": "v-pass", "Admin": "A-pass"}
GROUPS = {"admin": "prometheus-admins", "viewer": "staff", "Admin": "staff"}

POLICY = """schema = 1
[prometheus]
listen = ["127.0.0.1:%d"]
[access]
auth = "%%s"
server_name = "localhost"
listen = ["127.0.0.1:%d"]
auth_url = "http://127.0.0.1:%d"
[access.roles]
admin = ["user:admin", "group:prometheus-admins"]
viewer = ["user:viewer", "group:staff"]
""" % (PROMETHEUS, SITE, IDENTITY)


class Identity(socketserver.StreamRequestHandler):
    """What oauth2-proxy answers: 202 to a session (of one of the groups, where some are asked for), 403 to another one, 401 to none; the sign-in page to everybody."""

    def handle(self):
        target = self.rfile.readline().decode().split(" ")[1]
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        path, _, query = target.partition("?")
        user = next((part.split("=", 1)[1] for part in headers.get("cookie", "").split("; ") if part.startswith("_oauth2_proxy=")), "")
        status = 200 if path == "/oauth2/sign_in" else 404
        if path == "/oauth2/auth":
            allowed = urllib.parse.parse_qs(query).get("allowed_groups", [""])[0].split(",")
            status = 401 if user not in GROUPS else 202 if allowed == [""] or GROUPS[user] in allowed else 403
        self.wfile.write(f"HTTP/1.1 {status} OK\r\nX-Auth-Request-User: {user}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def cases():
    with open(os.path.join(os.path.dirname(__file__), "access_cases.tsv")) as file:
        return [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]


def wait_for(port, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


class Access(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        clone_newnet = 0x40000000
        if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        cls.directory = tempfile.mkdtemp(prefix="promwarden-access-", dir="/run")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        os.chmod(cls.directory, 0o755)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", f"{cls.directory}/key.pem", "-out",
                        f"{cls.directory}/cert.pem"], check=True, stderr=subprocess.DEVNULL)
        with open(f"{cls.directory}/htpasswd", "w") as file:
            for user, password in PASSWORDS.items():
                hashed = subprocess.run(["openssl", "passwd", "-6", password], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
                file.write(f"{user}:{hashed}\n")
        with open(f"{cls.directory}/prometheus.yml", "w") as file:
            file.write("scrape_configs:\n- job_name: self\n  static_configs: [{targets: ['127.0.0.1:%d']}]\n" % PROMETHEUS)
        prometheus = subprocess.Popen(["prometheus", f"--config.file={cls.directory}/prometheus.yml", f"--storage.tsdb.path={cls.directory}/data", f"--web.listen-address=127.0.0.1:{PROMETHEUS}",
                                       "--web.enable-admin-api", "--web.enable-lifecycle", "--web.enable-remote-write-receiver"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(prometheus.wait)
        cls.addClassCleanup(prometheus.terminate)
        cls.prometheus = prometheus
        identity = Server(("127.0.0.1", IDENTITY), Identity)
        threading.Thread(target=identity.serve_forever, daemon=True).start()
        cls.addClassCleanup(identity.server_close)
        cls.addClassCleanup(identity.shutdown)
        wait_for(PROMETHEUS)

    def start(self, auth):
        policy = f"{self.directory}/policy.toml"
        with open(policy, "w") as file:
            file.write(POLICY % auth)
        os.chmod(policy, 0o644)
        done = subprocess.run([COMMAND, "render", "nginx", "--policy", policy], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        site = done.stdout.replace("/etc/nginx/promwarden/tls/", f"{self.directory}/").replace("/etc/nginx/promwarden/", f"{self.directory}/").replace("/var/log/nginx/", f"{self.directory}/")
        paths = " ".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{self.directory}/nginx.conf", "w") as file:
            file.write(f"daemon off; master_process off; pid {self.directory}/nginx.pid; error_log {self.directory}/error.log;\nevents {{}}\nhttp {{ {paths}\n{site}\n}}\n")
        tested = subprocess.run([NGINX, "-t", "-c", f"{self.directory}/nginx.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(tested.returncode, 0, tested.stdout)
        process = subprocess.Popen([NGINX, "-c", f"{self.directory}/nginx.conf"], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        wait_for(SITE)

    @staticmethod
    def headers(role, auth):
        name, _, extra = role.partition("+")
        headers = [("Host", "localhost")]
        user = {"admin": "admin", "viewer": "viewer", "Admin-case": "Admin", "badpw": "viewer"}.get(name, "")
        if auth == "basic" and name in ("admin", "viewer", "Admin-case", "badpw", "emptyuser"):
            password = "no" if name in ("badpw", "emptyuser") else PASSWORDS[user]
            headers.append(("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()))
            if extra == "two":
                headers.append(("Authorization", "Basic " + base64.b64encode(b"admin:a-pass").decode()))
        if auth != "basic" and name != "none":
            headers.append(("Cookie", f"_oauth2_proxy={user if name != 'badpw' else 'forged'}"))
        values = {"X-Rewrite-URL": "/api/v1/query", "X-Original-URL": "/api/v1/query", "X-Forwarded-User": "admin", "X-HTTP-Method-Override": "POST", "X-Auth-Request-Groups": "prometheus-admins"}
        if extra in values:
            headers.append((extra, values[extra]))
        return headers

    @staticmethod
    def status(method, target, headers):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", SITE), 30) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
            if method in ("POST", "PUT"):
                lines.append("Content-Length: 0")
            client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return int(client.recv(4096).split()[1])

    def status_2(self, method, target, headers):
        words = ["curl", "-sk", "--http2", "--path-as-is", "--globoff", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--max-time", "30", "-X", method]
        for name, value in headers:
            if name != "Host":
                words += ["-H", f"{name}: {value}"]
        if method == "HEAD":
            words += ["--head"]
        done = subprocess.run([*words, f"https://localhost:{SITE}{target}"], stdout=subprocess.PIPE, text=True)
        version, code = done.stdout.split()
        self.assertEqual(version, "2")
        return int(code)

    def all_rows(self, auth, column):
        self.start(auth)
        wrong, count = [], 0
        for row in cases():
            method, target, role = row[:3]
            expected = int(row[column])
            got = self.status(method, target, self.headers(role, auth))
            count += 1
            if got != expected:
                wrong.append(f"{method} {target} {role}: {got}, not {expected}")
            if not target.startswith("/") or method in ("CONNECT", "TRACE", "get") or re.search(r"[#\\]", target) or role.endswith("two"):
                continue
            got = self.status_2(method, target, self.headers(role, auth))
            count += 1
            if got != expected:
                wrong.append(f"HTTP/2 {method} {target} {role}: {got}, not {expected}")
        print(f"{auth}: {count - len(wrong)} of {count} statuses are as expected")
        self.assertEqual(wrong, [])
        self.assertIsNone(self.prometheus.poll(), "somebody stopped Prometheus")

    def log(self):
        with open(f"{self.directory}/promwarden_access.log") as file:
            return [json.loads(line) for line in file]

    def test_passwords(self):
        self.all_rows("basic", 3)
        entries = self.log()
        self.assertGreater(len(entries), 100)
        self.assertTrue(any(entry["user"] == "viewer" and entry["status"] == 403 and entry["uri"].startswith("/api/v1/status/config") for entry in entries))
        os.remove(f"{self.directory}/promwarden_access.log")

    def test_an_identity_service(self):
        self.all_rows("auth-request", 4)
        self.assertTrue(any(entry["user"] == "viewer" and entry["status"] == 200 for entry in self.log()))
        os.remove(f"{self.directory}/promwarden_access.log")


if __name__ == "__main__":
    unittest.main()
