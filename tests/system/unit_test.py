"""Flags and sandbox of Prometheus' unit on a running machine: found, changed by drop-in, proved by the server itself, kept, and undone."""

import hashlib
import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, wait_until  # noqa: E402

DROP_INS = "/etc/systemd/system/prometheus.service.d"
FLAGS, SANDBOX = f"{DROP_INS}/promwarden-flags.conf", f"{DROP_INS}/promwarden-sandbox.conf"
CONTROLS = ["network.listen-address", "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.query-limits", "data.retention", "config.service-sandbox"]
POLICY = """schema = 1
[controls]
"config.permissions" = "audit"
"data.permissions" = "audit"
"secrets.file-permissions" = "audit"
"tls.files" = "audit"
"audit.query-log-file" = "audit"
[prometheus]
listen = [{listen}]
restart = "{restart}"
[data]
retention = {{time = "15d"}}
[firewall.sources]
private = ["10.0.0.0/8"]
[[firewall.service]]
name = "prometheus"
ports = [9090]
allow = ["private"]
"""
BROKEN = "--web.enable-admin-api --web.enable-lifecycle --storage.tsdb.retention.time=90d --query.timeout=30s"
LITERAL = """[Unit]
Description=Prometheus
[Service]
User=prometheus
ExecStart=/usr/bin/prometheus \\
    --config.file=/etc/prometheus/prometheus.yml \\
    --storage.tsdb.path=/var/lib/prometheus/metrics2 \\
    --web.enable-lifecycle --web.page-title='100%% mine, and $$5'
ExecReload=/bin/kill -HUP $MAINPID
"""


class Unit(unittest.TestCase):
    """Steps, in the order of their names."""

    @classmethod
    def setUpClass(cls):
        cls.machine = Machine(machine.tree("bookworm", machine.needs(machine.package())), machine.package())
        cls.addClassCleanup(cls.machine.close)
        cls.machine.boot()
        cls.policy()
        config = cls.machine.root / "etc/prometheus/prometheus.yml"
        config.write_text(config.read_text(encoding="utf-8").replace("\nrule_files:\n", "\nrule_files: [promwarden/*.yml]\n"), encoding="utf-8")
        cls.arguments(BROKEN)
        (cls.machine.root / DROP_INS[1:]).mkdir(parents=True)
        (cls.machine.root / DROP_INS[1:] / "local.conf").write_text("[Service]\nProtectHome=no\nNoNewPrivileges=no\n", encoding="ascii")
        cls.restart()

    @classmethod
    def policy(cls, listen='"127.0.0.1:9090"', restart="when-needed"):
        (cls.machine.root / "etc/promwarden/policy.toml").write_text(POLICY.format(listen=listen, restart=restart), encoding="ascii")

    @classmethod
    def arguments(cls, text):
        (cls.machine.root / "etc/default/prometheus").write_text(f'ARGS="{text}"\n', encoding="ascii")

    @classmethod
    def restart(cls):
        cls.machine.do("systemctl", "daemon-reload")
        cls.machine.do("systemctl", "restart", "prometheus")
        wait_until(cls.flags, "Prometheus answers")

    @classmethod
    def flags(cls):
        """As the server itself says them; empty where it does not answer."""
        done = cls.machine.do("curl", "-s", "-m", "5", "http://127.0.0.1:9090/api/v1/status/flags", check=False)
        return json.loads(done.stdout)["data"] if done.returncode == 0 and done.stdout.startswith("{") else {}

    def plan(self):
        """The unit's changes by path. The start guard is the packet filter's."""
        done = self.machine.do("promwarden", "plan", "--format", "json", check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return {change["subject"]: change for change in json.loads(done.stdout)["changes"] if change["kind"] == "unit" and "guard" not in change["subject"]}

    def failing(self, *controls):
        words = [word for control in controls or CONTROLS for word in ("--only", control)]
        report = json.loads(self.machine.do("promwarden", "check", "--format", "json", *words, check=False).stdout)
        return {control["id"]: control["findings"] for control in report["controls"] if control["verdict"] == "fail"}

    def files(self):
        """What an apply may change here, byte for byte, but for the guard."""
        found = {}
        for top in ("etc/systemd/system", "etc/default", "etc/prometheus"):
            for path in sorted((self.machine.root / top).rglob("*")):
                if path.is_file() and not path.is_symlink() and "guard" not in path.name:
                    status = path.stat()
                    found[str(path.relative_to(self.machine.root))] = (hashlib.sha256(path.read_bytes()).hexdigest(), oct(status.st_mode), status.st_uid, status.st_gid)
        return found

    def main_pid(self):
        return self.machine.show("prometheus", "MainPID")["MainPID"]

    def text(self, path):
        place = self.machine.root / path[1:]
        return place.read_text(encoding="utf-8") if place.exists() else ""

    def test_1_what_is_broken_is_found_healed_and_proved(self):
        before, flags = self.files(), self.flags()
        self.assertEqual(set(self.failing()), {"network.listen-address", "api.admin", "api.lifecycle", "api.cors", "data.retention", "config.service-sandbox"})
        plan = self.plan()
        self.assertEqual(set(plan), {FLAGS, SANDBOX})
        self.assertIn("prometheus.service is restarted", plan[FLAGS]["summary"])
        self.machine.apply()
        self.assertEqual(self.failing(), {})
        now = self.flags()
        flags["storage.tsdb.max-block-duration"] = now["storage.tsdb.max-block-duration"]  # a tenth of what is kept
        self.assertEqual({name: value for name, value in now.items() if flags[name] != value},
                         {"web.listen-address": "127.0.0.1:9090", "web.enable-admin-api": "false", "web.enable-lifecycle": "false", "web.cors.origin": "^$", "storage.tsdb.retention.time": "15d"})
        self.assertEqual(now["query.timeout"], "30s")
        self.assertIn("PrometheusQueryRate", self.machine.do("curl", "-s", "http://127.0.0.1:9090/api/v1/rules").stdout)
        self.assertEqual(self.failing("alerts.reload-failed"), {})
        settings = self.machine.show("prometheus", "NoNewPrivileges", "ProtectHome", "RestrictSUIDSGID", "UMask", "ProtectSystem")
        self.assertEqual(settings, {"NoNewPrivileges": "yes", "ProtectHome": "yes", "RestrictSUIDSGID": "yes", "UMask": "0027", "ProtectSystem": "full"})
        self.assertIn("NoNewPrivs:\t1", self.machine.do("cat", f"/proc/{self.main_pid()}/status").stdout)
        self.assertEqual(self.plan(), {})
        pid = self.main_pid()
        self.machine.apply()
        self.assertEqual(self.main_pid(), pid)  # nothing to do, so nothing restarts
        self.machine.do("promwarden", "undo", "--all")
        self.assertEqual(self.files(), before)
        self.assertEqual(self.flags()["web.enable-admin-api"], "true")

    def test_2_a_change_that_the_server_refuses_is_taken_back(self):
        before, flags = self.files(), self.flags()
        self.policy(listen='"192.0.2.1:9090"')  # nobody's address here
        done = self.machine.do("promwarden", "apply", check=False)
        self.assertEqual(done.returncode, 4, done.stdout + done.stderr)
        self.assertIn("it ended right after its start", done.stderr)
        self.assertIn("what was there before is there again", done.stderr)
        self.assertEqual(self.files(), before)
        self.assertEqual(self.flags(), flags)
        self.assertEqual(self.machine.show("prometheus", "ActiveState")["ActiveState"], "active")
        self.assertNotEqual(self.machine.table().returncode, 0)  # the rest of that apply, too

    def test_3_without_leave_to_restart_it_waits_for_the_next_start(self):
        before, pid = self.files(), self.main_pid()
        self.policy(restart="never")
        self.assertIn("takes effect at its next restart", self.plan()[FLAGS]["summary"])
        self.machine.apply()
        self.assertEqual(self.main_pid(), pid)
        self.assertEqual(self.plan(), {})
        self.assertIn("api.admin", self.failing())
        self.assertTrue(any("web.enable-admin-api" in finding["observed"] for finding in self.failing("config.drift")["config.drift"]))
        self.restart()
        self.assertEqual(self.failing(*CONTROLS, "config.drift"), {})
        self.__class__.before = before

    def test_4_the_agent_keeps_the_drop_ins(self):
        flags, sandbox = self.text(FLAGS), self.text(SANDBOX)
        self.machine.do("rm", FLAGS)
        wait_until(lambda: self.text(FLAGS) == flags, "the flags are back")
        self.machine.do("sh", "-c", f"echo ProtectHome=no >>{SANDBOX}")
        wait_until(lambda: self.text(SANDBOX) == sandbox, "the sandbox is back")
        self.arguments(BROKEN + " --query.max-concurrency=7")
        wait_until(lambda: "--query.max-concurrency=7" in self.text(FLAGS), "what an administrator adds is taken over")
        wait_until(lambda: self.machine.show("prometheus", "NeedDaemonReload")["NeedDaemonReload"] == "no", "and systemd has read it")
        self.restart()
        self.assertEqual(self.flags()["query.max-concurrency"], "7")
        self.assertEqual(self.failing(*CONTROLS, "config.drift"), {})
        self.arguments(BROKEN)
        self.machine.do("promwarden", "undo", "--all")
        self.assertEqual(self.files(), self.before)
        self.restart()

    def test_5_a_unit_that_says_it_all_itself(self):
        (self.machine.root / "etc/systemd/system/prometheus.service").write_text(LITERAL, encoding="ascii")
        self.restart()
        before = self.files()
        self.policy()
        self.machine.apply()
        self.assertEqual(self.failing(), {})
        flags = self.flags()
        self.assertEqual((flags["web.enable-lifecycle"], flags["web.page-title"], flags["storage.tsdb.path"]), ("false", "100% mine, and $5", "/var/lib/prometheus/metrics2"))
        self.assertEqual(self.machine.show("prometheus", "ProtectKernelModules")["ProtectKernelModules"], "yes")
        self.assertEqual(self.plan(), {})
        self.machine.do("promwarden", "undo", "--all")
        self.assertEqual(self.files(), before)
        self.assertEqual(self.flags()["web.enable-lifecycle"], "true")


if __name__ == "__main__":
    unittest.main()
