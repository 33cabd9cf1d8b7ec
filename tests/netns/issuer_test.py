#!/usr/bin/python3
"""Certificates from an ACME authority (pebble) by way of uacme and of lego, offline; and what an issuer's command may not do.

Runs itself again in namespaces of its own, where the certificate of pebble's own endpoint is believed.
"""

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
BUILD = Path(os.environ.get("PROMWARDEN_BUILD") or TREE / "build")
COMMAND = BUILD / "src/bin/promwarden"
DIRECTORY = "https://localhost:14000/dir"
POLICY = """schema = 1
[[tls.certificate]]
name = "prometheus"
names = ["prom.test.example"]
issuer = "acme"
install = "prometheus-web"
[[tls.issuer]]
name = "acme"
command = [{command}]
"""


def run(*words, check=True, **options):
    return subprocess.run([str(word) for word in words], check=check, capture_output=True, text=True, **options)


class Pebble:
    """An authority that believes every challenge. Its endpoint shows a certificate of an authority made here."""

    def __init__(self, directory):
        ca, endpoint = directory / "ca", directory / "endpoint"
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("openssl", "req", "-x509", *curve, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "30", "-subj", "/CN=endpoint authority")
        run("openssl", "req", *curve, "-keyout", f"{endpoint}.key", "-out", f"{endpoint}.csr", "-subj", "/", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        run("openssl", "x509", "-req", "-in", f"{endpoint}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "20", "-copy_extensions", "copy", "-out", f"{endpoint}.pem")
        run("mount", "--bind", f"{ca}.pem", "/etc/ssl/certs/ca-certificates.crt")
        settings = directory / "pebble.json"
        settings.write_text(json.dumps({"pebble": {"listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000", "certificate": f"{endpoint}.pem",
                                                   "privateKey": f"{endpoint}.key", "httpPort": 5002, "tlsPort": 5001, "ocspResponderURL": "",
                                                   "externalAccountBindingRequired": False, "certificateValidityPeriod": 86400}}))
        environment = {**os.environ, "PEBBLE_VA_ALWAYS_VALID": "1", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
        with open(directory / "pebble.log", "wb") as log:
            self.process = subprocess.Popen(["pebble", "-config", str(settings)], env=environment, stdout=log, stderr=log)
        self.ca = Path(f"{ca}.pem")
        for _ in range(300):
            if run("curl", "-s", "--cacert", self.ca, DIRECTORY, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError((directory / "pebble.log").read_text())

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        run("umount", "/etc/ssl/certs/ca-certificates.crt")


class Issuers(unittest.TestCase):
    def setUp(self):
        self.directory = Path(tempfile.mkdtemp(prefix="promwarden-issuer-", dir="/run"))
        self.directory.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.state, self.policy = self.directory / "state", self.directory / "policy.toml"
        for entry in Path("/etc/prometheus").iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree("/var/lib/promwarden-issuer", ignore_errors=True)

    def script(self, name, text):
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def cert(self, *words):
        return run(COMMAND, "--policy", self.policy, "--state", self.state, "--socket", self.directory / "none", "cert", *words, check=False)

    def use(self, *command):
        self.policy.write_text(POLICY.format(command=", ".join(f'"{word}"' for word in command)))
        self.policy.chmod(0o644)

    def leaf(self):
        return json.loads(self.cert("list", "--format", "json").stdout)[0]

    def issue_and_rotate(self):
        started = time.monotonic()
        first = self.cert("issue", "prometheus")
        self.assertEqual(first.returncode, 0, first.stderr)
        print(f"issued in {time.monotonic() - started:.2f} s")
        one = self.leaf()
        self.assertEqual(one["problems"], [])
        self.assertIn("prom.test.example", one["certificate"]["names"])
        self.assertIn("Pebble", one["certificate"]["issuer"])
        renewed = self.cert("rotate", "prometheus")
        self.assertEqual(renewed.returncode, 0, renewed.stderr)
        self.assertNotEqual(self.leaf()["certificate"]["serial"], one["certificate"]["serial"])
        # The key was never where the command could see it.
        for path in Path("/var/lib/promwarden-issuer/acme").rglob("*"):
            if path.is_file():
                self.assertNotIn((Path("/etc/prometheus/promwarden/tls/prometheus/1/key.pem")).read_text().splitlines()[1], path.read_text(errors="replace"), path)

    def test_uacme(self):
        pebble = Pebble(self.directory)
        self.addCleanup(pebble.close)
        hook = self.script("hook", "#!/bin/sh\n[ \"$2\" = http-01 ]\n")
        self.use(TREE / "packaging/issuers/uacme", DIRECTORY, hook)
        self.issue_and_rotate()

    def test_lego(self):
        pebble = Pebble(self.directory)
        self.addCleanup(pebble.close)
        root = self.directory / "www"
        root.mkdir()
        root.chmod(0o777)
        self.use(TREE / "packaging/issuers/lego", DIRECTORY, "a@example.com", "--http", "--http.webroot", root)
        self.issue_and_rotate()

    def test_the_issuer_says_when(self):
        """RFC 9773, by an authority that is no more than that: the window that it suggests is when the certificate is due."""
        asked = []

        class Directory(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                body = {"/dir": {"newOrder": "x", "renewalInfo": "http://127.0.0.1:14001/renewal"}}.get(self.path, {"suggestedWindow": {"start": "2026-12-05T00:00:00Z", "end": "2026-12-06T00:00:00.5Z"}})
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 14001), Directory)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        ca = self.directory / "ca"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "300", "-subj", "/CN=an authority", "-addext", "keyUsage=critical,keyCertSign")
        profile = self.directory / "profile"
        profile.write_text("authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
        profile.chmod(0o644)
        Path(f"{ca}.key").chmod(0o644)  # in a directory of this test alone
        for serial in ("0x0123456789abcdef", "0xfedcba9876543210"):  # without and with a first bit that DER would take for a sign
            self.use(self.script("command", f"#!/bin/sh\nset -e\ncd $STATE_DIRECTORY\ncat >csr\nopenssl x509 -req -in csr -CA {ca}.pem -CAkey {ca}.key -set_serial {serial} -days 60 -extfile {profile} -copy_extensions copy -out leaf 2>/dev/null\n"
                                            f"cat leaf {ca}.pem >chain\n{TREE}/packaging/issuers/renewal-window http://127.0.0.1:14001/dir chain\ncat chain\n"))
            done = self.cert("rotate", "prometheus", "--force")
            self.assertEqual(done.returncode, 0, done.stderr)
            one = self.leaf()
            self.assertRegex(one["due"], "^2026-12-05T")
            authority, number = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in asked[-1].removeprefix("/renewal/").split("."))
            self.assertEqual(int.from_bytes(number, "big", signed=True), int(serial, 16), "as DER has it")
            said = run("openssl", "x509", "-in", f"{ca}.pem", "-noout", "-ext", "subjectKeyIdentifier").stdout.split()[-1]
            self.assertEqual(authority.hex(":").upper(), said)

    def test_what_a_command_sees_and_may_do(self):
        seen = self.directory / "seen"
        seen.mkdir()
        seen.chmod(0o777)
        self.use(self.script("command", f"#!/bin/sh\ncat >{seen}/request\nid -u >{seen}/user\nenv >{seen}/environment\nls /proc/self/fd >{seen}/descriptors\nulimit -c >{seen}/core\n"
                                        f"cat /proc/self/status | grep -E 'NoNewPrivs|CapEff' >{seen}/status\necho 'no such luck' >&2\nexit 3\n"))
        failed = self.cert("issue", "prometheus")
        self.assertEqual(failed.returncode, 4)
        self.assertIn("it ended with status 3: no such luck", failed.stderr)
        text = {path.name: path.read_text() for path in seen.iterdir()}
        self.assertTrue(text["request"].startswith("-----BEGIN CERTIFICATE REQUEST-----"))
        self.assertNotIn("PRIVATE", text["request"])
        self.assertNotEqual(text["user"].strip(), "0")
        self.assertIn("NoNewPrivs:\t1", text["status"])
        self.assertIn("CapEff:\t0000000000000000", text["status"])
        self.assertEqual(set(text["descriptors"].split()) - {"0", "1", "2", "3"}, set(), "3 is that of ls")
        self.assertNotIn("HOME=/root", text["environment"])
        self.assertEqual(self.leaf()["failed_attempts"], 1)

    def test_answers_that_are_none(self):
        for said, why in (("yes '' | head -c 3000000", "it said more than"), ("echo '<html>'", "something in it that is no certificate"), ("true", "there is no certificate in it")):
            self.use(self.script("command", f"#!/bin/sh\n{said}\n"))
            failed = self.cert("issue", "prometheus")
            self.assertEqual(failed.returncode, 4)
            self.assertIn(why, failed.stderr)
        writable = self.script("open", "#!/bin/sh\n")
        writable.chmod(0o777)
        self.use(writable)
        self.assertIn("lets others write it", self.cert("issue", "prometheus").stderr)


def enter_namespaces():
    if os.environ.get("PROMWARDEN_INSIDE") != "1":
        os.environ["PROMWARDEN_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]])
    run("mount", "--make-rprivate", "/")
    for path in ("/etc/prometheus", "/run", "/var/lib"):
        run("mount", "-t", "tmpfs", "-o", "mode=755", "none", path)
    run("ip", "link", "set", "lo", "up")


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("these tests make namespaces: run them as root")
    for tool in ("pebble", "uacme", "lego", "openssl", "curl", "unshare"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed")
    if not COMMAND.exists():
        sys.exit(f"{COMMAND} is not built (PROMWARDEN_BUILD names the build directory)")
    enter_namespaces()
    unittest.main(verbosity=2)
