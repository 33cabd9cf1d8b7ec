#!/usr/bin/python3
"""What is issued, judged by others than us: OpenSSL's strict reading of RFC 5280 always, Go's crypto/x509 where --all brings it. And shown to people."""

import json
import shutil
import subprocess
import unittest
from pathlib import Path

import rotation
from rotation import ALL, HERE, TLS, WithHost, run

OUTSIDE = "outside.example.com"  # which the authority's constraints do not permit


class Judged(WithHost):
    """Each judge says yes or no to the same questions."""

    def setUp(self):
        super().setUp()
        for name in ("prometheus", "scrape"):
            self.host.cert("issue", name)
        self.chains = {"prometheus": TLS / "prometheus/1/cert.pem", "scrape": TLS / "scrape/current/cert.pem", "outside": self.host.directory / "outside.pem"}
        self.sign_outside()

    def sign_outside(self):
        """With the authority's own key, by another program than ours, a name that the authority may not sign."""
        issuing = self.host.state / "tls/authority/issuing/1"
        request = self.host.directory / "outside"
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{request}.key", "-out", f"{request}.csr", "-subj", "/", "-addext", f"subjectAltName=critical,DNS:{OUTSIDE}",
            "-addext", "extendedKeyUsage=serverAuth", "-addext", "keyUsage=critical,digitalSignature", "-addext", "basicConstraints=critical,CA:FALSE")
        config = self.host.directory / "identifiers"
        config.write_text("authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        run("openssl", "x509", "-req", "-in", f"{request}.csr", "-CA", issuing / "cert.pem", "-CAkey", issuing / "key.pem", "-CAcreateserial", "-CAserial", f"{request}.srl", "-days", "5",
            "-copy_extensions", "copyall", "-extfile", config, "-out", f"{request}.leaf")
        self.chains["outside"].write_text(Path(f"{request}.leaf").read_text() + (issuing / "cert.pem").read_text())

    def openssl(self, name, use, host=None):
        chain = self.chains[name]
        done = run("openssl", "verify", "-x509_strict", "-CAfile", TLS / "authorities.pem", "-untrusted", chain, "-purpose", f"ssl{use}", *(["-verify_hostname", host] if host else []), chain, check=False)
        return done.returncode == 0, done.stderr

    def go(self, name, use, host=None):
        done = run(self.verifier, TLS / "authorities.pem", self.chains[name], use, *([host] if host else []), check=False)
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)
        return done.returncode == 0, done.stdout

    def judge(self, ask, reasons):
        for question in (("prometheus", "server", "localhost"), ("prometheus", "server"), ("scrape", "client"), ("scrape", "client", "scrape.example.org")):
            accepted, why = ask(*question)
            self.assertTrue(accepted, f"{question}: {why}")
        for question, reason in zip((("prometheus", "server", "example.org"), ("prometheus", "client"), ("scrape", "server"), ("outside", "server", OUTSIDE)), reasons):
            accepted, why = ask(*question)
            self.assertFalse(accepted, question)
            self.assertIn(reason, why, question)

    def test_openssl(self):
        self.judge(self.openssl, ("hostname mismatch", "unsuitable certificate purpose", "unsuitable certificate purpose", "permitted subtree violation"))
        self.assertEqual(run("openssl", "verify", "-x509_strict", "-CAfile", TLS / "authorities.pem", "-untrusted", self.chains["prometheus"], "-verify_ip", "127.0.0.1", self.chains["prometheus"]).returncode, 0)

    @unittest.skipUnless(ALL or shutil.which("go"), "Go's compiler is large: --all installs it")
    def test_go(self):
        self.verifier = self.host.directory / "verify"
        subprocess.run(["go", "build", "-o", self.verifier, HERE / "verify.go"], check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(self.host.directory), "GO111MODULE": "off", "GOFLAGS": "", "GOPROXY": "off"})
        self.judge(self.go, ("not example.org", "incompatible key usage", "incompatible key usage", "is not permitted by any constraint"))


class Shown(WithHost):
    def test_list_and_report(self):
        self.assertIsNone(self.host.list()["prometheus"]["certificate"])
        self.assertIn("none yet", self.host.cert("list").stdout)
        self.host.cert("issue", "prometheus")
        one = self.host.list()["prometheus"]
        self.assertEqual(one["problems"], [])
        self.assertEqual(one["certificate"]["names"], ["localhost", "127.0.0.1"])
        self.assertEqual((one["use"], one["issued_by"], one["install"], one["failed_attempts"], one["last_error"]), ("server", "local", "prometheus-web", 0, ""))
        self.assertGreater(one["due"], one["certificate"]["not_before"])
        self.assertLess(one["due"], one["certificate"]["not_after"])
        text = self.host.cert("list").stdout
        for word in ("names     localhost, 127.0.0.1", "issuer    CN=", "serial    ", "key       ecdsa-p256", "expires   ", "file      /etc/prometheus/promwarden/tls/prometheus/1/cert.pem", "due       ", "served    no"):
            self.assertIn(word, text)
        report = json.loads(run(*self.host.words("check", "--only", "tls.files", "--only", "tls.rotation", "--format", "json"), check=False).stdout)
        verdicts = {control["id"]: control for control in report["controls"]}
        self.assertEqual(verdicts["tls.files"]["verdict"], "fail")  # three are not issued yet
        self.assertNotIn("PRIVATE KEY", json.dumps(report))
        unknown = self.host.cert("issue", "nobody", check=False)
        self.assertEqual(unknown.returncode, 2)

    def test_a_web_config_that_is_a_link(self):
        rotation.WEB.rename(rotation.PROMETHEUS / "real.yml")
        rotation.WEB.symlink_to("real.yml")
        refused = self.host.cert("issue", "prometheus", check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertEqual(refused.stderr.strip(), "promwarden: edit /etc/prometheus/web.yml: it is a symbolic link: whoever made it manages the file; name the file itself as prometheus.web_config")
        self.assertEqual((rotation.PROMETHEUS / "real.yml").read_text(), rotation.WEB_TEXT)

    def test_comments_and_order_survive_a_checked_edit(self):
        theirs = "# by the operator\nbasic_auth_users:\n  alice: $2y$10$abcdefghijklmnopqrstuuC4pJ4yNqGXkXhWmHZ7ZKqQ0m0kYyE9e  # hers\ntls_server_config:\n  # old ones\n  min_version: TLS12\nhttp_server_config: {http2: true}\n"
        rotation.WEB.write_text(theirs)
        self.host.cert("issue", "prometheus")
        edited = rotation.WEB.read_text()
        self.assertEqual([line for line in edited.splitlines(keepends=True) if "_file:" not in line], theirs.splitlines(keepends=True))
        if shutil.which("promtool"):
            run("promtool", "check", "web-config", rotation.WEB)
        rotation.WEB.write_text(edited.replace("min_version: TLS12", "min_version: TLS99"))
        refused = self.host.cert("rotate", "prometheus", "--rekey", check=False)
        self.assertEqual(refused.returncode, 4)
        self.assertIn("TLS99", refused.stderr)
        self.assertIn("/tls/prometheus/1/cert.pem", rotation.WEB.read_text(), "the one that promtool refuses is never published")


if __name__ == "__main__":
    rotation.main(__file__)
