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

# What a row may ask for after a "+": what is in the request besides its line, Host and credentials. "Host" and "version" replace; "raw" lines stand as they are.
WRONG = "Basic " + base64.b64encode(b"viewer:no").decode()
ADMIN = "Basic " + base64.b64encode(b"admin:a-pass").decode()
EXTRAS = {
    **{name: {"headers": [(name, "/api/v1/query")]} for name in ("X-Rewrite-URL", "X-Original-URL", "X-Original-URI", "X-Forwarded-URI", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Accel-Redirect")},
    **{name: {"headers": [(name, "admin")]} for name in ("X-Forwarded-User", "X-Remote-User", "Remote-User", "X-WEBAUTH-USER", "X-Auth-Request-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Email")},
    **{name: {"headers": [(name, "prometheus-admins")]} for name in ("X-Auth-Request-Groups", "X-Forwarded-Groups", "X-Roles")},
    **{name: {"headers": [(name, "GET")]} for name in ("X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method")},
    **{name: {"headers": [(name, "127.0.0.1")]} for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X-Forwarded-Host", "X-Host", "X-Original-Host")},
    "Forwarded": {"headers": [("Forwarded", "for=127.0.0.1;host=localhost;proto=https")]},
    "Remote_User": {"headers": [("Remote_User", "admin")]},
    "Authorization_": {"headers": [("Authorization_", ADMIN)]},
    "two": {"headers": [("Authorization", ADMIN)]},
    "same-twice": {"twice": True},
    "Proxy-Authorization": {"headers": [("Proxy-Authorization", ADMIN)]},
    "X-Authorization": {"headers": [("X-Authorization", ADMIN)]},
    "bearer": {"headers": [("Authorization", "Bearer admin")]},
    "basic-lower": {"headers": [("authorization", "basic " + base64.b64encode(b"viewer:v-pass").decode())]},
    "basic-broken": {"headers": [("Authorization", "Basic !!!!")]},
    "basic-no-colon": {"headers": [("Authorization", "Basic " + base64.b64encode(b"admin").decode())]},
    "basic-empty": {"headers": [("Authorization", "Basic ")]},
    "basic-nul": {"headers": [("Authorization", "Basic " + base64.b64encode(b"admin\0x:a-pass").decode())]},
    "basic-newline": {"headers": [("Authorization", "Basic " + base64.b64encode(b"admin\nviewer:v-pass").decode())]},
    "basic-space": {"headers": [("Authorization", "Basic " + base64.b64encode(b"admin :a-pass").decode())]},
    "basic-two-names": {"headers": [("Authorization", "Basic " + base64.b64encode(b"viewer:v-pass:admin").decode())]},
    "websocket": {"headers": [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]},
    "h2c": {"headers": [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]},
    "hop": {"headers": [("Connection", "close, Authorization, X-Forwarded-For, Cookie")]},
    "range": {"headers": [("Range", "bytes=0-1")]},
    "expect": {"headers": [("Expect", "100-continue")]},
    "expect-odd": {"headers": [("Expect", "200-ok")]},
    "etag": {"headers": [("If-None-Match", "*"), ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT")]},
    "origin": {"headers": [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "GET")]},
    "1.0": {"version": "HTTP/1.0"}, "1.0-no-host": {"version": "HTTP/1.0", "host": None}, "1.9": {"version": "HTTP/1.9"}, "2.0": {"version": "HTTP/2.0"}, "http": {"version": "http/1.1"}, "0.9": {"version": None},
    "no-host": {"host": None}, "host-empty": {"host": ""}, "host-evil": {"host": "evil.example"}, "host-port": {"host": "localhost:9090"}, "host-upper": {"host": "LOCALHOST"}, "host-dot": {"host": "localhost."},
    "host-path": {"host": "localhost/api/v1/query"}, "host-user": {"host": "admin@localhost"}, "host-backend": {"host": "127.0.0.1:19090"}, "host-space": {"host": "localhost x"},
    "host-two": {"headers": [("Host", "localhost")]}, "host-two-evil": {"headers": [("Host", "evil.example")]}, "host-nul": {"raw": ["Host: local\0host"]},
    "folded": {"raw": ["X-Folded: a", " b"]}, "space-before-colon": {"raw": [f"Authorization : {ADMIN}"]}, "tab-before-colon": {"raw": [f"Authorization\t: {ADMIN}"]}, "no-colon": {"raw": ["Authorization"]},
    "space-first": {"raw": [" X-First: a"]}, "empty-name": {"raw": [": a"]}, "nul-in-value": {"raw": ["X-Nul: a\0b"]}, "cr-in-value": {"raw": ["X-Cr: a\rX-Forwarded-User: admin"]},
    "lf-only": {"raw": ["X-Lf: a\nX-Forwarded-User: admin"]}, "not-ascii": {"raw": ["X-\xe9: a"]}, "long-header": {"headers": [("X-Long", "a" * 40000)]}, "many-headers": {"headers": [(f"X-{n}", "a" * 80) for n in range(500)]},
    "chunked": {"headers": [("Transfer-Encoding", "chunked")], "body": "0\r\n\r\n"}, "te-and-length": {"headers": [("Transfer-Encoding", "chunked"), ("Content-Length", "5")], "body": "0\r\n\r\n"},
    "te-odd": {"headers": [("Transfer-Encoding", "xchunked")], "body": "0\r\n\r\n"}, "te-identity": {"headers": [("Transfer-Encoding", "identity")]}, "te-two": {"headers": [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], "body": "0\r\n\r\n"},
    "te-list": {"headers": [("Transfer-Encoding", "gzip, chunked")], "body": "0\r\n\r\n"}, "te-tab": {"headers": [("Transfer-Encoding", "\tchunked")], "body": "0\r\n\r\n"}, "te-1.0": {"version": "HTTP/1.0", "headers": [("Transfer-Encoding", "chunked")], "body": "0\r\n\r\n"},
    "chunk-bad": {"headers": [("Transfer-Encoding", "chunked")], "body": "zz\r\n\r\n"}, "length-two": {"headers": [("Content-Length", "0"), ("Content-Length", "5")], "body": "hello"}, "length-same": {"headers": [("Content-Length", "0"), ("Content-Length", "0")]},
    "length-minus": {"headers": [("Content-Length", "-1")]}, "length-plus": {"headers": [("Content-Length", "+0")]}, "length-hex": {"headers": [("Content-Length", "0x0")]}, "length-large": {"headers": [("Content-Length", "2000000")]},
    "form": {"headers": [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "8")], "body": "query=up"},
    "form-method": {"headers": [("Content-Type", "application/x-www-form-urlencoded"), ("Content-Length", "21")], "body": "_method=PUT&match[]=u"},
    "body": {"headers": [("Content-Length", "5")], "body": "hello"},
    "cookie": {"headers": [("Cookie", "session=admin; user=admin")]},
}
# Over HTTP/2 these mean something else, or curl does not say them.
ONLY_1 = {"two", "same-twice", "websocket", "h2c", "hop", "expect", "expect-odd", "cookie", "body", "form", "form-method", *(name for name, extra in EXTRAS.items() if extra.keys() - {"headers"} or name.startswith(("te-", "length-", "host-", "long-", "many-")))}

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
        target = self.rfile.readline().decode("latin-1").split(" ")[1]
        headers = {}
        while line := self.rfile.readline().decode("latin-1").strip():
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
    with open(os.path.join(os.path.dirname(__file__), "access_cases.tsv"), encoding="ascii") as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith("#")]
    # \\xNN in a target is a byte that an editor would not show.
    return [[row[0], re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), row[1]), *row[2:]] for row in rows]


def wait_for(port, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


class Access(unittest.TestCase):
    nginx = NGINX
    step = 1  # of the rows, each so many is asked for

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
        tested = subprocess.run([self.nginx, "-t", "-c", f"{self.directory}/nginx.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(tested.returncode, 0, tested.stdout)
        process = subprocess.Popen([self.nginx, "-c", f"{self.directory}/nginx.conf"], stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        wait_for(SITE)

    @staticmethod
    def headers(role, auth):
        name, _, extra = role.partition("+")
        more = EXTRAS[extra] if extra else {}
        host = more.get("host", "localhost")
        headers = [] if host is None else [("Host", host)]
        user = {"admin": "admin", "viewer": "viewer", "Admin-case": "Admin", "badpw": "viewer"}.get(name, "")
        if auth == "basic" and name in ("admin", "viewer", "Admin-case", "badpw", "emptyuser"):
            password = "no" if name in ("badpw", "emptyuser") else PASSWORDS[user]
            headers.append(("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()))
        if auth != "basic" and name != "none":
            headers.append(("Cookie", f"_oauth2_proxy={user if name != 'badpw' else 'forged'}"))
        if more.get("twice"):
            headers.append(headers[-1])
        return headers + more.get("headers", [])

    @staticmethod
    def connect():
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection(("127.0.0.1", SITE), 30), server_hostname="localhost")

    @classmethod
    def status(cls, method, target, headers, more):
        """The first final status; 0 where the connection is closed without one."""
        version = more.get("version", "HTTP/1.1")
        lines = [f"{method} {target}{' ' + version if version else ''}", *(f"{name}: {value}" for name, value in headers), *more.get("raw", [])]
        if not any(name == "Connection" for name, _ in headers):
            lines.append("Connection: close")
        if method in ("POST", "PUT") and not any(name in ("Content-Length", "Transfer-Encoding") for name, _ in headers):
            lines.append("Content-Length: 0")
        data = b""
        with cls.connect() as client:
            client.sendall(("\r\n".join(lines) + "\r\n\r\n" + more.get("body", "")).encode("latin-1"))
            while True:
                while data.startswith(b"HTTP/1.1 1") and b"\r\n\r\n" in data:
                    data = data.partition(b"\r\n\r\n")[2]
                if len(data) >= 12 and not data.startswith(b"HTTP/1.1 1"):
                    return int(data.split()[1]) if data.startswith(b"HTTP/") else 900
                try:
                    piece = client.recv(4096)
                except ConnectionResetError:
                    piece = b""
                if not piece:
                    return 0
                data += piece

    def statuses_2(self, requests):
        """The same over HTTP/2, by one curl: (method, target, headers) to statuses."""
        words = ["curl"]
        for method, target, headers in requests:
            words += [] if words == ["curl"] else ["--next"]
            words += ["-sk", "--http2", "--path-as-is", "--globoff", "-o", "/dev/null", "-w", "%{http_version} %{http_code}\n", "--max-time", "30", *(["--head"] if method == "HEAD" else ["-X", method])]
            for name, value in headers:
                if name != "Host":
                    words += ["-H", f"{name}: {value}" if value else f"{name};"]
            words.append(f"https://localhost:{SITE}{target}")
        answers = subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout.split()
        self.assertEqual(answers[::2], ["2"] * len(requests))
        return [int(status) for status in answers[1::2]]

    @staticmethod
    def only_over_1(method, target, extra):
        return not target.startswith("/") or len(target) > 8000 or not method.isupper() or method in ("CONNECT", "TRACE") or extra in ONLY_1 or re.search(r"[#\\\x00-\x20\x7f-\xff]", target) is not None

    def all_rows(self, auth, column):
        self.start(auth)
        wrong, second = [], []
        rows = cases()[:: self.step]
        for row in rows:
            method, target, role = row[:3]
            extra, expected, headers = role.partition("+")[2], int(row[column]), self.headers(role, auth)
            got = self.status(method, target, headers, EXTRAS.get(extra, {}))
            if got != expected:
                wrong.append(f"{method} {target!r} {role}: {got}, not {expected}")
            if not self.only_over_1(method, target, extra):
                second.append((f"{method} {target} {role}", expected, (method, target, headers)))
        for part in (second[i:i + 50] for i in range(0, len(second), 50)):
            for (name, expected, _), got in zip(part, self.statuses_2([request for _, _, request in part]), strict=True):
                if got != expected:
                    wrong.append(f"HTTP/2 {name}: {got}, not {expected}")
            count = len(rows) + len(second)
        print(f"{auth}: {count - len(wrong)} of {count} statuses are as expected")
        self.assertEqual([], wrong, "\n".join(wrong))
        self.assertIsNone(self.prometheus.poll(), "somebody stopped Prometheus")

    def log(self):
        with open(f"{self.directory}/promwarden_access.log", encoding="utf-8", errors="replace") as file:  # clients send other bytes, too
            return [json.loads(line) for line in file]

    def test_passwords(self):
        self.all_rows("basic", 3)
        entries = self.log()
        self.assertGreater(len(entries), 300 // self.step)
        self.assertTrue(any(entry["user"] == "viewer" and entry["status"] == 403 and entry["uri"].startswith("/api/v1/status/config") for entry in entries))
        os.remove(f"{self.directory}/promwarden_access.log")

    def test_an_identity_service(self):
        self.all_rows("auth-request", 4)
        self.assertTrue(any(entry["user"] == "viewer" and entry["status"] == 200 for entry in self.log()))
        os.remove(f"{self.directory}/promwarden_access.log")


if __name__ == "__main__":
    unittest.main()
