"""The .rpm, built here with rpmbuild: its files are the .deb's, it installs into an empty root, and its scriptlets do what they say. PROMWARDEN_RPM names a
directory with the packages where they are built already."""

import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import Machine, run, wait_until  # noqa: E402

RPMLINT = machine.SOURCE / "packaging/rpm/rpmlint.toml"


def place(path):
    """A path as both packages would name it, or None for what only one of them has by its distribution's rules."""
    path = re.sub(r"^/lib/systemd/", "/usr/lib/systemd/", path)
    path = path.replace("/zsh/site-functions/", "/zsh/vendor-completions/").replace("/licenses/", "/doc/")
    path = re.sub(r"\.gz$", "", path)
    return None if re.search(r"/(doc/promwarden/(changelog|copyright|LICENSE)|lintian/overrides/promwarden)$", path) else path


@unittest.skipUnless(machine.ALL, "builds the .rpm: PROMWARDEN_ALL")
class Rpm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.work.cleanup)
        where = os.environ.get("PROMWARDEN_RPM")
        if not where:
            where = cls.work.name + "/rpm"
            run(machine.SOURCE / "packaging/build-rpm", where, timeout=3600)
        cls.source, = Path(where).glob("*.src.rpm")
        cls.binary, = (path for path in Path(where).glob("*.rpm") if not path.name.endswith(".src.rpm") and "debug" not in path.name)

    def query(self, *words):
        return run("rpm", "-qp", "--nosignature", *words, self.binary).stdout

    def test_rpmlint_finds_no_error(self):
        done = run("rpmlint", "--config", RPMLINT, self.source, self.binary, check=False)
        self.assertRegex(done.stdout, r" 0 errors, 0 warnings", done.stdout)

    def test_its_files_are_those_of_the_deb(self):
        # Directories of our own count too; the others belong to the system.
        def ours(paths):
            return {place(path) for path in paths if "promwarden" in path} - {None}
        listed = run("dpkg-deb", "--contents", machine.package()).stdout.splitlines()
        deb = ours("/" + line.split(None, 5)[5].removeprefix("./").rstrip("/") for line in listed)
        self.assertEqual(ours(self.query("--list").split()), deb)
        self.assertIn("/usr/libexec/promwarden/promwarden-early", deb)
        self.assertEqual(self.query("--configfiles").split(), ["/etc/promwarden/policy.toml"])
        modes = dict(line.split(" ") for line in self.query("--queryformat", "[%{FILENAMES} %{FILEMODES:octal}%{FILEUSERNAME}%{FILEGROUPNAME}\n]").splitlines())
        self.assertEqual(modes["/etc/promwarden/policy.toml"], "100644rootroot")
        self.assertEqual(modes["/usr/sbin/promwardend"], "100755rootroot")

    def test_it_needs_few_libraries(self):
        needed = {name.split("(")[0] for name in self.query("--requires").split("\n") if ".so" in name}
        self.assertLessEqual(needed, {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6", "libcrypto.so.3", "libssl.so.3", "libcurl.so.4", "libmnl.so.0", "libnftnl.so.11", "libsystemd.so.0"})

    def test_it_installs_into_an_empty_root(self):
        root = Path(self.work.name, "root")
        root.mkdir()
        run("rpm", "--root", root, "--initdb")
        run("rpm", "--root", root, "--install", "--nodeps", "--nosignature", "--noscripts", self.binary)
        self.assertTrue((root / "usr/sbin/promwardend").exists())
        self.assertEqual(run("rpm", "--root", root, "--verify", "--nodeps", "promwarden").stdout, "")
        policy = root / "etc/promwarden/policy.toml"
        policy.write_text(policy.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
        run("rpm", "--root", root, "--install", "--replacepkgs", "--nodeps", "--nosignature", "--noscripts", self.binary)
        self.assertIn("# edited", policy.read_text(encoding="utf-8"))
        run("rpm", "--root", root, "--erase", "--nodeps", "--noscripts", "promwarden")
        self.assertEqual([str(path) for path in root.rglob("*promwarden*") if "/var/lib" not in str(path) and path.is_file()], [])

    def test_its_scriptlets_on_a_booted_machine(self):
        """Debian's system, the rpm's files and scriptlets: systemd is the same, systemd-update-helper is not there and its part is played by systemctl."""
        made = Machine(machine.tree("bookworm", machine.needs(machine.package())))
        self.addCleanup(made.close)
        made.boot()
        rpm = made.put(self.binary)
        made.do("rpm", "--initdb")
        made.do("rpm", "--install", "--nodeps", "--nosignature", rpm)
        self.assertRegex(made.do("getent", "group", "promwarden").stdout, r"^promwarden:")
        self.assertEqual(made.do("stat", "-c", "%a %G", "/run/promwarden").stdout.split(), ["2755", "promwarden"])
        made.do("systemctl", "daemon-reload")
        made.do("systemctl", "enable", "--now", "promwarden-early", "promwardend")
        made.apply()
        self.assertEqual(made.answers("untrusted"), 0)
        made.do("rpm", "--install", "--replacepkgs", "--nodeps", "--nosignature", rpm)  # as an upgrade: nothing is undone
        self.assertEqual(made.answers("untrusted"), 0)
        made.do("systemctl", "stop", "promwardend")  # what remove-system-units does first
        done = made.do("rpm", "--erase", "--nodeps", "promwarden")
        self.assertNotIn("could not", done.stderr)
        self.assertNotEqual(made.table().returncode, 0)
        self.assertFalse((made.root / "etc/systemd/system/prometheus.service.d").exists())
        made.do("systemctl", "restart", "prometheus")
        wait_until(lambda: made.answers("untrusted") == 200, "Prometheus starts without the guard")


if __name__ == "__main__":
    unittest.main()
