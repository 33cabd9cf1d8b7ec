"""Small Debian machines for the tests in this directory: a debootstrapped tree that is kept between runs, an overlay over it, systemd-nspawn to boot it.

A machine's network is a namespace made here, with two clients behind it, and there before the machine boots:

    untrusted  203.0.113.2   a client that the default policy does not admit
    trusted    10.0.0.2      one that it admits
    machine    203.0.113.1, 10.0.0.1

Trees are kept below PROMWARDEN_TREES (default /var/cache/promwarden-tests). Nothing is registered, mounted or left outside what Machine.close() removes.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or SOURCE / "build")
ALL = bool(os.environ.get("PROMWARDEN_ALL"))
TREES = Path(os.environ.get("PROMWARDEN_TREES") or "/var/cache/promwarden-tests")
BASE = ["systemd", "systemd-sysv", "dbus", "iproute2", "kmod", "procps", "ca-certificates"]
PACKAGES = ["prometheus", "nginx-light", "nftables", "ufw", "iptables", "curl", "netcat-openbsd"] + (["firewalld", "rpm", "busybox-static"] if ALL else [])
UNTRUSTED, TRUSTED = ("203.0.113.1", "203.0.113.2"), ("10.0.0.1", "10.0.0.2")  # the machine's address, the client's


def run(*command, check=True, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))[:300]}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def wait_until(condition, what, seconds=30.0, pause=0.02):
    """The first true value of `condition`, which is asked again after each pause."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(pause)
    return value


# ---- trees ---------------------------------------------------------------------------------------------------------------------------------------------------

def in_tree(tree, *command, options=(), **more):
    """A command in a tree, without a network; `options` are systemd-nspawn's."""
    return run("systemd-nspawn", "-q", "-D", tree, "--register=no", "--keep-unit", "--private-network", "--as-pid2", "--pipe",
               "--setenv=DEBIAN_FRONTEND=noninteractive", *options, *command, **more)


def mirror():
    """Where this host has its own Debian packages from: trees are made from there, too."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages").stdout
    found = re.search(r"^(\S+) Debian Debian$", told, re.MULTILINE)
    if not found:
        raise RuntimeError("apt names no mirror of Debian: apt-get update, or a Debian source for apt")
    return found[1]


def apt(tree, *words):
    """apt with this host's network: it is what fetches packages, and nothing of them is started."""
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    run("chroot", tree, "apt-get", "-y", "-q", "-o", "APT::Install-Recommends=false", "-o", "Acquire::Languages=none", *words, env=environment, timeout=900)


@contextlib.contextmanager
def locked(name):
    TREES.mkdir(parents=True, exist_ok=True)
    with open(TREES / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tree(release, more=(), name=None):
    """The path of a tree of that release with these packages, each written as in a package's Depends; made where it is missing. Never written to afterwards."""
    name = name or release  # trees of other names start as a copy of the release's
    path, stamp = TREES / name, TREES / f"{name}.packages"
    wanted = {*BASE, *PACKAGES, *more}
    with locked(name):
        there = set(stamp.read_text(encoding="ascii").splitlines()) if path.is_dir() and stamp.exists() else set()
        if wanted <= there:
            return path
        stamp.unlink(missing_ok=True)
        if not (path / "etc/debian_version").exists():
            half = TREES / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            if name == release:
                run("debootstrap", "--variant=minbase", f"--include={','.join(BASE)}", release, half, mirror(), timeout=900)
            else:
                run("cp", "-a", "--reflink=auto", tree(release), half)
            shutil.rmtree(path, ignore_errors=True)
            half.rename(path)
        apt(path, "update")
        apt(path, "satisfy", ", ".join([*PACKAGES, *more]))
        for unit in ("nginx", "ufw", "nftables", "firewalld"):  # a test enables what it is about
            run("systemctl", f"--root={path}", "disable", unit, check=False)
        stamp.write_text("\n".join(sorted(wanted | there)), encoding="ascii")
    return path


def needs(deb):
    """What a .deb depends on."""
    return relations(run("dpkg-deb", "--field", deb, "Depends").stdout)


def relations(field):
    """The entries of a Depends field, each with its version and alternatives."""
    return sorted({" ".join(part.split()) for part in field.split(",")} - {""})


def newer(deb, version, directory):
    """The same package as another version."""
    tree_of_it = Path(directory) / "newer"
    run("dpkg-deb", "-R", deb, tree_of_it)
    control = tree_of_it / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(encoding="utf-8"), flags=re.MULTILINE), encoding="utf-8")
    made = Path(directory) / f"promwarden_{version}_test.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree_of_it, made)
    shutil.rmtree(tree_of_it)
    return made


def forget_old(pattern):
    """Packages of yesterday's sources. Younger ones may be in use by tests that run beside this."""
    for place in TREES.glob(pattern):
        if place.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(place, ignore_errors=True)


def package():
    """The .deb of the build under test: PROMWARDEN_DEB, or what PROMWARDEN_BUILD holds, packaged once."""
    if given := os.environ.get("PROMWARDEN_DEB"):
        return Path(given)
    programs = sorted(path for path in (BUILD / "src/bin").glob("promwarden*") if path.is_file())
    if not programs:
        raise RuntimeError(f"{BUILD} holds no programs (PROMWARDEN_BUILD names the build directory)")
    with locked("package"):
        text = hashlib.sha256()
        inputs = [*programs, *sorted(path for path in (SOURCE / "packaging").rglob("*") if path.is_file())]
        for path in inputs:
            text.update(path.read_bytes())
        place = TREES / f"package-{text.hexdigest()[:16]}"
        if not list(place.glob("*.deb")):
            forget_old("package-*")
            run(SOURCE / "packaging/build-deb", place, env={**os.environ, "PROMWARDEN_BUILT": str(BUILD.resolve()), "DEB_BUILD_OPTIONS": "noautodbgsym"}, timeout=600)
        return next(place.glob("promwarden_*.deb"))


def build_packages():
    """What the build needs, and a compiler cache that is kept between runs."""
    control = (SOURCE / "packaging/debian/control").read_text(encoding="utf-8")
    return ["build-essential", "ccache", *relations(re.search(r"^Build-Depends:(.*?)^\S", control, re.MULTILINE | re.DOTALL)[1])]


def build_options():
    """For systemd-nspawn, where something is compiled: the tree to read, the cache to use, and no optimisation, which nothing here is about."""
    cache = TREES / "ccache"
    cache.mkdir(parents=True, exist_ok=True)
    given = os.environ.get("PROMWARDEN_BUILT")  # a build knows its own place and that of its sources, and logs what was installed
    built = [f"--bind-ro={SOURCE}", f"--bind={Path(given).resolve()}", f"--setenv=PROMWARDEN_BUILT={Path(given).resolve()}"] if given else []
    return [f"--bind-ro={SOURCE}:/source", f"--bind={cache}:/ccache", "--setenv=CCACHE_DIR=/ccache", f"--setenv=DEB_BUILD_OPTIONS=noopt parallel={os.cpu_count()}", *built]


def package_for(release):
    """The .deb of these sources, built in a tree of another release."""
    text = hashlib.sha256()
    for path in sorted(path for part in ("src", "include", "packaging", "policies", "meson.build", "meson_options.txt") for path in
                       ([SOURCE / part] if (SOURCE / part).is_file() else (SOURCE / part).rglob("*")) if path.is_file()):
        text.update(path.read_bytes())
    with locked(f"package-{release}"):
        place = TREES / f"{release}-package-{text.hexdigest()[:16]}"
        if not list(place.glob("promwarden_*.deb")):
            made = Machine(tree(release, build_packages(), name=f"{release}-build"))
            try:
                made.offline("/source/packaging/build-deb", "/root/out", options=build_options(), timeout=3600)
                forget_old(f"{release}-package-*")
                shutil.copytree(made.root / "root/out", place)
            finally:
                made.close()
        return next(place.glob("promwarden_*.deb"))


# ---- machines ------------------------------------------------------------------------------------------------------------------------------------------------

class Hammer(threading.Thread):
    """Asks the machine's port 9090 again and again from one client, and keeps what came back and when (CLOCK_MONOTONIC, as the journal has it)."""

    PROGRAM = r"""
import select, socket, sys, time
host, port, patience, number = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), 0
family = socket.AF_INET6 if ':' in host else socket.AF_INET
last = None
while True:
    started = time.clock_gettime(time.CLOCK_MONOTONIC)
    number += 1
    with socket.socket(family) as connection:
        connection.settimeout(patience)
        try:
            connection.connect((host, port))
            connection.sendall(b"GET /-/ready HTTP/1.0\r\n\r\n")
            answer = "answered" if connection.recv(64) else "connected"
        except TimeoutError:
            answer = "nothing"
        except ConnectionRefusedError:
            answer = "refused"
        except OSError as error:
            answer = str(error)
    print(f"{started:.6f} {time.clock_gettime(time.CLOCK_MONOTONIC):.6f} {answer}", flush=True)
    if answer != "nothing":
        time.sleep(0.002)
"""

    def __init__(self, namespace, address, port=9090, patience=0.15):
        super().__init__(daemon=True)
        self.process = subprocess.Popen(["ip", "netns", "exec", namespace, "python3", "-c", self.PROGRAM, address, str(port), str(patience)], stdout=subprocess.PIPE, text=True)
        self.attempts = []  # (started, ended, what came)
        self.start()

    def run(self):
        for line in self.process.stdout:
            started, ended, what = line.rstrip("\n").split(" ", 2)
            self.attempts.append((float(started), float(ended), what))

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.join(5)
        self.process.stdout.close()
        return self.attempts


class Machine:
    NUMBER = 0

    def __init__(self, base, deb=None):
        Machine.NUMBER += 1
        self.name = f"pwm{os.getpid()}x{Machine.NUMBER}"
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-machine-", dir="/var/tmp"))
        self.root = self.directory / "root"
        self.console = self.directory / "console"
        self.process = None
        self.namespaces = {}
        try:
            for part in ("upper", "work", "root"):
                (self.directory / part).mkdir(mode=0o755)
            run("mount", "-t", "overlay", "promwarden-test", "-o", f"lowerdir={base},upperdir={self.directory}/upper,workdir={self.directory}/work", self.root)
            self.build_network()
            (self.root / "etc/hostname").write_text("machine\n", encoding="ascii")
            # What belongs to hardware has no place here and costs time.
            for unit in ("systemd-networkd-wait-online.service", "e2scrub_reap.service", "apt-daily.timer", "apt-daily-upgrade.timer", "getty.target",
                         "console-getty.service", "systemd-logind.service"):
                self.mask(unit)
            if deb is not None:
                self.install(deb)
        except BaseException:
            self.close()
            raise

    # ---- the network

    def build_network(self):
        for role in ("machine", "untrusted", "trusted"):
            self.namespaces[role] = f"{self.name}{role[0]}"
            run("ip", "netns", "add", self.namespaces[role])
            self.net(role, "ip", "link", "set", "lo", "up")
        for number, (role, (own, other)) in enumerate((("untrusted", UNTRUSTED), ("trusted", TRUSTED))):
            link = f"to{number}"
            self.net("machine", "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.namespaces[role])
            six = {"untrusted": ("2001:db8::1", "2001:db8::2"), "trusted": ("fd00:12::1", "fd00:12::2")}[role]
            for place, device, address, sixth in (("machine", link, own, six[0]), (role, "eth0", other, six[1])):
                self.net(place, "ip", "address", "add", f"{address}/24", "dev", device)
                self.net(place, "ip", "address", "add", f"{sixth}/64", "dev", device, "nodad")
                self.net(place, "ip", "link", "set", device, "up")

    def net(self, role, *command, **options):
        return run("ip", "netns", "exec", self.namespaces[role], *command, **options)

    def hammer(self, role="untrusted", port=9090, version=4):
        address = {("untrusted", 4): UNTRUSTED[0], ("trusted", 4): TRUSTED[0], ("untrusted", 6): "2001:db8::1", ("trusted", 6): "fd00:12::1"}[role, version]
        # A busy machine answers late, but a lost SYN is sent again only after a second: whoever is to be answered waits for almost that long.
        return Hammer(self.namespaces[role], address, port, patience=0.9 if role == "trusted" else 0.15)

    def answers(self, role, port=9090):
        """What a client of that role gets: the HTTP status, or 0."""
        address = (UNTRUSTED if role == "untrusted" else TRUSTED)[0]
        done = self.net(role, "curl", "-s", "-o", "/dev/null", "-m", "1.5", "-w", "%{http_code}", f"http://{address}:{port}/-/ready", check=False)
        return int(done.stdout or 0)

    # ---- before it runs

    def mask(self, unit):
        link = self.root / "etc/systemd/system" / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")

    def offline(self, *command, **options):
        """A command in the machine's tree while it is not running."""
        return in_tree(self.root, *command, **options)

    def install(self, deb):
        self.offline("dpkg", "-i", self.put(deb))

    # ---- running

    def boot(self, *options, expect="running", capability="CAP_NET_ADMIN"):
        with open(self.console, "ab") as console:
            self.process = subprocess.Popen(
                ["systemd-nspawn", "-q", "-D", str(self.root), f"--machine={self.name}", "--register=no", "--keep-unit", f"--network-namespace-path=/run/netns/{self.namespaces['machine']}",
                 *([f"--capability={capability}"] if capability else ["--drop-capability=CAP_NET_ADMIN"]), "--link-journal=no", "--console=pipe", "--boot", *options], stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)
        self.leader = wait_until(self.find_leader, f"{self.name} boots: {self.log()}", 30)
        wait_until(lambda: self.state() in ("running", "degraded"), f"{self.name} has booted", 90, pause=0.1)  # asking costs the machine more than waiting
        if expect is not None and self.state() != expect:
            failed = self.do("systemctl", "--failed", "--no-legend", "--plain", check=False).stdout
            raise AssertionError(f"the machine is {self.state()}, not {expect}: {failed}{self.do('journalctl', '-b', '--no-pager', '-u', 'promwarden*', check=False).stdout}")

    def log(self):
        return self.console.read_text(encoding="utf-8", errors="replace")[-1500:] if self.console.exists() else ""

    def find_leader(self):
        if self.process.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended with {self.process.returncode}: {self.log()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                if "systemd" in os.readlink(f"/proc/{child}/exe") and "nspawn" not in os.readlink(f"/proc/{child}/exe"):
                    return child
        return None

    def state(self):
        return self.do("systemctl", "is-system-running", check=False).stdout.strip()

    def do(self, *command, user=None, **options):
        """A command inside the running machine."""
        if user is not None:
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command)
        return run("nsenter", f"--target={self.leader}", "--all", "--", *command, timeout=options.pop("timeout", 300), **options)

    def put(self, path, name=None):
        """A file of this host below /root of the machine."""
        shutil.copy(path, self.root / "root" / (name or Path(path).name))
        return f"/root/{name or Path(path).name}"

    def show(self, unit, *properties):
        """Properties of a unit as systemd tells them."""
        text = self.do("systemctl", "show", unit, *(f"--property={name}" for name in properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines())

    def status(self):
        return json.loads(self.do("promwarden", "status", "--format", "json", check=False).stdout)

    def table(self):
        return self.do("nft", "list", "table", "inet", "promwarden", check=False)

    def apply(self, *words):
        done = self.do("promwarden", "apply", *words, check=False)
        if done.returncode not in (0, 1, 3):
            raise AssertionError(f"apply: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def power_off(self, seconds=30):
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(Exception):
                self.do("systemctl", "--no-block", "poweroff", timeout=10)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        self.process = None

    def kill(self):
        """As a power cut: nothing is stopped in order."""
        os.kill(self.leader, signal.SIGKILL)
        self.process.wait(20)
        self.process = None

    def close(self):
        self.power_off()
        for name in self.namespaces.values():
            run("ip", "netns", "del", name, check=False)
        run("umount", self.root, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


if __name__ == "__main__":  # what most tests here stand on takes minutes where it has to be fetched first
    tree("bookworm")
