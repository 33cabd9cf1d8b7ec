"""A certificate with a new key, signed by a local authority, durable and in its place: ours against openssl's commands, certmonger and lego, and what each way of
writing a pair costs clients. Each works on a disk, in a mount and a network namespace made here."""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or TREE / "build-test")
POLICY = 'schema = 1\n[[tls.certificate]]\nname = "bench"\nnames = ["bench.example.org"]\n'
OPENSSL = """set -e; cd {place}
[ -e ca.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=ca 2>/dev/null
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out new.key
openssl req -new -key new.key -subj / -addext subjectAltName=DNS:bench.example.org -out new.csr
openssl x509 -req -in new.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 30 -out new.pem 2>/dev/null
sync new.key new.pem; mv new.key bench.key; mv new.pem bench.pem; sync ."""
# certmonger needs a bus; a private one, and its session mode, leave the host's alone. Its local authority signs within the daemon.
CERTMONGER = """set -e; cd {place}; export HOME={place} XDG_RUNTIME_DIR={place}
cp -a /var/lib/certmonger cm; mount --bind cm /var/lib/certmonger
certmonger -s -n -d 0 >certmonger.log 2>&1 & daemon=$!
for i in $(seq 200); do getcert list -s >/dev/null 2>&1 && break; sleep 0.05; done
getcert request -s -w -c local -I bench -k {place}/cm.key -f {place}/cm.pem -G EC -g 256 -D bench.example.org -N CN=bench.example.org >/dev/null
for i in $(seq {count}); do
    start=$(date +%s%N); getcert rekey -s -w -i bench -G EC -g 256 >/dev/null; echo $(( $(date +%s%N) - start ))
done
[ -s cm.pem ] || {{ getcert list -s >&2; exit 1; }}
kill $daemon"""
# lego asks pebble, which signs at once and believes every challenge; nothing leaves the namespace.
LEGO = """set -e; cd {place}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ep.key -out ep.pem -days 5 -subj /CN=endpoint -addext subjectAltName=DNS:localhost 2>/dev/null
echo '{{"pebble": {{"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": "ep.pem", "privateKey": "ep.key", "httpPort": 5002, "tlsPort": 5001, "ocspResponderURL": "", "externalAccountBindingRequired": false, "certificateValidityPeriod": 86400}}}}' >pebble.json
PEBBLE_VA_ALWAYS_VALID=1 PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 pebble -config pebble.json >pebble.log 2>&1 & pebble=$!
for i in $(seq 200); do curl -s --cacert ep.pem https://localhost:14000/dir >/dev/null && break; sleep 0.05; done
mkdir -p www; export LEGO_CA_CERTIFICATES=$PWD/ep.pem
lego="lego --server https://localhost:14000/dir --path $PWD/lego -a -m a@example.com -d bench.example.org --http --http.webroot $PWD/www"
$lego run >lego.log 2>&1
for i in $(seq {count}); do
    start=$(date +%s%N); $lego renew --days 9999 --no-random-sleep >>lego.log 2>&1; echo $(( $(date +%s%N) - start ))
done
kill $pebble"""


def run(words):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def own_place():
    """A directory on a disk, and how to enter the namespaces in which it is /etc/prometheus, too."""
    place = Path(tempfile.mkdtemp(prefix="promwarden-bench-", dir="/var/tmp"))
    place.chmod(0o755)
    (place / "etc").mkdir()
    (place / "policy.toml").write_text(POLICY)
    (place / "policy.toml").chmod(0o644)
    keeper = subprocess.Popen(["unshare", "-mn", "sh", "-c", f"ip link set lo up; mkdir -p /etc/prometheus && mount --bind {place}/etc /etc/prometheus && echo ready && exec sleep 900"], stdout=subprocess.PIPE)
    try:
        keeper.stdout.readline()
        yield place, ["nsenter", "-t", str(keeper.pid), "-m", "-n"]
    finally:
        keeper.kill()
        keeper.wait()
        shutil.rmtree(place)


def timed(words):
    start = time.perf_counter()
    run(words)
    return (time.perf_counter() - start) * 1e3


def peer(enter, script, *tools, **values):
    """Milliseconds of each turn, or why it could not be measured."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    command = [*enter, "dbus-run-session", "--", "bash", "-c"] if "dbus-run-session" in tools else [*enter, "bash", "-c"]
    try:
        done = subprocess.run([*command, script.format(**values)], capture_output=True, text=True, timeout=180, check=False)
    except subprocess.TimeoutExpired:
        return "not done within 180 s"
    return [int(line) / 1e6 for line in done.stdout.split()] if done.returncode == 0 else (done.stderr.strip() or "it failed").splitlines()[-1]


def measure(row, short):
    with own_place() as (place, enter):
        command = [*enter, BUILD / "src/bin/promwarden", "--policy", place / "policy.toml", "--state", place / "state", "--socket", place / "none", "cert", "rotate", "bench", "--rekey"]
        ours, theirs = [], []
        for _ in range(4 if short else 21):
            theirs.append(timed([*enter, "sh", "-c", OPENSSL.format(place=place)]))
            ours.append(timed(command))
        mine = statistics.median(ours[1:])
        row("certificate with a new key: command, openssl", mine, statistics.median(theirs[1:]), note="verified and recorded, too")
        if short:
            return
        for name, script, tools in (("certmonger", CERTMONGER, ("certmonger", "dbus-run-session")), ("lego and pebble", LEGO, ("lego", "pebble", "curl"))):
            turns = peer(enter, script, *tools, place=place, count=5)
            row(f"certificate with a new key: command, {name}", mine, *([statistics.median(turns)] if isinstance(turns, list) else []), note="" if isinstance(turns, list) else turns)
    lost_handshakes()


def lost_handshakes():
    """The table that the load test makes, with its short numbers."""
    words = [sys.executable, TREE / "tests/netns/rotation_load_test.py", "UnderLoad.test_prometheus_and_what_other_ways_lose"]
    done = subprocess.run([str(word) for word in words], env={**os.environ, "PROMWARDEN_ALL": "", "PROMWARDEN_BUILD": str(BUILD)}, capture_output=True, text=True, check=False)
    begins = done.stdout.find("failed handshakes per rotation")
    print(done.stdout[begins:].rstrip() if begins >= 0 else done.stderr, flush=True)
