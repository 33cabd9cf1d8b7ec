"""The evaluator of nginx configurations against the real nginx: each configuration gets the same requests, and every answer has to be the same.

Configurations are those that guides and people write, with their mistakes, and random ones. Behind nginx stand small backends that say what they received. PROMWARDEN_ALL runs
all configurations with 200 requests each; otherwise a part of them. PROMWARDEN_SEED makes other random ones. Needs root: everything happens in a network namespace.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PROMWARDEN_BUILD", os.path.join(ROOT, "build"))
DRIVER = os.path.join(BUILD, "tests/netns/nginx_driver")
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
ALL = bool(os.environ.get("PROMWARDEN_ALL"))
SEED = int(os.environ.get("PROMWARDEN_SEED", "1"))

BACKENDS = (9101, 9102, 9103)
IDENTITY = 9104
UPSTREAMS = {"prometheus": 9101, "other": 9102, "oauth2": IDENTITY}
CLIENTS = ("127.0.0.1", "127.0.0.9", "10.1.2.3", "192.0.2.7")
PASSWORDS = {"admin": "a-pass", "viewer": "v-pass", "Admin": "A-pass"}


# ---- the other side --------------------------------------------------------------------------------------------------

class Echo(socketserver.StreamRequestHandler):
    """Answers with what it was asked, or as an identity service would."""

    def handle(self):
        first = self.rfile.readline().decode(errors="replace").rstrip("\r\n")
        headers = []
        while True:
            line = self.rfile.readline().decode(errors="replace").rstrip("\r\n")
            if not line:
                break
            name, _, value = line.partition(":")
            headers.append((name, value.strip()))
        method, _, rest = first.partition(" ")
        target = rest.rpartition(" ")[0]
        length = sum(int(value) for name, value in headers if name.lower() == "content-length")
        self.rfile.read(length)
        port = self.server.server_address[1]
        status = self.decide(port, target, dict(headers))
        body = json.dumps({"port": port, "method": method, "target": target, "headers": headers}).encode()
        if method == "HEAD":
            head = f"HTTP/1.1 {status} OK\r\nX-Echo: {body.hex()}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            self.wfile.write(head.encode())
            return
        head = f"HTTP/1.1 {status} OK\r\nX-Echo: {body.hex()}\r\nX-Auth-Request-User: someone\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        self.wfile.write(head.encode())

    @staticmethod
    def decide(port, target, headers):
        if port != IDENTITY:
            return 404 if target.startswith("/oauth2") else 200
        if target.startswith("/broken"):
            return 404
        cookie = headers.get("Cookie", "")
        return 202 if "session=good" in cookie or ("session=guest" in cookie and target.startswith("/second")) else 403 if "session=guest" in cookie else 401


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def ask(request):
    """The real answer: (status, Location, what the backend saw), or None where the connection was closed."""
    address, port = request["listener"].rsplit(":", 1)
    with socket.create_connection((address, int(port)), 10, (request["client"], 0)) as client:
        lines = [f"{request['method']} {request['target']} HTTP/1.1"]
        if request["host"]:
            lines.append(f"Host: {request['host']}")
        lines += [f"{name}: {value}" for name, value in request["headers"]]
        client.sendall(("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode())
        data = b""
        while piece := client.recv(65536):
            data += piece
    if not data:
        return None
    head = data.split(b"\r\n\r\n", 1)[0].decode(errors="replace").split("\r\n")
    headers = {}
    for line in head[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    echo = json.loads(bytes.fromhex(headers["x-echo"])) if "x-echo" in headers else None
    return int(head[0].split()[1]), headers.get("location", ""), echo


# ---- configurations --------------------------------------------------------------------------------------------------

HEAD = """daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log info;
events {{ worker_connections 200; }}
http {{
    access_log off; absolute_redirect off; large_client_header_buffers 4 32k; root {dir}/www;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    upstream prometheus {{ server 127.0.0.1:9101; }}
    upstream other {{ server 127.0.0.1:9102; }}
    upstream oauth2 {{ server 127.0.0.1:9104; }}
"""

BASIC = 'auth_basic "Prometheus"; auth_basic_user_file {dir}/htpasswd;'

SITE_HEAD = r"""
    map $remote_user $admin_denied { default 1; "" 0; "~^admin$" 0; }
    map $request_uri $ambiguous {
        default 0;
        "~^[^?]*(//|/\.\.?([/?;#]|$)|%(25|2e|2f|5c|23|3b|3f|00)|[\\\\;#])" 1;
        "~*^[^?]*%(2e|2f|5c|3b|3f)" 1;
        "~^[^/]" 1;
    }
"""

WRITTEN = {
    "the guide's basic auth": "server {{ listen 127.0.0.1:8080; location / {{ BASIC proxy_pass http://127.0.0.1:9101; }} }}",
    "the guide's auth_request without its location": "server {{ listen 127.0.0.1:8080; location / {{ auth_request /oauth2/auth; proxy_pass http://127.0.0.1:9101; }} }}",
    "the guide and a location /admin": "server {{ listen 127.0.0.1:8080; BASIC location / {{ proxy_pass http://127.0.0.1:9101; }} location /admin {{ deny all; proxy_pass http://127.0.0.1:9101; }} }}",
    "a deny list by prefix": "server {{ listen 127.0.0.1:8080; BASIC location / {{ proxy_pass http://127.0.0.1:9101; }} location /api/v1/series {{ deny all; }} location /api/v1/admin/ {{ deny all; }} location /federate {{ deny all; }} }}",
    "a deny list without merged slashes": "server {{ listen 127.0.0.1:8080; merge_slashes off; BASIC location / {{ proxy_pass http://127.0.0.1:9101/; }} location = /api/v1/series {{ deny all; }} location /api/v1/admin/ {{ deny all; }} }}",
    "a rule on the raw target": r'map $request_uri $closed {{ default 0; "~^/api/v1/(series|admin|targets)" 1; "~^/federate" 1; "~^/-/" 1; }} server {{ listen 127.0.0.1:8080; BASIC if ($closed) {{ return 403; }} location / {{ proxy_pass http://127.0.0.1:9101; }} }}',
    "a rule on the raw target, normalised upstream": r'server {{ listen 127.0.0.1:8080; BASIC if ($request_uri ~* "^/api/v1/(series|admin)") {{ return 403; }} location / {{ proxy_pass http://127.0.0.1:9101/; }} }}',
    "an allow list by prefix": "server {{ listen 127.0.0.1:8080; BASIC location /api/v1/query {{ proxy_pass http://127.0.0.1:9101; }} location /api/v1/labels {{ proxy_pass http://127.0.0.1:9101; }} location / {{ return 403; }} }}",
    "static files by regex, open": r"server {{ listen 127.0.0.1:8080; BASIC location ~* \.(js|css|png)$ {{ auth_basic off; proxy_pass http://127.0.0.1:9101; }} location / {{ proxy_pass http://127.0.0.1:9101; }} }}",
    "satisfy any": "server {{ listen 127.0.0.1:8080; BASIC satisfy any; allow 127.0.0.1; deny all; location / {{ proxy_pass http://127.0.0.1:9101; }} }}",
    "open api with nested admin": "server {{ listen 127.0.0.1:8080; BASIC location / {{ proxy_pass http://127.0.0.1:9101; }} location /api/ {{ auth_basic off; proxy_pass http://127.0.0.1:9101; location /api/v1/admin/ {{ BASIC proxy_pass http://127.0.0.1:9101; }} }} }}",
    "a prefix without its slash": "server {{ listen 127.0.0.1:8080; location /prom {{ BASIC proxy_pass http://prometheus/; }} location /other/ {{ proxy_pass http://other/base/; }} location = /exact {{ proxy_pass http://other/const; }} }}",
    "return beside auth_basic": "server {{ listen 127.0.0.1:8080; BASIC location / {{ proxy_pass http://127.0.0.1:9101; }} location /-/healthy {{ return 200 ok; }} location /gone {{ return 410; }} location /moved {{ return 302 /x; }} location /shut {{ return 444; }} }}",
    "auth_request with a service": "server {{ listen 127.0.0.1:8080; auth_request /_auth; auth_request_set $user $upstream_http_x_auth_request_user; location = /_auth {{ internal; proxy_pass http://oauth2/oauth2/auth; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }} error_page 401 = @login; location @login {{ return 302 /oauth2/start; }} location /oauth2/ {{ auth_request off; proxy_pass http://oauth2; }} location / {{ proxy_set_header X-User none; proxy_pass http://prometheus; }} location /broken {{ auth_request /_broken; proxy_pass http://prometheus; }} location = /_broken {{ internal; proxy_pass http://oauth2/broken; }} location /none {{ auth_request /_none; proxy_pass http://prometheus; }} location = /_none {{ internal; return 204; }} }}",
    "limit_except": "server {{ listen 127.0.0.1:8080; BASIC location / {{ limit_except GET POST {{ deny all; }} proxy_pass http://prometheus; }} location /api/ {{ if ($request_method = PUT) {{ return 418; }} limit_except GET {{ allow 10.0.0.0/8; deny all; }} proxy_pass http://prometheus; }} }}",
    "two servers and names": "server {{ listen 127.0.0.1:8080; server_name a.example; location / {{ proxy_pass http://prometheus; }} }} server {{ listen 127.0.0.1:8080; server_name *.example b.*; location / {{ BASIC proxy_pass http://other; }} }} server {{ listen 127.0.0.1:8080 default_server; server_name _; return 444; }} server {{ listen 127.0.0.1:8080; server_name ~^re[0-9]+\\.test$; location / {{ deny all; }} }} server {{ listen 8081; location / {{ proxy_pass http://prometheus/eight/; }} }}",
    "rewrites": r"server {{ listen 127.0.0.1:8080; rewrite ^/old/(.*)$ /api/v1/$1; location /api/ {{ rewrite ^/api/v1/labels$ /api/v1/series last; rewrite ^/api/v1/rules$ /x/$uri?a=1 break; rewrite ^/api/v1/query(.*)$ /metrics$1?; proxy_pass http://prometheus; }} location /metrics {{ proxy_pass http://other/m; }} location /loop {{ rewrite ^ /loop last; }} location /x {{ return 200; }} location /go {{ rewrite ^/go/(.*) http://elsewhere.example/$1; rewrite ^ /perm permanent; }} location / {{ deny all; }} }}",
    "second_question": "server {{ listen 127.0.0.1:8080; error_page 403 /denied; location / {{ auth_request /_first; proxy_pass http://prometheus; }} location /api/ {{ auth_request /_only; proxy_pass http://prometheus; }} location = /denied {{ internal; return 410; }} location = /_first {{ internal; proxy_pass http://oauth2/first; proxy_pass_request_body off; proxy_intercept_errors on; error_page 403 = /_second; }} location = /_second {{ internal; proxy_pass http://oauth2/second; }} location = /_only {{ internal; proxy_pass http://oauth2/first; proxy_intercept_errors on; error_page 404 = /_second; }} }}",
    "try_files": "server {{ listen 127.0.0.1:8080; location / {{ try_files $uri @prom; }} location @prom {{ BASIC proxy_pass http://prometheus; }} location /api/ {{ try_files $uri $uri/ /index.html; }} location /classic/ {{ try_files $uri =418; proxy_pass http://other; }} location = /index.html {{ }} }}",
    "error pages": "server {{ listen 127.0.0.1:8080; error_page 403 404 /denied; error_page 401 =200 /login; error_page 410 =302 http://elsewhere.example/; BASIC location / {{ deny 10.0.0.0/8; proxy_pass http://prometheus; }} location = /denied {{ auth_basic off; proxy_pass http://other; }} location = /login {{ auth_basic off; return 200 sign-in; }} location /gone {{ return 410; }} location /api/ {{ internal; proxy_pass http://prometheus; }} }}",
    "if with its own proxy": 'server {{ listen 127.0.0.1:8080; location / {{ set $who guest; if ($http_x_role = "admin") {{ set $who root; proxy_pass http://other; }} if ($arg_query) {{ break; }} proxy_set_header X-Who $who; proxy_pass http://prometheus; }} }}',
    "headers all or nothing": 'server {{ listen 127.0.0.1:8080; proxy_set_header Authorization ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; location / {{ proxy_pass http://prometheus; }} location /api/ {{ proxy_set_header X-Role viewer; proxy_pass http://prometheus; }} location /metrics {{ proxy_pass_request_headers off; proxy_pass http://prometheus; }} }}',
    "variables in proxy_pass": "server {{ listen 127.0.0.1:8080; location / {{ set $to 127.0.0.1:9102; proxy_pass http://$to; }} location /api/ {{ set $to 127.0.0.1:9101; proxy_pass http://$to$request_uri; }} location ~ ^/(graph|metrics)(/.*)?$ {{ proxy_pass http://127.0.0.1:9101/p/$1$is_args$args; }} }}",
    "the reference site": SITE_HEAD.replace("{", "{{").replace("}", "}}") + "server {{ listen 127.0.0.1:8080; BASIC satisfy all; proxy_set_header Authorization \"\"; proxy_set_header Host $host; if ($ambiguous) {{ return 400; }} location = /api/v1/query {{ limit_except GET POST {{ deny all; }} proxy_pass http://prometheus/api/v1/query; }} location = / {{ limit_except GET {{ deny all; }} proxy_pass http://prometheus/; }} location ^~ /static/ {{ limit_except GET {{ deny all; }} proxy_pass http://prometheus/static/; }} location ^~ /debug/ {{ deny all; }} location = /-/quit {{ deny all; }} location / {{ if ($admin_denied) {{ return 403; }} proxy_pass http://prometheus/; }} }}",
}

NAMES = ("/", "/api/", "/api", "/api/v1/", "/api/v1/series", "/api/v1/admin/", "/api/v1/query", "/graph", "/-/", "/metrics", "/static/", "/a.b/", "/prom", "/prom/")
EXPRESSIONS = (r"^/api/v1/(series|targets)", r"\.(js|css)$", r"^/-/", r"admin", r"/v1/([a-z]+)$", r"^/(?<first>[a-z]+)/", r"s$", r"^/a.b")
URIS = ("", "", "/", "/x/", "/x", "/api/v1/query", "/q?fixed=1")


class Generator:
    """Random configurations out of everything that the evaluator knows."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = 0

    def one(self, *choices):
        return self.random.choice(choices)

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def access(self):
        parts = []
        if self.chance(25):
            parts += [self.one("BASIC", "BASIC", "auth_basic off;", 'auth_basic "x";')]
        if self.chance(15):
            parts += [self.one("allow 127.0.0.1; deny all;", "deny 10.0.0.0/8;", "deny all;", "allow all;", "deny 127.0.0.9; allow 127.0.0.0/8; deny all;")]
        if self.chance(12):
            parts += [self.one("satisfy any;", "satisfy all;")]
        if self.chance(15):
            parts += [self.one("auth_request /_auth;", "auth_request /_auth;", "auth_request off;", "auth_request /_allow;", "auth_request /api/v1/query;")]
        if self.chance(10):
            parts += [self.one("error_page 401 = @named;", "error_page 403 =404 /denied;", "error_page 404 /denied;", "error_page 401 403 =302 /login?x=1;", "error_page 403 http://elsewhere.example/;")]
        return " ".join(parts)

    def headers(self):
        if not self.chance(25):
            return ""
        return " ".join(self.random.sample(['proxy_set_header Authorization "";', "proxy_set_header Host $host;", "proxy_set_header X-Role $role;", "proxy_set_header X-User $remote_user;",
                                            "proxy_set_header X-Uri $request_uri;", "proxy_set_header X-Path $uri;", 'proxy_set_header Cookie "";'], self.random.randint(1, 3)))

    def condition(self):
        return self.one("$role", '$http_x_role = "admin"', "$request_method = POST", "$request_uri ~ series", "$uri ~* ^/API/v1/([a-z]+)$", "$closed", "$arg_query", '$remote_user != "viewer"', "$args !~ start",
                        "-f $document_root$uri" if False else "$is_args")

    def code(self, inside=False):
        parts = []
        if self.chance(15):
            parts.append(self.one("set $role local;", "set $role $1;", "set $role $uri;", 'set $other "${{role}}x";'))
        if self.chance(14):
            parts.append("if (%s) {{ %s }}" % (self.condition(), self.one("return 403;", "return 418;", "set $role if;", "break;", "return 200 text;", "rewrite ^ /rewritten;", "return 302 /away$uri;", "rewrite ^/api/(.*)$ /prom/$1 last;")))
        if self.chance(12):
            parts.append(self.one("rewrite ^/api/v1/labels$ /api/v1/series last;", "rewrite ^/graph/?(.*)$ /metrics/$1 break;", "rewrite /v1/ /static/;", "rewrite ^/prom(.*)$ $1?from=prom last;", "rewrite ^/a.b/(.*)$ /z/$1?k=$1 permanent;"))
        if inside and self.chance(8):
            parts.append(self.one("return 403;", "return 404;", "return 200 body;", "return 444;"))
        return " ".join(parts)

    def passing(self, uri):
        where = self.one("prometheus", "other", "127.0.0.1:9103")
        if self.chance(10):
            return self.one("proxy_pass http://%s$request_uri;", "proxy_pass http://%s$uri$is_args$args;") % where
        return "proxy_pass http://%s%s;" % (where, self.one(*URIS) if uri else "")

    def location(self, depth=0, under="/"):
        kind = self.one("", "", "", "=", "^~", "~", "~*") if depth == 0 else self.one("", "=", "^~", "~")
        name = self.one(*EXPRESSIONS) if kind.startswith("~") else self.one(*[name for name in NAMES if name.startswith(under)])
        plain = not kind.startswith("~")
        parts = [self.access(), self.code(True), self.headers()]
        if self.chance(80):
            parts.append(self.passing(plain))
        elif self.chance(30):
            parts.append(self.one("try_files $uri @named;", "try_files /none =404;", "try_files $uri /metrics;", "try_files $uri $uri/ =418;"))
        if self.chance(12):
            parts.append("limit_except %s {{ %s }}" % (self.one("GET", "GET POST", "POST"), self.one("deny all;", "BASIC", "allow 127.0.0.1; deny all;")))
        if self.chance(5):
            parts.append("internal;")
        if depth < 2 and self.chance(25) and kind != "=":
            parts += self.locations(self.random.randint(1, 2), depth + 1, name if plain else "/")
        return kind, name, "location %s %s {{ %s }}" % (kind, '"%s"' % name.replace("{", "{{") if not plain else name, " ".join(parts))

    def locations(self, count, depth=0, under="/"):
        seen, made = set(), []
        for _ in range(count):
            kind, name, text = self.location(depth, under)
            key = (kind == "=", name) if not kind.startswith("~") else (kind, name, len(made))
            if key in seen or (depth > 0 and name == under and kind in ("", "^~")):
                continue
            seen.add(key)
            made.append(text)
        return made

    def server(self, number):
        parts = ["listen 127.0.0.1:8080%s;" % (" default_server" if number == 0 and self.chance(50) else "")]
        parts.append("server_name %s;" % self.one("a.example", "*.example", "b.*", "_", r"~^re[0-9]+\.test$", ".dot.example") if number else "server_name first.example;")
        if self.chance(15):
            parts.append("merge_slashes off;")
        parts += [self.access(), self.code(), self.headers()]
        parts.append("location @named {{ %s %s }}" % (self.access(), self.one("return 200 named;", "proxy_pass http://other;", "return 403;")))
        parts.append("location = /_auth {{ internal; proxy_pass http://oauth2/oauth2/auth; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }}")
        parts.append("location = /_allow {{ %s return 204; }}" % self.one("", "internal;"))
        parts += self.locations(self.random.randint(2, 7))
        return "server {{ %s }}" % " ".join(parts)

    def configuration(self):
        maps = [r'map $request_uri $closed {{ default 0; "~^/api/v1/(series|admin)" 1; "~*%2f" 1; /metrics 1; }}',
                'map %s $role {{ default "%s"; viewer %s; "~^admin$" root; "~*^(a)dm" "caught$1"; }}' % (self.one("$remote_user", "$http_x_role", '"$remote_user"', "$arg_role"), self.one("", "0", "x"), self.one("v", "0", "$uri"))]
        return " ".join(maps + [self.access()] + [self.server(number) for number in range(self.random.randint(1, 3))])


# ---- requests --------------------------------------------------------------------------------------------------------

PATHS = ("/", "/api", "/api/", "/api/v1/", "/api/v1/series", "/api/v1/series/", "/api/v1/admin/tsdb/snapshot", "/api/v1/query", "/api/v1/query_range", "/api/v1/labels", "/api/v1/rules", "/api/v1/targets", "/graph",
         "/graph/x", "/-/healthy", "/-/quit", "/metrics", "/federate", "/static/app.js", "/classic/graph", "/prom", "/prommetrics", "/prom/metrics", "/a.b/c", "/axb/c", "/debug/pprof/", "/oauth2/start", "/_auth", "/_allow",
         "/denied", "/login", "/old/series", "/old/x/y", "/loop", "/go/a", "/x", "/gone", "/moved", "/shut", "/exact", "/other/z", "/other", "/index.html", "/broken", "/none", "/file.txt", "/API/v1/series", "/consoles/")
RAW = ("/api//v1/series", "//api/v1/series", "/api/v1/./series", "/api/v1/../v1/series", "/api/v1/query/../series", "/api/v1/%73eries", "/%61pi/v1/targets", "/api%2fv1%2fseries", "/api/v1/query%2f..%2fseries",
       "/api/v1/query%3f/../series", "/api/v1/query#/../series", "/api/v1/series;a=b", "/api/v1\\series", "/..", "/../x", "/a/../../b", "/api/v1/series%00", "/api/v1/series%", "/api/v1/series%2", "/api/v1/series%zz", "/%", "/.",
       "/./", "/api/v1/.", "/api/v1/..", "/api/v1/...", "/api/v1/.hidden", "/api/%2e%2e/x", "/api/v1/series%0a", "/api/v1/s%25eries", "/api/v1/a+b", "/api/v1/a%2bb", "/api/v1/a%20b", "/api/v1/%c3%a9", "/api/v1/\xe9",
       "/api/v1/a%3Cb%3E%22%27%60%7b%7d", "*", "api/v1/series", "http://a.example/api/v1/series", "https://evil.example/metrics", "http://first.example", "http://first.example?x=1", "http://re5.test:99/graph", "http:///x", "ht tp://x/",
       "/api/v1/series%3f", "/api/v1/series%23", "/api/v1/series/%2e", "/static/%2e%2e/metrics", "/api/v1/query?", "/?", "/graph?a#b", "/a%2fb", "/metrics%2f", "/prom//x", "/prom/../metrics", "/api/v1/series\x7f")
QUERIES = ("", "", "", "?query=up", "?match[]=up", "?role=admin&query=1", "?a=%2f..&b=%20", "?start=0#x", "?role=viewer", "?x=a+b")
METHODS = ("GET",) * 8 + ("POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "BREW", "get")
HOSTS = ("first.example", "first.example", "a.example", "x.example", "b.anything", "re1.test", "dot.example", "sub.dot.example", "unknown", "FIRST.example:8080", "a.example.", "127.0.0.1")


def requests(count, seed, listeners):
    import base64
    source = random.Random(seed)
    for _ in range(count):
        target = source.choice(RAW) if source.randrange(100) < 35 else source.choice(PATHS)
        if "?" not in target and not target.startswith("*"):
            target += source.choice(QUERIES)
        credentials = source.choice(("none", "none", "right", "right", "wrong"))
        user = source.choice(tuple(PASSWORDS)) if credentials != "none" else ""
        headers = []
        if credentials != "none":
            password = PASSWORDS[user] if credentials == "right" else "no"
            headers.append(("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()))
        for header in (("X-Role", "admin"), ("X-Role", "viewer"), ("Cookie", "session=good"), ("Cookie", "session=guest; a=b"), ("X-Forwarded-User", "admin"), ("X_Under", "1"), ("X-Forwarded-For", "1.2.3.4"), ("Upgrade", "h2c"),
                       ("X-Rewrite-URL", "/api/v1/query"), ("Accept", "*/*")):
            if source.randrange(100) < 18 and all(header[0] != name for name, _ in headers):
                headers.append(header)
        yield {"method": source.choice(METHODS), "target": target, "host": source.choice(HOSTS), "headers": headers, "client": source.choice(CLIENTS), "listener": source.choice(listeners), "credentials": credentials, "user": user}


# ---- the test --------------------------------------------------------------------------------------------------------

def own_namespace():
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for words in (["link", "set", "lo", "up"], *(["addr", "add", f"{address}/32", "dev", "lo"] for address in CLIENTS if not address.startswith("127."))):
        subprocess.run(["ip", *words], check=True)


class Evaluator(unittest.TestCase):
    nginx = NGINX
    written, random = (200, 60) if ALL else (60, 10)  # requests for each; random configurations

    @classmethod
    def setUpClass(cls):
        own_namespace()
        cls.directory = tempfile.mkdtemp(prefix="promwarden-nginx-", dir="/run")
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        os.chmod(cls.directory, 0o755)
        os.mkdir(f"{cls.directory}/www")
        with open(f"{cls.directory}/www/file.txt", "w") as file:
            file.write("a file\n")
        with open(f"{cls.directory}/htpasswd", "w") as file:
            file.writelines(f"{user}:{{PLAIN}}{password}\n" for user, password in PASSWORDS.items())
        for port in (*BACKENDS, IDENTITY):
            server = Server(("127.0.0.1", port), Echo)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            cls.addClassCleanup(server.server_close)
            cls.addClassCleanup(server.shutdown)

    def write(self, body):
        path = f"{self.directory}/nginx.conf"
        text = (HEAD + body.replace("BASIC", BASIC) + "\n}}\n").format(dir=self.directory)
        with open(path, "w") as file:
            file.write(text)
        return path

    def valid(self, path):
        done = subprocess.run([self.nginx, "-t", "-c", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        return done.returncode == 0, done.stdout

    def start(self, path, listeners):
        process = subprocess.Popen([self.nginx, "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while listeners and time.monotonic() < deadline:
            address, port = listeners[0].rsplit(":", 1)
            with socket.socket() as probe:
                if probe.connect_ex((address, int(port))) == 0:
                    listeners = listeners[1:]
                else:
                    time.sleep(0.01)
        self.assertEqual(listeners, [], "nginx does not start")
        return process

    def compare(self, path, asked):
        """Texts that describe each difference, and how many answers were unknown."""
        done = subprocess.run([DRIVER, path], input="".join(json.dumps(request) + "\n" for request in asked), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(answers), len(asked))
        process = self.start(path, sorted({request["listener"] for request in asked}))
        try:
            pairs = [(request, answer, ask(request)) for request, answer in zip(asked, answers)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        differences = [f"{request['method']} {request['target']} host={request['host']} client={request['client']} {request['credentials']} {request['user']} {request['headers']}:\n      nginx: {real}\n      we:    {answer}"
                       for request, answer, real in pairs if answer["kind"] != "unknown" and not self.agree(answer, real)]
        return differences, [answer["reason"] for answer in answers if answer["kind"] == "unknown"]

    @staticmethod
    def agree(answer, real):
        if answer["kind"] == "closed" or real is None:
            return answer["kind"] == "closed" and real is None
        status, location, echo = real
        if answer["kind"] != "passed":
            return echo is None and status == answer["status"] and (status not in (301, 302) or location == answer.get("redirect", ""))
        passed = answer["passed"]
        if echo is None:
            return False
        authority = passed["authority"]
        port = UPSTREAMS.get(authority) or int(authority.rsplit(":", 1)[1])
        own = Echo.decide(port, echo["target"], dict(echo["headers"]))
        if any("\n" in text for text in (passed["target"], *(value for _, value in passed["headers"]))):  # a decoded %0a: what the backend sees is in pieces
            return port == echo["port"]
        if status != (answer["status"] or own) or port != echo["port"] or passed["method"] != echo["method"] or passed["target"] != echo["target"]:
            return False
        shown = [(name.lower(), value) for name, value in echo["headers"] if name.lower() not in ("content-length",)]
        return sorted(shown) == sorted((name.lower(), value) for name, value in passed["headers"])

    def run_all(self, bodies, count):
        total, unknown, different = 0, [], []
        for number, (name, body) in enumerate(bodies):
            path = self.write(body)
            good, text = self.valid(path)
            self.assertTrue(good, f"{name}: {text}")
            listeners = ["127.0.0.1:8080"] + (["127.0.0.1:8081"] if "8081" in body else [])
            differences, unknowns = self.compare(path, list(requests(count, SEED * 1000 + number, listeners)))
            total += count
            unknown += [f"{name}: {reason}" for reason in unknowns]
            different += [f"{name}:\n   {difference}" for difference in differences]
            if differences and os.environ.get("PROMWARDEN_KEEP"):
                shutil.copy(path, f"/tmp/different-{number}.conf")
        print(f"{len(bodies)} configurations, {total} requests, {len(different)} differences, {len(unknown)} unknown")
        self.assertEqual(len(different), 0, "\n".join(one for number, one in enumerate(different) if number < 200 and (number == 0 or different[number - 1].split(":")[0] != one.split(":")[0] or number < 5)))
        self.assertEqual(unknown, [])

    def test_what_people_write(self):
        self.run_all(list(WRITTEN.items()), self.written)

    def test_random_ones(self):
        generator = Generator(SEED)
        bodies = []
        wanted, tries = self.random, 0
        while len(bodies) < wanted:
            tries += 1
            self.assertLess(tries, 20 * wanted, "the generator writes hardly anything that nginx takes")
            body = generator.configuration()
            if self.valid(self.write(body))[0]:
                bodies.append((f"random {len(bodies)} of seed {SEED}", body))
        self.run_all(bodies, self.written)


if __name__ == "__main__":
    unittest.main()
