"""promwarden lint as a command: kinds, formats, exit status, standard input, files beside a file. SARIF is held against what its 2.1.0 schema demands of the parts that are written."""

import json
import os
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

BUILD = os.environ.get("PROMWARDEN_BUILD")
LINT = [str(Path(BUILD or "build", "src/bin/promwarden")), "lint"]

GOOD = "global:\n  scrape_interval: 15s\nscrape_configs:\n  - job_name: self\n    static_configs:\n      - targets: ['localhost:9090']\n"
BAD = GOOD + "  - job_name: shop\n    scheme: https\n    bearer_token: s3cr3t\n    static_configs:\n      - targets: ['shop.example:443']\n"
FRAGMENT = "location /prometheus/ {\n    auth_basic a;\n    auth_basic_user_file /etc/nginx/htpasswd;\n    proxy_pass http://127.0.0.1:9090/;\n    proxy_set_header Authorization \"\";\n}\n"
COMPOSE = "services:\n  prometheus:\n    image: prom/prometheus\n    ports:\n      - \"9090:9090\"\n"

# What the schema demands: a type; of an object its keys ("!" those that have to be there), of an array the form of its items; of a string its words, where they are few.
MESSAGE = {"!text": str}
LEVEL = {"none", "note", "warning", "error"}
REGION = {"!startLine": int, "startColumn": int}
LOCATION = {"physicalLocation": {"!artifactLocation": {"!uri": str}, "region": REGION}, "logicalLocations": [{"fullyQualifiedName": str, "kind": str}]}
SARIF = {
    "$schema": str,
    "!version": {"2.1.0"},
    "!runs": [{
        "!tool": {"!driver": {"!name": str, "semanticVersion": str, "rules": [{
            "!id": str, "shortDescription": MESSAGE, "fullDescription": MESSAGE, "help": MESSAGE, "defaultConfiguration": {"level": LEVEL}, "properties": dict}]}},
        "invocations": [{"!executionSuccessful": bool, "endTimeUtc": str, "toolExecutionNotifications": [{
            "!message": MESSAGE, "level": LEVEL, "associatedRule": {"id": str, "index": int}, "locations": [LOCATION]}]}],
        "results": [{
            "!message": MESSAGE, "ruleId": str, "ruleIndex": int, "kind": {"fail", "pass", "open", "review", "informational", "notApplicable"}, "level": LEVEL, "locations": [LOCATION],
            "partialFingerprints": dict, "suppressions": [{"!kind": {"inSource", "external"}, "status": {"accepted", "underReview", "rejected"}, "justification": str}], "properties": dict}],
        "properties": dict}],
}


def misfits(value, form, at="$"):
    """Every place where the value is not of that form."""
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return [f"{at}: no object"]
        known = {name.lstrip("!"): each for name, each in form.items()}
        wrong = [f"{at}: no {name[1:]}" for name in form if name.startswith("!") and name[1:] not in value]
        for name, each in value.items():
            wrong += misfits(each, known[name], f"{at}.{name}") if name in known else [f"{at}: {name} is not known"]
        return wrong
    if isinstance(form, list):
        if not isinstance(value, list):
            return [f"{at}: no array"]
        return [wrong for index, each in enumerate(value) for wrong in misfits(each, form[0], f"{at}[{index}]")]
    if isinstance(form, set):
        return [] if value in form else [f"{at}: {value!r}"]
    return [] if isinstance(value, form) and not (form is int and (isinstance(value, bool) or value < 0)) else [f"{at}: {value!r} is no {form.__name__}"]


@unittest.skipUnless(BUILD, "PROMWARDEN_BUILD names no build")
class Lint(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def write(self, name: str, text: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def lint(self, *words: str, status: int, stdin: str | None = None) -> str:
        done = subprocess.run([*LINT, *words], cwd=self.directory, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status != 2 else done.stderr

    def report(self, *words: str, status: int, stdin: str | None = None) -> dict:
        rows = json.loads(self.lint(*words, "--format", "json", status=status, stdin=stdin))["controls"]
        return {row["id"]: row for row in rows}

    def test_exit_status(self):
        good, bad, part, other = self.write("good.yml", GOOD), self.write("bad.yml", BAD), self.write("part.conf", FRAGMENT), self.write("x.md", "# Words\n")
        self.lint(good, status=0)
        self.lint(bad, status=1)
        self.lint(good, bad, status=1)
        self.lint(part, "--only", "proxy.tls-only", status=3)
        self.lint(other, status=3)
        self.lint("missing.yml", status=2)
        self.lint(good, "--as", "yaml", status=2)
        self.lint(bad, "--fail-on", "critical", status=0)
        self.lint(bad, "--only", "tls.scrape", status=0)
        self.lint(bad, "--only", "secrets.inline", "--fail-on", "high", status=1)

    def test_every_finding_has_a_place(self):
        report = self.report(self.write("bad.yml", BAD), status=1)
        finding = report["secrets.inline"]["findings"][0]
        self.assertEqual(finding["location"], {"file": "bad.yml", "line": 9, "column": 5, "path": "scrape_configs[1].bearer_token"})
        self.assertNotIn("s3cr3t", json.dumps(report))

    def test_standard_input(self):
        self.assertEqual(self.report("-", status=1, stdin=BAD)["secrets.inline"]["findings"][0]["location"]["file"], "stdin")
        self.lint("-", status=0, stdin=GOOD)
        self.assertIn("only once", self.lint("-", "-", status=2, stdin=GOOD))

    def test_text_is_by_file_with_every_place_once(self):
        first, second = self.write("a.yml", BAD), self.write("b.yml", "scrape_configs:\n  - job_name: a\n    metric_path: /x\n")
        text = self.lint(first, second, status=1)
        self.assertLess(text.index("a.yml\n"), text.index("b.yml\n"))
        self.assertIn("replace line 9 by:     bearer_token_file: /etc/prometheus/secrets/scrape_configs-1-bearer_token", text)
        self.assertEqual(text.count("scrape_configs[0].metric_path"), 1)
        self.assertIn("config.startable, config.invalid", text)
        self.assertIn("2 files, 2 places to correct", text)

    def test_a_file_of_another_program_is_one_remark(self):
        text = self.lint(self.write("map.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n  prometheus.yml: |\n    scrape_configs: []\n"), status=3)
        self.assertEqual(text.count("map.yaml"), 1)
        self.assertIn("it looks like a Kubernetes object", text)

    def test_sarif(self):
        self.assertEqual(misfits({"version": "2.0", "runs": [{"tool": {"driver": {}}, "x": 1}]}, SARIF), ["$.version: '2.0'", "$.runs[0].tool.driver: no name", "$.runs[0]: x is not known"])
        names = [self.write("bad file.yml", BAD), self.write("compose.yml", COMPOSE), self.write("x.md", "# Words\n"), self.write("web.yml", "basic_auth_users: {a: x}\n")]
        log = json.loads(self.lint(*names, "--format", "sarif", status=1))
        self.assertEqual(misfits(log, SARIF), [])
        run = log["runs"][0]
        rules = run["tool"]["driver"]["rules"]
        self.assertEqual(len({rule["id"] for rule in rules}), len(rules))
        self.assertGreater(len(run["results"]), 3)
        for result in run["results"]:
            self.assertEqual(rules[result["ruleIndex"]]["id"], result["ruleId"])
            place = result["locations"][0]["physicalLocation"]
            self.assertGreater(place["region"]["startLine"], 0)
            self.assertGreater(place["region"]["startColumn"], 0)
            self.assertNotRegex(place["artifactLocation"]["uri"], r"[^A-Za-z0-9%/._~-]")

    def test_junit(self):
        suites = ElementTree.fromstring(self.lint(self.write("bad.yml", BAD), "--format", "junit", status=1))
        cases = suites.findall("testsuite/testcase")
        self.assertEqual(int(suites.get("tests")), len(cases))
        self.assertEqual(int(suites.get("failures")), len([case for case in cases if case.find("failure") is not None]))
        self.assertTrue(any("bad.yml:9" in (case.findtext("failure") or "") for case in cases))

    def test_what_lies_beside_a_compose_file(self):
        self.write(".env", "BIND=127.0.0.1\nPORT=9090\n")
        self.write("base.yml", "services:\n  server:\n    image: prom/prometheus\n    command: [--web.enable-admin-api]\n")
        path = self.write("compose.yml", "services:\n  p:\n    extends: {file: base.yml, service: server}\n    ports: ['${BIND}:9090:9090']\n")
        report = self.report(path, status=1)
        self.assertEqual(report["network.published-ports"]["verdict"], "pass")
        self.assertEqual(report["api.admin"]["findings"][0]["location"], {"file": "base.yml", "line": 4, "column": 15, "path": "services.server.command[0]"})
        over = self.write("docker-compose.override.yml", "services:\n  prometheus:\n    ports: ['9090:9090']\n")
        self.lint(over, status=3)
        self.write("docker-compose.yml", "services:\n  prometheus:\n    image: prom/prometheus\n")
        self.assertEqual(self.report(over, status=1)["network.published-ports"]["findings"][0]["location"]["line"], 3)

    def test_texts_of_every_kind_of_encoding(self):
        for name, text in {"bom": b"\xef\xbb\xbf" + BAD.encode(), "utf-16": BAD.encode("utf-16"), "crlf": BAD.replace("\n", "\r\n").encode()}.items():
            with self.subTest(name):
                finding = self.report(self.write("bad.yml", text), status=1)["secrets.inline"]["findings"][0]
                self.assertEqual(finding["location"]["line"], 9)
        self.lint(self.write("empty.yml", ""), "--as", "prometheus", status=0)

    def test_what_is_too_much_is_one_error_with_its_place(self):
        laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)) + "scrape_configs: []\n"
        self.assertRegex(self.lint(self.write("laughs.yml", laughs), status=3), r"laughs\.yml:\d+:\d+: refused: its aliases stand for too many values")
        self.assertRegex(self.lint(self.write("deep.yml", "scrape_configs: " + "[" * 1000 + "]" * 1000 + "\n"), status=3), r"deep\.yml:1:\d+: refused: nested deeper than 200 levels")
        self.assertRegex(self.lint(self.write("loop.yml", "scrape_configs: &a\n  - job_name: x\n    relabel_configs: *a\n"), status=1), "an alias contains itself")
        with open(self.directory / "large.yml", "wb") as file:
            file.truncate(100 << 20)
        self.assertRegex(self.lint("large.yml", status=2), r"large\.yml: 104857600 bytes, the limit is 67108864")


if __name__ == "__main__":
    unittest.main(verbosity=2)
