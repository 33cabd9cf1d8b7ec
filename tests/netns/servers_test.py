"""The controls over servers, against a real Prometheus: each insecure setting fails its own control and moves no other.

Everything runs in namespaces of its own (network, processes, mounts), in control groups of its own in the real hierarchy, laid out as systemd does: this
test's first process in init.scope, the server in system.slice/prometheus.service. /run is an empty tmpfs there, so that no service manager answers and the
unit's files are read; the files are Debian's, the environment file and the drop-ins the test's.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import releases  # noqa: E402

ALL = bool(os.environ.get("PROMWARDEN_ALL"))
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or Path(__file__).resolve().parents[2] / "build")
COMMAND = BUILD / "src/bin/promwarden"
PYTHON = "/usr/bin/python3"  # whoever runs this, others must be able to run that
CONTAINER = "4f3c2a1b0d9e" + "0" * 52

CONTROLS = ["network.listen-address", "network.published-ports", "network.companion-ports", "api.admin", "api.lifecycle", "api.receivers", "api.cors", "api.query-limits", "data.retention",
            "secrets.process", "config.startable", "config.drift", "config.service-sandbox", "config.docker-socket", "version.vulnerable"]
POLICY = """schema = 1
[prometheus]
listen = ["127.0.0.1:9090", "[::1]:9090"]
[data]
retention = {time = "15d"}
"""
SOUND = ["--web.listen-address=127.0.0.1:9090", r"--web.cors.origin=https://prometheus\.example\.org", "--storage.tsdb.retention.time=15d"]


def without(name):
    return [flag for flag in SOUND if not flag.startswith(f"--{name}=")]


def hierarchy():
    """Where control groups are made: the one of systemd, or the only one."""
    for path in ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup"):
        if Path(path, "cgroup.procs").exists():
            return Path(path)
    raise RuntimeError("no hierarchy of control groups that could be written")


def wait_until(condition, what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


SETTINGS = [
    ("network.listen-address", [*without("web.listen-address"), "--web.listen-address=0.0.0.0:9090"], "[::]:9090"),
    ("network.listen-address", without("web.listen-address"), "[::]:9090"),
    ("api.admin", [*SOUND, "--web.enable-admin-api"], "--web.enable-admin-api is on"),
    ("api.lifecycle", [*SOUND, "--web.enable-lifecycle"], "--web.enable-lifecycle is on"),
    ("api.receivers", [*SOUND, "--web.enable-remote-write-receiver"], "--web.enable-remote-write-receiver is on"),
    ("api.receivers", [*SOUND, "--enable-feature=remote-write-receiver"], "--enable-feature=remote-write-receiver is on"),
    ("api.cors", without("web.cors.origin"), "--web.cors.origin=.*"),
    ("api.query-limits", [*SOUND, "--query.timeout=10m"], "--query.timeout=10m"),
    ("data.retention", [*without("storage.tsdb.retention.time"), "--storage.tsdb.retention.time=30d"], "30d"),
    ("secrets.process", [*SOUND, "--web.external-url=http://admin:hunter2@localhost:9090/"], "a password in the URL of --web.external-url"),
]


class Host:
    """A host with one Prometheus: the installed one, or `other`, a directory of releases.py in its place."""

    def __init__(self, other=None):
        if os.geteuid() != 0:
            raise RuntimeError("these tests make namespaces: run them as root")
        for tool in ("unshare", "nsenter", "setpriv", "prometheus", "ip", "ss", "mount", PYTHON):
            if shutil.which(tool) is None:
                raise RuntimeError(f"{tool} is not installed")
        if not COMMAND.exists():
            raise RuntimeError(f"{COMMAND} is not built (PROMWARDEN_BUILD names the build directory)")
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-test-", dir="/var/tmp"))
        self.directory.chmod(0o755)
        self.top = hierarchy() / f"promwarden-test-{os.getpid()}"
        self.processes, self.server = [], None
        self.made = []
        self.environment, self.drop_ins = self.directory / "default", self.directory / "drop-ins"
        self.environment.write_text('ARGS=""\n', encoding="ascii")
        self.drop_ins.mkdir()
        (self.drop_ins / "confined.conf").write_text("[Service]\nRestrictSUIDSGID=yes\nUMask=0027\n", encoding="ascii")  # what Debian's unit leaves out
        for name, text in (("policy.toml", POLICY), ("prometheus.yml", "global: {scrape_interval: 1h}\n")):
            (self.directory / name).write_text(text, encoding="ascii")
            (self.directory / name).chmod(0o644)
        self.group(".")
        instead = f"mount --bind {other}/usr/bin/prometheus /usr/bin/prometheus && mount --bind {other}/var/lib/dpkg /var/lib/dpkg || exit 1" if other else ""
        script = f"""echo 0 >{self.group('init.scope')}/cgroup.procs
            mount --make-rprivate / && mount -t tmpfs none /run && ip link set lo up || exit 1
            mount --bind {self.environment} /etc/default/prometheus || exit 1
            {instead}
            mkdir -p /run/systemd/system.control && mount -t tmpfs none /etc/systemd/system && mkdir /etc/systemd/system/prometheus.service.d || exit 1
            mount --bind {self.drop_ins} /etc/systemd/system/prometheus.service.d || exit 1
            echo ready; exec sleep 3600"""
        self.shell = subprocess.Popen(["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
        if self.shell.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError("the namespaces could not be made")
        children = Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/children").read_text(encoding="ascii").split()
        self.first = children[0]

    def group(self, name):
        path = self.top / name
        for each in (*reversed([parent for parent in path.parents if self.top in parent.parents or parent == self.top]), path):
            if not each.exists():
                each.mkdir()
                self.made.append(each)
        return path

    def inside(self, *words):
        return ["nsenter", "-t", self.first, "-n", "-p", "-m", *map(str, words)]

    def start(self, *words, group=None, user=None, **options):
        """A process inside; of a control group and a user."""
        line = list(map(str, words))
        if user is not None:
            line = ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups", *line]
        if group is not None:
            line = ["sh", "-c", f'echo 0 >{self.group(group)}/cgroup.procs; exec "$@"', "sh", *line]
        process = subprocess.Popen(self.inside(*line), stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def stop(self, process):
        """nsenter waits for what it started: that is what has to end."""
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), 9)
        process.wait(20)
        self.processes.remove(process)

    def listening(self):
        done = subprocess.run(self.inside("ss", "-Hltn", "sport = 9090"), capture_output=True, text=True, check=True)
        return done.stdout

    def configure(self, flags, drop_in=""):
        """What the unit would run."""
        # A backslash is taken once for the file's quotes and once more when $ARGS becomes words.
        self.environment.write_text('ARGS="{}"\n'.format(" ".join(flags).replace("\\", 4 * "\\")), encoding="utf-8")
        (self.drop_ins / "test.conf").write_text(drop_in, encoding="utf-8")

    def serve(self, flags, group="system.slice/prometheus.service", user="prometheus", unit=None):
        """Runs Prometheus with those flags, which are also the unit's unless `unit` has others."""
        self.halt()
        base = [f"--config.file={self.directory}/prometheus.yml", f"--storage.tsdb.path={self.directory}/tsdb"]
        (self.directory / "tsdb").mkdir(exist_ok=True)
        shutil.chown(self.directory / "tsdb", user)
        self.configure([*base, *(flags if unit is None else unit)])
        with open(self.directory / "log", "wb") as log:
            self.server = self.start("prometheus", *base, *flags, group=group, user=user, stdout=log, stderr=log)
        wait_until(lambda: self.server.poll() is not None or self.listening(), "Prometheus listens")
        if self.server.poll() is not None:
            raise AssertionError((self.directory / "log").read_text(encoding="utf-8"))

    def halt(self):
        if self.server is not None:
            self.stop(self.server)
            self.server = None
            wait_until(lambda: not self.listening(), "the port is free again")
            shutil.rmtree(self.directory / "tsdb", ignore_errors=True)

    def check(self, user=None):
        words = [COMMAND, "check", "--format", "json", "--policy", self.directory / "policy.toml", "--state", self.directory / "state"]
        for control in CONTROLS:
            words += ["--only", control]
        if user is not None:
            words = ["setpriv", f"--reuid={user}", "--regid=65534", "--clear-groups", *words]
        done = subprocess.run(self.inside(*words), capture_output=True, text=True, timeout=60, check=False)
        if done.returncode not in (0, 1, 3):
            raise AssertionError(f"check ended with {done.returncode}: {done.stdout}{done.stderr}")
        return {control["id"]: control for control in json.loads(done.stdout)["controls"]}

    def close(self):
        for process in list(self.processes):
            with contextlib.suppress(Exception):
                self.stop(process)
        self.shell.kill()  # and with it the first process, and with that one every other
        self.shell.wait()
        self.shell.stdout.close()
        for group in reversed(self.made):
            wait_until(lambda path=group: remove(path), f"{group} can be removed", 20)
        shutil.rmtree(self.directory, ignore_errors=True)


def remove(group):
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def verdicts(report):
    return {name: control["verdict"] for name, control in report.items()}


class Matrix:
    """What holds for every release."""

    other = None
    settings = SETTINGS

    @classmethod
    def setUpClass(cls):
        cls.host = Host(releases.prometheus_of(cls.other) if cls.other else None)
        cls.addClassCleanup(cls.host.close)
        cls.host.serve(SOUND)
        cls.sound = verdicts(cls.host.check())

    def tearDown(self):
        for process in [one for one in self.host.processes if one is not self.host.server]:
            self.host.stop(process)

    def assert_only(self, control, report):
        """That control fails, every other says what it says of a sound host."""
        self.assertEqual(verdicts(report), {**self.sound, control: "fail"}, report[control])
        return report[control]["findings"]

    def said(self, observed, findings):
        """The finding that says so."""
        found = [finding for finding in findings if observed in finding["observed"]]
        self.assertTrue(found, (observed, findings))
        return found[0]

    def test_a_sound_server_passes(self):
        self.assertEqual({name for name, verdict in self.sound.items() if verdict == "pass"},
                         set(CONTROLS) - {"network.published-ports", "network.companion-ports"}, self.host.check())
        self.assertEqual(self.sound["network.published-ports"], "not-applicable")

    def test_each_insecure_setting_fails_its_own_control(self):
        for control, flags, observed in self.settings:
            with self.subTest(control=control, flags=flags):
                self.host.serve(flags)
                report = self.host.check()
                findings = self.assert_only(control, report)
                finding = self.said(observed, findings)
                self.assertEqual(len(findings), 1, "what answers, process and unit say is one finding")
                self.assertNotIn("hunter2", json.dumps(report))
                self.assertEqual(finding["subject"], "prometheus.service")
                if control != "secrets.process":
                    self.assertIn("systemctl restart prometheus.service", finding["remedy"]["summary"])
        self.host.serve(SOUND)
        self.assertEqual(verdicts(self.host.check()), self.sound)


class Newer(Matrix, unittest.TestCase):
    """Debian 13's Prometheus. Without PROMWARDEN_ALL three settings stand for all."""

    other = "trixie"
    feature = ("api.receivers", [*SOUND, "--enable-feature=otlp-write-receiver"], "--enable-feature=otlp-write-receiver is on")  # since 2.47
    settings = [*SETTINGS, feature] if ALL else [SETTINGS[0], SETTINGS[6], feature]

    def test_it_is_another_version(self):
        self.assertIn("prometheus 2.53", self.host.check()["version.vulnerable"]["reason"])


class Servers(Matrix, unittest.TestCase):
    def assert_squatter(self, place, report):
        """The port's holder is named, and nothing is held against the server but that somebody else would answer."""
        finding = self.said("a port of Prometheus", report["network.listen-address"]["findings"])
        self.assertEqual((finding["subject"], finding["evidence"]), (place, "kernel"))
        self.assertIn("uid 65534", finding["observed"])
        for name, control in report.items():
            if control["verdict"] != self.sound[name] and name != "network.listen-address":
                self.assertEqual(control["verdict"], "fail", control)
                self.assertEqual([one for one in control["findings"] if "held by python3" not in one["observed"]], [], name)

    def test_files_that_were_changed_and_not_loaded(self):
        config = self.host.directory / "prometheus.yml"
        good = config.read_text(encoding="ascii")
        self.addCleanup(self.host.serve, SOUND)
        self.addCleanup(config.write_text, good, encoding="ascii")

        def reload():
            children = Path(f"/proc/{self.host.server.pid}/task/{self.host.server.pid}/children").read_text(encoding="ascii").split()
            os.kill(int(children[0]), signal.SIGHUP)

        def drift():
            return self.host.check()["config.drift"]

        time.sleep(1.1)  # the server tells whole seconds
        config.write_text("global: {scrape_interval: 2h}\n", encoding="ascii")
        finding = self.said("the running configuration was loaded", self.assert_only("config.drift", self.host.check()))
        self.assertEqual((finding["subject"], finding["evidence"]), (str(config), "live"))
        wait_until(lambda: reload() or drift()["verdict"] == "pass", "it was loaded", 20)
        config.write_text("global: {scrape_interval: never}\n", encoding="ascii")
        reload()
        wait_until(lambda: "its last reload failed" in drift()["reason"], "the reload failed", 20)

    def test_what_the_unit_says(self):
        base = [f"--config.file={self.host.directory}/prometheus.yml", f"--storage.tsdb.path={self.host.directory}/tsdb", *SOUND]
        cases = [
            ("config.startable", [*base, "--web.enable-admin-api=false"], "", "unexpected false"),
            ("config.startable", [*base, "--web.tls-cert=/etc/x"], "", "unknown long flag '--web.tls-cert'"),
            ("config.drift", [*base, "--log.level=debug"], "", "it runs without --log.level"),
            ("config.service-sandbox", base, "[Service]\nProtectHome=no\n", "ProtectHome=no"),
            ("config.service-sandbox", base, "[Service]\nNoNewPrivileges=\n", "NoNewPrivileges is not set"),
            ("config.docker-socket", base, "[Service]\nSupplementaryGroups=docker\n", "group docker"),
            ("secrets.process", base, "[Service]\nEnvironment=API_TOKEN=hunter2\n", "API_TOKEN is in Environment="),
        ]
        for control, flags, drop_in, observed in cases:
            with self.subTest(control=control, observed=observed):
                self.host.configure(flags, drop_in)
                report = self.host.check()
                self.said(observed, self.assert_only(control, report))
                self.assertNotIn("hunter2", json.dumps(report))
        self.host.configure(base)
        self.assertEqual(verdicts(self.host.check()), self.sound)
        self.host.configure([*base, "--web.enable-admin-api"])
        report = self.host.check()
        self.assertEqual({name for name, verdict in verdicts(report).items() if verdict == "fail"}, {"api.admin", "config.drift"})
        self.assertEqual(report["api.admin"]["findings"][0]["location"]["file"], "/etc/default/prometheus")
        self.host.configure(base)

    def test_strangers_are_named_and_neither_believed_nor_followed(self):
        fifo = self.host.directory / "fifo"
        os.mkfifo(fifo)
        self.addCleanup(fifo.unlink)
        fake = f'exec -a prometheus {PYTHON} -c "import time; time.sleep(600)" --config.file=/etc/shadow @{fifo} --web.enable-admin-api'
        process = self.host.start("bash", "-c", fake, user="nobody")
        wait_until(lambda: Path(f"/proc/{process.pid}").exists() and "looks like Prometheus" in self.host.check()["network.listen-address"]["reason"], "the stranger is seen", 20)
        report = self.host.check()  # and comes back: nobody opened the pipe
        self.assertEqual(verdicts(report), self.sound)
        self.assertIn("looks like Prometheus and is not of prometheus.service", report["network.listen-address"]["reason"])

    def squat(self, address):
        script = f"import socket, time; s = socket.create_server(('{address}', 9090), family=socket.{'AF_INET6' if ':' in address else 'AF_INET'}); print('ready', flush=True); time.sleep(600)"
        process = self.host.start(PYTHON, "-c", script, user="nobody", stdout=subprocess.PIPE, text=True)
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), "ready\n")
        return process

    def test_a_squatter_is_named_beside_the_server_and_in_its_place(self):
        process = self.squat("::1")
        self.assert_squatter("[::1]:9090", self.host.check())
        self.host.stop(process)
        self.host.halt()
        self.addCleanup(self.host.serve, SOUND)
        self.assertEqual({name for name, verdict in verdicts(self.host.check()).items() if verdict == "fail"}, set(), "a server that is down is judged by its unit")
        self.squat("127.0.0.1")
        self.assert_squatter("127.0.0.1:9090", self.host.check())

    def test_arguments_in_a_file_are_read_if_the_service_could_and_nothing_else_is(self):
        inner, outer = self.host.directory / "inner", self.host.directory / "outer"
        inner.write_text("# hidden\n--web.enable-admin-api\n", encoding="ascii")
        outer.write_text(f"@{inner}\n", encoding="ascii")
        self.addCleanup(self.host.serve, SOUND)
        self.host.serve([*SOUND, f"@{outer}"])
        report = self.host.check()
        finding = self.said("--web.enable-admin-api is on", self.assert_only("api.admin", report))
        self.assertIn(str(inner), finding["remedy"]["summary"])
        self.host.configure([f"--config.file={self.host.directory}/prometheus.yml", f"--storage.tsdb.path={self.host.directory}/tsdb", *SOUND])
        for make, why in ((lambda: outer.symlink_to("/etc/shadow"), "symbolic link"), (lambda: os.mkfifo(outer), "not a regular file"),
                          (lambda: (outer.write_text("--web.enable-admin-api\n", encoding="ascii"), outer.chmod(0o600)), "may not read it")):
            outer.unlink()
            make()
            report = self.host.check()
            self.assertEqual(report["config.drift"]["verdict"], "unknown", why)
            self.assertIn(why, report["config.drift"]["reason"])

    def test_a_server_in_a_container_is_a_subject_of_its_own(self):
        data = self.host.directory / "container"
        data.mkdir()
        self.addCleanup(shutil.rmtree, data)
        inner = f"ip link set lo up; exec prometheus --config.file={self.host.directory}/prometheus.yml --storage.tsdb.path={data} --web.enable-lifecycle '--web.cors.origin=^$'"
        process = self.host.start("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inner, group=f"docker-{CONTAINER}.scope",
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertIsNone(process.poll())
        report = wait_until(lambda: (now := self.host.check())["api.lifecycle"]["verdict"] == "fail" and now, "the container's server is seen")
        self.assertEqual(report["version.vulnerable"]["verdict"], "unknown", "Debian's program does not carry its version, and a container's packages are not looked at")
        finding = self.assert_only("api.lifecycle", {**report, "version.vulnerable": {"verdict": "pass"}})[0]
        self.assertEqual(finding["subject"], f"container {CONTAINER[:12]}")

    def test_another_user_learns_that_it_may_not_see(self):
        report = self.host.check(user="nobody")
        for name in ("network.listen-address", "api.admin", "api.cors"):
            self.assertEqual(report[name]["verdict"], "unknown", report[name])
            self.assertIn("cannot be seen from here", report[name]["reason"])
        self.assertEqual(report["api.query-limits"]["verdict"], "pass", "arguments are open to everyone")


class WithoutAManager(unittest.TestCase):
    def test_a_server_outside_of_any_unit_is_judged_where_nothing_manages_services(self):
        host = Host()
        self.addCleanup(host.close)
        host.serve([*SOUND, "--web.enable-admin-api"], group=".", user="root")
        report = host.check()
        self.assertEqual(report["api.admin"]["verdict"], "fail")
        self.assertEqual(report["config.drift"]["reason"], "the configuration that runs is the one on disk", "there is no unit to compare with")
        host.serve([*SOUND, "--web.enable-admin-api"], group=".", user="nobody", unit=SOUND)
        report = host.check()
        self.assertEqual([one for one in report["api.admin"]["findings"] if one["subject"] == "prometheus.service"], [], "anybody can start a Prometheus")
        self.assertEqual(report["network.listen-address"]["verdict"], "fail", "but not on this port")


if __name__ == "__main__":
    unittest.main()
