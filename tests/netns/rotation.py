"""A host of directories for tests of certificates: its own /etc/prometheus and /etc/nginx, a real Prometheus, a real nginx, clients that never rest."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or HERE.parents[1] / "build")
COMMAND, AGENT = BUILD / "src/bin/promwarden", BUILD / "src/bin/promwardend"
ALL = bool(os.environ.get("PROMWARDEN_ALL"))

PROMETHEUS = Path("/etc/prometheus")
TLS = PROMETHEUS / "promwarden/tls"
WEB = PROMETHEUS / "web.yml"
WEB_TEXT = "# kept by somebody else\nhttp_server_config:\n  http2: true   # as it was\n"
POLICY = """schema = 1
[tls]
client_auth = "{client_auth}"
[[tls.certificate]]
name = "prometheus"
names = ["localhost", "127.0.0.1"]
install = "prometheus-web"
[[tls.certificate]]
name = "proxy"
names = ["localhost"]
install = "nginx"
[[tls.certificate]]
name = "scrape"
use = "client"
names = ["scrape.example.org"]
[[tls.certificate]]
name = "other"
names = ["localhost"]
"""
NGINX = """pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {}
http {
    access_log off;
    server {
        listen 127.0.0.1:8443 ssl;
        include /etc/nginx/promwarden/tls/proxy.conf;
        location / { return 200 "ok"; }
    }
}
"""


def run(*words, check=True, **options):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True, **options)


def wait_until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Host:
    """Directories and a policy; `promwarden` without an agent."""

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-rotation-"))
        self.directory.chmod(0o755)
        self.state = self.directory / "state"
        self.policy = self.directory / "policy.toml"
        self.write_policy()
        for path in (PROMETHEUS, Path("/etc/nginx"), Path("/var/log/nginx")):
            for entry in path.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        WEB.write_text(WEB_TEXT)
        shutil.chown(WEB, group="prometheus")
        WEB.chmod(0o640)
        (PROMETHEUS / "prometheus.yml").write_text("scrape_configs: []\n")
        self.processes = []

    def write_policy(self, client_auth="off"):
        self.policy.write_text(POLICY.format(client_auth=client_auth))
        self.policy.chmod(0o644)

    def words(self, *words):
        return [str(COMMAND), "--policy", str(self.policy), "--state", str(self.state), "--socket", str(self.directory / "none"), *words]

    def cert(self, *words, check=True, before=()):
        # Before the clients, which never rest: on a busy machine they would decide how long this takes.
        done = run(*before, *self.words("cert", *words), check=False, preexec_fn=lambda: os.nice(-10))
        if check and done.returncode != 0:
            raise AssertionError(f"cert {words} ended with {done.returncode}: {done.stderr}")
        return done

    def list(self):
        return {one["name"]: one for one in json.loads(self.cert("list", "--format", "json").stdout)}

    def start_prometheus(self):
        data = self.directory / "data"
        data.mkdir()
        shutil.chown(data, "prometheus")
        with open(self.directory / "prometheus.log", "wb") as log:
            process = subprocess.Popen(["setpriv", "--reuid", "prometheus", "--regid", "prometheus", "--clear-groups", "prometheus", f"--config.file={PROMETHEUS}/prometheus.yml",
                                        f"--web.config.file={WEB}", "--web.listen-address=127.0.0.1:9090", f"--storage.tsdb.path={data}"], stderr=log, stdout=log)
        self.processes.append(process)
        wait_until(lambda: "Server is ready" in (self.directory / "prometheus.log").read_text(errors="replace"), "Prometheus is ready")

    def start_nginx(self):
        Path("/etc/nginx/nginx.conf").write_text(NGINX)
        process = subprocess.Popen(["nginx", "-g", "daemon off;"], stderr=subprocess.DEVNULL)
        self.processes.append(process)
        wait_until(lambda: run("bash", "-c", ": </dev/tcp/127.0.0.1/8443", check=False).returncode == 0, "nginx listens")

    def client(self, port=9090, ca_file=TLS / "authorities.pem", pair=()):
        client = subprocess.Popen([sys.executable, str(HERE / "handshakes.py"), str(port), "localhost", str(ca_file), *map(str, pair)], stdout=subprocess.PIPE, text=True)
        self.processes.append(client)
        client.stdout.readline()  # from here on it ends as it is asked to
        return client

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()
        shutil.rmtree(self.directory)


def finished(clients):
    time.sleep(0.3)
    for client in clients:
        client.terminate()
    return [json.loads(client.communicate(timeout=60)[0]) for client in clients]


def summed(results):
    return {"handshakes": sum(r["count"] for r in results), "failures": sum(r["failures"] for r in results), "serials": [r["serials"] for r in results],
            "examples": {key: value for r in results for key, value in r["examples"].items()}}


class WithHost(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)




def enter_namespaces(program):
    """Runs the test program again where nobody else looks: /etc/prometheus, /etc/nginx, /run and port 9090 are its own there."""
    if os.environ.get("PROMWARDEN_INSIDE") != "1":
        os.environ["PROMWARDEN_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, str(Path(program).resolve()), *sys.argv[1:]])
    run("mount", "--make-rprivate", "/")
    for path in ("/etc/prometheus", "/etc/nginx", "/run", "/var/log/nginx", "/tmp"):
        if path == "/tmp" and str(BUILD).startswith("/tmp/"):
            continue
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", path)
    run("ip", "link", "set", "lo", "up")


def main(program, *tools):
    """Runs the tests of the calling program, which need these tools."""
    if os.geteuid() != 0:
        sys.exit("these tests make namespaces: run them as root")
    for tool in ("openssl", "unshare", *tools):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    if not COMMAND.exists():
        sys.exit(f"{COMMAND} is not built (PROMWARDEN_BUILD names the build directory)")
    enter_namespaces(program)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    unittest.main(verbosity=2)
