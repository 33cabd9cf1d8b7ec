"""promwarden-metrics, scraped by a real Prometheus through the job that `promwarden render scrape` prints; and an agent whose live answers never hold it up.

PROMWARDEN_BUILD names the build directory; without it, the one beside the sources.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import unittest
import urllib.request

from live_test import COMMAND, Live
from probe_test import BUILD, NOBODY

AGENT = BUILD / "src/bin/promwardend"
METRICS = BUILD / "src/bin/promwarden-metrics"
PORT = 9469


class WithAgent(Live):
    """An agent beside the Prometheus of the base class, without its tests."""

    def start_agent(self, extra=""):
        policy = self.file("agent.toml", f'schema = 1\n[agent]\nrecheck = "10s"\n[prometheus]\nunit = "{self.unit.name}"\nlisten = ["127.0.0.1:9090"]\n{extra}\n')
        self.agent_socket = self.directory / "agent.socket"
        words = [AGENT, "--policy", policy, "--state", self.directory / "agent-state", "--socket", self.agent_socket]
        agent = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.terminate)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                self.call("Explain", control="network.bypass")
                return agent
            self.assertLess(time.monotonic(), deadline, "the agent does not answer")
            time.sleep(0.05)

    def call(self, method, **parameters):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.agent_socket))
            connection.sendall(json.dumps({"method": f"io.promwarden.{method}", "parameters": parameters}).encode() + b"\0")
            answer = b""
            while not answer.endswith(b"\0"):
                part = connection.recv(1 << 20)
                if not part:
                    raise ConnectionError("the agent closed the connection")
                answer += part
        return json.loads(answer[:-1])["parameters"]

    def verdict(self, control):
        return next(one["verdict"] for one in self.call("Report")["report"]["controls"] if one["id"] == control)

    def wait_for_verdict(self, control, verdict, seconds=30):
        deadline = time.monotonic() + seconds
        while (now := self.verdict(control)) != verdict:
            self.assertLess(time.monotonic(), deadline, f"{control} is still {now}")
            time.sleep(0.2)


class Agent(WithAgent):
    def test_it_asks_by_itself_and_looks_again(self):
        server = self.prometheus()
        self.start_agent()
        self.wait_for_verdict("access.authentication", "fail")
        self.assertEqual(self.verdict("api.admin"), "pass")
        server.kill()
        server.wait()
        self.prometheus(web=self.web(users=True))
        self.wait_for_verdict("access.authentication", "pass")

    def test_a_silent_server_does_not_hold_it_up(self):
        server = self.prometheus()
        server.send_signal(signal.SIGSTOP)
        self.addCleanup(server.send_signal, signal.SIGCONT)
        agent = self.start_agent()
        slowest, end, workers = 0.0, time.monotonic() + 8, set()
        while time.monotonic() < end:
            began = time.monotonic()
            self.call("Explain", control="network.bypass")
            slowest = max(slowest, time.monotonic() - began)
            with open(f"/proc/{agent.pid}/task/{agent.pid}/children", encoding="ascii") as children:
                workers.add(len(children.read().split()))
            time.sleep(0.02)
        self.assertLess(slowest, 1.0)
        self.assertEqual(max(workers), 1, "no worker was ever asked, or more than one at a time")
        self.wait_for_verdict("access.authentication", "unknown")

    def test_an_agent_that_ends_leaves_no_worker(self):
        server = self.prometheus()
        server.send_signal(signal.SIGSTOP)
        self.addCleanup(server.send_signal, signal.SIGCONT)
        agent = self.start_agent()
        path, worker, deadline = f"/proc/{agent.pid}/task/{agent.pid}/children", "", time.monotonic() + 10
        while not worker:
            self.assertLess(time.monotonic(), deadline)
            with open(path, encoding="ascii") as children:
                worker = children.read().strip()
        agent.kill()
        agent.wait()
        deadline = time.monotonic() + 5
        while os.path.exists(f"/proc/{worker}") and "Z" not in open(f"/proc/{worker}/stat", encoding="utf-8").read().rpartition(")")[2].split()[0]:
            self.assertLess(time.monotonic(), deadline, "the worker outlives its agent")
            time.sleep(0.05)


class Metrics(WithAgent):
    def start(self, agent_socket):
        listening = socket.create_server(("127.0.0.1", PORT))

        def become():
            os.dup2(listening.fileno(), 3)
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        # only a shell that becomes the program can name its process for sd_listen_fds
        process = subprocess.Popen(["sh", "-c", f"LISTEN_FDS=1 LISTEN_PID=$$ exec {METRICS} --socket {agent_socket}"], close_fds=False, preexec_fn=become, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        listening.close()
        return process

    def get(self, path="/metrics", method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def test_a_real_prometheus_scrapes_what_is_rendered(self):
        rendered = subprocess.run([COMMAND, "render", "scrape"], capture_output=True, text=True, check=True).stdout
        config = self.directory / "prometheus.yml"
        before = config.read_text(encoding="utf-8")
        self.addCleanup(config.write_text, before)
        config.write_text("global: {scrape_interval: 1s}\n" + rendered, encoding="utf-8")
        subprocess.run(["promtool", "check", "config", config], check=True, capture_output=True)
        self.start_agent()
        os.chmod(self.agent_socket, 0o666)  # as the group would have it
        process = self.start(self.agent_socket)
        self.prometheus()
        deadline = time.monotonic() + 20
        while True:
            with urllib.request.urlopen("http://127.0.0.1:9090/api/v1/query?query=promwarden_control_state", timeout=5) as response:
                series = json.load(response)["data"]["result"]
            if series:
                break
            self.assertLess(time.monotonic(), deadline, "nothing was scraped")
            time.sleep(0.3)
        self.assertEqual(series[0]["metric"]["job"], "promwarden")
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as status:
            self.assertRegex(status.read(), r"CapEff:\t0+\n[\s\S]*NoNewPrivs:\t1")

    def test_nothing_but_metrics(self):
        self.start_agent()
        os.chmod(self.agent_socket, 0o666)
        self.start(self.agent_socket)
        status, text = self.get()
        self.assertEqual(status, 200)
        self.assertTrue(text.endswith("# EOF\n"), text[-100:])
        self.assertEqual([self.get(path)[0] for path in ("/", "/v1/status", "/healthz", "/metrics/", "/metrics?x=1")], [404, 404, 404, 404, 200])
        self.assertEqual(self.get(method="POST")[0], 405)
        self.assertEqual(self.get(method="HEAD"), (200, ""))
        self.assertEqual([self.get(Host=host)[0] for host in ("localhost:9469", "127.0.0.1", "[::1]:9469", "evil.example:9469", "localhost.evil.example")], [200, 200, 200, 421, 421])
        with socket.create_connection(("127.0.0.1", PORT)) as varlink:
            varlink.sendall(b'{"method":"io.promwarden.Status"}\0\r\n\r\n')
            self.assertIn(b" 400 ", varlink.recv(100))

    def test_no_agent_is_said(self):
        self.start(self.directory / "nobody")
        status, text = self.get()
        self.assertEqual(status, 503)
        self.assertIn("the agent does not answer", text)

    def test_slow_and_greedy_clients_do_not_keep_others_out(self):
        self.start_agent()
        os.chmod(self.agent_socket, 0o666)
        self.start(self.agent_socket)
        idle = [socket.create_connection(("127.0.0.1", PORT)) for _ in range(40)]
        for connection in idle:
            self.addCleanup(connection.close)
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            self.assertEqual(connection.getresponse().status, 200)
        self.assertLess(time.monotonic() - began, 20)  # 40 that say nothing take three turns of five seconds
        with socket.create_connection(("127.0.0.1", PORT)) as greedy:
            greedy.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20000)
            with contextlib.suppress(ConnectionResetError):
                self.assertIn(b" 431 ", greedy.recv(100))

    def test_it_refuses_to_be_root(self):
        done = subprocess.run([METRICS], capture_output=True, text=True, check=False, timeout=10)
        self.assertEqual(done.returncode, 6, done.stderr)


def load_tests(loader, _tests, _pattern):
    """Those of this file: the base class brings others along."""
    suite = unittest.TestSuite()
    for case in (Agent, Metrics):
        suite.addTests(case(name) for name in loader.getTestCaseNames(case) if name in vars(case))
    return suite


if __name__ == "__main__":
    unittest.main()
