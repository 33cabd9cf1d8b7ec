#!/usr/bin/python3
"""The site of [access] in a real nginx before a real Prometheus: installed as the distribution has it, taken up under clients that never rest, refused without a trace, taken
away again byte for byte."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import ssl
import stat
import subprocess
import time
import unittest
from base64 import b64encode
from pathlib import Path

import rotation
from rotation import AGENT, ALL, Host, run, wait_until

APPLIES = 100 if ALL else 10
KILLS = 60 if ALL else 6
NGINX, LOGS = Path("/etc/nginx"), Path("/var/log/nginx")
SITE, LINK, SINGLE = NGINX / "sites-available/promwarden", NGINX / "sites-enabled/promwarden", NGINX / "conf.d/promwarden.conf"
AUDIT = LOGS / "promwarden_access.log"
PORT, FOREIGN = 8443, 8080
PROVED = ["access.roles", "access.endpoint-coverage", "proxy.tls-only", "proxy.literal-upstream", "proxy.no-bypass", "proxy.canonical-uri", "proxy.credential-stripping", "proxy.htpasswd", "tls.server",
          "tls.protocol", "api.federation", "audit.proxy-log"]
PASSWORDS = {"alice": "of alice", "bob": "of bob"}
POLICY = """schema = 1
[prometheus]
listen = ["127.0.0.1:9090"]
[firewall]
ownership = "off"
[firewall.sources]
office = ["192.0.2.0/24"]
[[firewall.service]]
name = "prometheus"
ports = [9090]
allow = ["office"]
[[tls.certificate]]
name = "proxy"
names = ["localhost"]
install = "nginx"
[access]
server_name = "localhost"
listen = ["127.0.0.1:8443"]
certificate = "proxy"
[access.roles]
admin = ["user:alice"]
viewer = ["user:bob"]
[access.endpoints]
"/api/v1/series" = "{series}"
"""
BACKEND = """
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
[[tls.certificate]]
name = "nginx-client"
use = "client"
names = ["nginx.example.org"]
install = "nginx"
[tls]
client_auth = "require"
"""
CONFIGURATION = """user www-data;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {{}}
http {{
    access_log off;
    include conf.d/*.conf;
    {more}
}}
"""
ENABLED = "include /etc/nginx/sites-enabled/*;"
FOREIGN_SITE = f'server {{ listen 127.0.0.1:{FOREIGN}; location / {{ return 200 "foreign"; }} }}\n'


def status(user, path="/api/v1/query?query=1"):
    """What the site answers, over a connection of its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    credentials = f"Authorization: Basic {b64encode(f'{user}:{PASSWORDS[user]}'.encode()).decode()}\r\n" if user else ""
    with context.wrap_socket(socket.create_connection(("127.0.0.1", PORT), 30), server_hostname="localhost") as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{credentials}Connection: close\r\n\r\n".encode())
        return answered(client)


def answered(client):
    data = b""
    while piece := client.recv(1 << 16):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    if len(body) < length:
        raise ConnectionError(f"{len(body)} of {length} bytes")
    return int(head.split()[1])


def foreign_status():
    with socket.create_connection(("127.0.0.1", FOREIGN), 30) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return answered(client)


def closed():
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", PORT)) != 0


def ask_without_pause(ask, stop, report):
    """Until it is told to stop; reports how often, and what was not a 200."""
    count, failures = 0, []
    while not stop.is_set():
        count += 1
        try:
            if (got := ask()) != 200:
                failures.append(str(got))
        except (OSError, ValueError, StopIteration) as error:
            failures.append(repr(error))
    report.send((count, failures))


def bob():
    return status("bob")


class Clients:
    def __init__(self):
        self.stop, self.running = multiprocessing.Event(), []
        for ask in (bob, foreign_status, bob, bob)[: 4 if ALL else 2]:
            ours, theirs = multiprocessing.Pipe(False)
            process = multiprocessing.Process(target=ask_without_pause, args=(ask, self.stop, theirs), daemon=True)
            process.start()
            self.running.append((process, ours))

    def finish(self):
        self.stop.set()
        results = [pipe.recv() for _, pipe in self.running]
        for process, _ in self.running:
            process.join(20)
        return sum(count for count, _ in results), [failure for _, failures in results for failure in failures]


def contents(*directories):
    """Every name below them: what it is, whose, and what is in it."""
    found = {}
    for top in directories:
        for path in sorted(top.rglob("*")):
            about = path.lstat()
            kind = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
            found[str(path)] = (stat.filemode(about.st_mode), about.st_uid, about.st_gid, kind)
    return found


def workers():
    master = int(Path("/run/nginx.pid").read_text())
    return set(Path(f"/proc/{master}/task/{master}/children").read_text().split())


class Site(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)
        for name in ("sites-available", "sites-enabled", "conf.d"):
            (NGINX / name).mkdir()
        (NGINX / "sites-available/foreign").write_text(FOREIGN_SITE)
        (NGINX / "sites-enabled/foreign").symlink_to("/etc/nginx/sites-available/foreign")
        self.configure()
        self.policy()

    @staticmethod
    def configure(more=ENABLED):
        (NGINX / "nginx.conf").write_text(CONFIGURATION.format(more=more))

    def policy(self, series="admin", extra=""):
        new = self.host.directory / "new.toml"
        new.write_text(POLICY.format(series=series) + extra)
        new.chmod(0o644)
        new.rename(self.host.policy)

    def command(self, *words, expected=0, text=None, **options):
        done = subprocess.run(self.host.words(*words), input=text, capture_output=True, text=True, check=False, timeout=300, **options)
        self.assertIn(done.returncode, (expected,) if isinstance(expected, int) else expected, done.stdout + done.stderr)
        return done

    def apply(self, *words, expected=(0, 1, 3)):
        """What it says; the report of this bare host may have failures of its own."""
        done = self.command("apply", "--force", *words, expected=expected)
        return done.stdout + done.stderr

    def planned(self):
        done = self.command("plan", "--format", "json", expected=(0, 1))
        return [(change["kind"], change["subject"]) for change in json.loads(done.stdout)["changes"]]

    def start(self):
        """Prometheus and nginx, and who may sign in."""
        if not (self.host.directory / "data").exists():
            self.host.start_prometheus()
        self.master = subprocess.Popen(["nginx", "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        self.host.processes.append(self.master)
        wait_until(lambda: Path("/run/nginx.pid").exists() and Path("/run/nginx.pid").read_text().strip() and workers(), "nginx runs")
        for user, password in PASSWORDS.items():
            self.command("access", "user", "add", user, "--role", "admin" if user == "alice" else "viewer", text=f"{password}\n", expected=(0, 1))

    def check_site(self, series):
        self.assertEqual((status("alice"), status("bob"), status(None)), (200, 200, 401))
        self.assertEqual((status("alice", "/api/v1/series?match[]=up"), status("bob", "/api/v1/series?match[]=up")), (200, 200 if series == "viewer" else 403))

    # ---- installed and taken away ----

    def test_as_the_distribution_has_it(self):
        self.start()
        self.assertIn(("site", str(SITE)), self.planned())
        said = self.apply()
        self.assertIn(f"Changed {SITE}", said)
        self.assertIn(f"Changed {LINK}", said)
        self.assertEqual(os.readlink(LINK), str(SITE))
        self.assertEqual(SITE.read_text(), self.command("render", "nginx").stdout)
        self.check_site("admin")
        self.assertEqual(self.planned(), [])
        self.assertIn("Nothing had to change.", self.apply())
        about = AUDIT.stat()
        self.assertEqual((stat.S_IMODE(about.st_mode), AUDIT.owner(), AUDIT.group()), (0o640, "www-data", "adm"))
        self.assertTrue(any(json.loads(line)["user"] == "bob" for line in AUDIT.read_text().splitlines()))
        words = [word for control in PROVED for word in ("--only", control)]
        self.assertEqual({one["id"]: one["verdict"] for one in json.loads(self.command("check", "--format", "json", *words).stdout)["controls"]}, dict.fromkeys(PROVED, "pass"))

    def test_an_undo_leaves_nothing_of_it(self):
        self.command("cert", "issue", "proxy")
        self.start()
        before, listening = contents(NGINX, Path("/run")), workers()
        self.apply()
        self.check_site("admin")
        self.assertNotEqual(workers(), listening)
        self.policy("viewer")
        self.apply()
        self.check_site("viewer")
        self.command("undo")
        self.check_site("admin")
        self.command("undo")
        self.assertEqual(contents(NGINX, Path("/run")), before)
        wait_until(closed, "nobody listens there any more")
        self.assertEqual(foreign_status(), 200)

    def test_a_policy_that_describes_none_any_more(self):
        self.start()
        before = contents(NGINX / "sites-available", NGINX / "sites-enabled")
        self.apply()
        self.host.policy.write_text(POLICY.partition("[access]")[0])
        self.assertEqual(self.planned(), [("site", str(LINK)), ("site", str(SITE))])
        self.apply()
        self.assertEqual(contents(NGINX / "sites-available", NGINX / "sites-enabled"), before)
        wait_until(closed, "nobody listens there any more")
        self.assertEqual(self.planned(), [])
        self.command("undo")
        self.check_site("admin")

    def test_where_there_are_no_sites_enabled(self):
        self.configure("")
        self.start()
        before = contents(NGINX / "conf.d", NGINX / "sites-available")
        self.apply()
        self.assertFalse(SITE.exists())
        self.assertEqual(SINGLE.read_text(), self.command("render", "nginx").stdout)
        self.check_site("admin")
        self.command("undo", "--all")
        self.assertEqual(contents(NGINX / "conf.d", NGINX / "sites-available"), before)

    def test_a_configuration_that_includes_neither(self):
        (NGINX / "nginx.conf").write_text("events {}\nhttp {}\n")
        self.command("cert", "issue", "proxy")
        self.assertIn("includes neither", self.apply())
        self.assertFalse(SITE.exists() or SINGLE.exists())

    def test_before_nginx_is_started(self):
        self.apply()
        self.assertFalse(AUDIT.exists() and stat.S_IMODE(AUDIT.stat().st_mode) & 0o007)
        self.start()
        self.check_site("admin")

    def test_a_backend_that_asks_for_a_certificate(self):
        self.policy(extra=BACKEND)
        self.apply()
        self.assertIn("proxy_ssl_verify on;", SITE.read_text())
        self.start()
        self.check_site("admin")
        stranger = run("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:9090/-/ready", check=False)
        self.assertEqual((stranger.returncode != 0, stranger.stdout), (True, "000"), "the backend lets in only who has one")

    def test_what_is_audited_is_only_said(self):
        self.policy(extra='[controls]\n"access.roles" = "audit"\n')
        self.start()
        self.command("cert", "issue", "proxy")
        self.assertIn(("site", str(SITE)), self.planned())
        before = contents(NGINX)
        self.apply()
        self.assertEqual(contents(NGINX), before)

    def test_nothing_else_rotates_its_log(self):
        run("mount", "-t", "tmpfs", "none", "/etc/logrotate.d")
        self.addCleanup(run, "umount", "/etc/logrotate.d")
        self.start()
        self.apply()
        rule = Path("/etc/logrotate.d/promwarden-nginx")
        self.assertEqual(status("bob"), 200)
        run("logrotate", "--force", "--state", self.host.directory / "rotated", rule)
        wait_until(lambda: AUDIT.exists() and bob() == 200 and AUDIT.stat().st_size, "nginx writes into the new log")
        self.assertEqual((stat.S_IMODE(AUDIT.stat().st_mode), AUDIT.group()), (0o640, "adm"))
        self.assertTrue(list(LOGS.glob(f"{AUDIT.name}.1*")))
        self.assertEqual(self.planned(), [])
        self.command("undo")
        self.assertFalse(rule.exists())

    def test_a_log_that_others_can_read_is_closed(self):
        AUDIT.write_text("")
        AUDIT.chmod(0o644)
        self.start()
        self.apply()
        self.assertEqual(stat.S_IMODE(AUDIT.stat().st_mode), 0o640)
        self.command("undo")
        self.assertEqual(stat.S_IMODE(AUDIT.stat().st_mode), 0o644)

    # ---- refused ----

    def refused(self, expected, prepare):
        """As before in every byte, and nobody even noticed."""
        self.command("cert", "issue", "proxy")
        self.start()
        undo = prepare()
        before, serving = contents(NGINX, Path("/run"), LOGS), workers()
        said = self.apply(expected=4)
        self.assertIn(expected, said)
        self.assertNotIn(".promwarden", said, "a name that nobody knows")
        after = contents(NGINX, Path("/run"), LOGS)
        after.pop(str(LOGS / "error.log")), before.pop(str(LOGS / "error.log"))  # a foreign master writes there what it likes
        self.assertEqual(after, before)
        self.assertEqual(foreign_status(), 200)
        undo()
        self.apply()
        self.check_site("admin")
        return serving

    def test_a_site_that_nginx_refuses(self):
        other = NGINX / "conf.d/other.conf"

        def same_upstream():
            other.write_text("upstream promwarden_prometheus { server 127.0.0.1:9; }\n")
            return other.unlink
        self.refused('duplicate upstream "promwarden_prometheus"', same_upstream)

    def test_a_foreign_file_that_nginx_refuses(self):
        other = NGINX / "sites-available/foreign"

        def broken():
            other.write_text(FOREIGN_SITE + "nonsense;\n")
            return lambda: other.write_text(FOREIGN_SITE)
        self.refused('unknown directive "nonsense" in /etc/nginx/sites-enabled/foreign:2', broken)

    def test_a_site_that_nginx_would_ignore(self):
        other = NGINX / "conf.d/other.conf"

        def same_name():
            other.write_text(f"server {{ listen 127.0.0.1:{PORT} ssl http2; server_name localhost; include /etc/nginx/promwarden/tls/proxy.conf; }}\n")
            return other.unlink
        self.refused("another site has the name localhost", same_name)

    @unittest.skipUnless(ALL, "a master that keeps what it has says so by doing nothing for twenty seconds: with --all")
    def test_a_port_that_is_somebody_elses(self):
        holder = socket.socket()
        self.addCleanup(holder.close)

        def held():
            holder.bind(("127.0.0.1", PORT))
            holder.listen()
            return holder.close
        self.refused("no worker was started", held)

    def test_a_site_that_worked_stays_when_the_next_is_refused(self):
        self.start()
        self.apply()
        before = contents(NGINX)
        self.policy("viewer", '[[waiver]]\ncontrol = "proxy.htpasswd"\nreason = "x"\nowner = "x"\nexpires = 2099-01-01\n')
        (NGINX / "conf.d/other.conf").write_text("nonsense;\n")
        self.apply(expected=4)
        (NGINX / "conf.d/other.conf").unlink()
        self.assertEqual(contents(NGINX), before)
        self.check_site("admin")

    # ---- under load, and killed ----

    def test_applies_under_clients_that_never_rest(self):
        self.start()
        self.apply()
        clients = Clients()
        started = time.monotonic()
        for number in range(APPLIES):
            series = "viewer" if number % 2 == 0 else "admin"
            self.policy(series)
            self.assertIn(f"Changed {SITE}", self.apply())
            self.check_site(series)
        seconds = time.monotonic() - started
        count, failures = clients.finish()
        print(f"{APPLIES} applies in {seconds:.1f} s, {count} requests, {len(failures)} failed")
        self.assertEqual(failures, [])
        self.assertGreater(count, APPLIES)

    def test_killed_at_any_moment(self):
        self.start()
        self.apply()
        clients = Clients()
        self.policy("viewer")
        before, started = workers(), time.monotonic()
        process = subprocess.Popen(self.host.words("apply", "--force"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: workers() and workers().isdisjoint(before), "the site is taken up")
        work = time.monotonic() - started  # what comes after it only looks
        process.wait()
        chance, interrupted, unfinished = random.Random(5), 0, 0
        for number in range(KILLS):
            series = "viewer" if number % 2 else "admin"
            self.policy(series)
            process = subprocess.Popen(self.host.words("apply", "--force"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.2, 1.1) * work)
            process.kill()
            interrupted += process.wait() == -signal.SIGKILL
            unfinished += "left unfinished" in self.apply()
            self.check_site(series)
            self.assertEqual([name for name in contents(NGINX) if "/." in name and ".lock" not in name], [], "temporary files")
            self.assertEqual(self.planned(), [])
        count, failures = clients.finish()
        print(f"{interrupted} of {KILLS} applies were killed, {unfinished} of them left something to be put in order, {count} requests, {len(failures)} failed")
        self.assertEqual(failures, [])
        self.assertGreater(interrupted, KILLS // 4)
        self.command("undo", "--all")
        self.assertFalse(SITE.exists() or LINK.is_symlink())
        self.assertEqual(foreign_status(), 200)

    # ---- with an agent ----

    def test_the_agent_keeps_it(self):
        self.start()
        socket_path = self.host.directory / "none"
        with open(self.host.directory / "agent.log", "wb") as log:
            agent = subprocess.Popen([AGENT, *self.host.words()[1:]], stderr=log)
        self.host.processes.append(agent)
        wait_until(socket_path.exists, "the agent listens")
        self.apply()
        self.check_site("admin")
        text, before = SITE.read_text(), workers()
        new = SITE.with_name("new")
        new.write_text(text.replace("deny all", "allow all"))
        new.rename(SITE)
        wait_until(lambda: SITE.read_text() == text, "the text is put back")
        LINK.unlink()
        wait_until(lambda: LINK.is_symlink() and workers().isdisjoint(before), "the link is put back, and read")
        self.check_site("admin")
        self.command("undo")
        self.assertFalse(SITE.exists() or LINK.is_symlink())
        time.sleep(0.5)
        self.assertFalse(SITE.exists())
        self.assertIn(f"Changed {SITE}", self.apply("--confirm-within", "2s"))
        wait_until(lambda: not SITE.exists() and not LINK.is_symlink(), "the trial takes it away again")


if __name__ == "__main__":
    rotation.main(__file__, "prometheus", "nginx", "setpriv", "logrotate")
