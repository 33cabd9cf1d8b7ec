"""The proxy's users by command: who they are, what their file looks like, and that nginx takes their passwords. Needs root, nginx and openssl.

Everything happens in a mount namespace with an /etc/nginx of its own and in a network namespace.
"""

import base64
import contextlib
import ctypes
import grp
import http.client
import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("PROMWARDEN_BUILD", os.path.join(ROOT, "build"))
COMMAND = os.environ.get("PROMWARDEN", os.path.join(BUILD, "src/bin/promwarden"))
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")
DIRECTORY = "/etc/nginx/promwarden"
FILE = f"{DIRECTORY}/htpasswd"
POLICY = 'schema = 1\n[access]\nauth = "%s"\nauth_url = "http://127.0.0.1:4180"\n[access.roles]\nadmin = ["user:alice", "group:ops"]\nnight-shift = ["user:nina"]\n'


def setUpModule():
    libc = ctypes.CDLL(None, use_errno=True)
    clone_newns, clone_newnet, ms_rec, ms_private = 0x20000, 0x40000000, 0x4000, 0x40000
    if libc.unshare(clone_newns | clone_newnet) != 0 or libc.mount(b"none", b"/", None, ms_rec | ms_private, None) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.makedirs("/etc/nginx", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "none", "/etc/nginx"], check=True)


class Users(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="promwarden-users-", dir="/run")
        self.addCleanup(shutil.rmtree, self.directory)
        os.chmod(self.directory, 0o755)
        self.write_policy("basic")
        shutil.rmtree(DIRECTORY, ignore_errors=True)

    def write_policy(self, auth):
        with open(f"{self.directory}/policy.toml", "w") as file:
            file.write(POLICY % auth)
        os.chmod(f"{self.directory}/policy.toml", 0o644)

    def user(self, *words, password="", status=0):
        done = subprocess.run([COMMAND, "--policy", f"{self.directory}/policy.toml", "access", "user", *words], input=password, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        if password.strip():
            self.assertNotIn(password.strip(), done.stdout + done.stderr)
        return done.stdout + done.stderr

    @staticmethod
    def lines():
        with open(FILE) as file:
            return dict(line.rstrip("\n").split(":", 1) for line in file if not line.startswith("#"))

    def fits(self, user, password):
        algorithm, salt = self.lines()[user].split("$")[1:3]
        self.assertEqual(algorithm, "6")
        self.assertGreaterEqual(len(salt), 16)
        made = subprocess.run(["openssl", "passwd", "-6", "-salt", salt, password], capture_output=True, text=True, check=True).stdout.strip()
        return made == self.lines()[user]

    def test_a_user_is_added_changed_listed_and_removed(self):
        self.assertIn("Added alice: admin", self.user("add", "alice", password="one two\n"))
        self.assertIn("Added bob: viewer", self.user("add", "bob", "--role", "viewer", password="no newline"))
        self.assertTrue(self.fits("alice", "one two"))
        self.assertTrue(self.fits("bob", "no newline"))
        self.assertFalse(self.fits("bob", "other"))
        self.assertIn("Changed the password of alice: admin", self.user("add", "alice", "--role", "admin", password="another\nignored\n"))
        self.assertTrue(self.fits("alice", "another"))
        listed = json.loads(self.user("list", "--format", "json"))
        self.assertEqual(listed, [{"user": "alice", "roles": ["admin"], "password": "sha512"}, {"user": "bob", "roles": ["viewer"], "password": "sha512"},
                                  {"user": "nina", "roles": ["night-shift"], "password": None}])
        self.assertRegex(self.user("list"), r"nina +night-shift +no password")
        self.assertIn("still says that alice is admin", self.user("remove", "alice"))
        self.assertEqual(list(self.lines()), ["bob"])
        self.assertIn("no user 'alice'", self.user("remove", "alice", status=2))

    def test_the_file_is_for_root_and_nginx_and_other_lines_stay(self):
        self.user("add", "bob", password="secret\n")
        group = grp.getgrnam("www-data").gr_gid
        for path, mode in ((DIRECTORY, 0o2750), (FILE, 0o640)):
            status = os.stat(path)
            self.assertEqual((stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid), (mode, 0, group), path)
        with open(FILE, "a") as file:
            file.write("# by hand\ncarol:{SHA}x:a comment\nbob:{PLAIN}second\nbobby:{PLAIN}x\n")
        self.user("add", "bob", password="new\n")
        with open(FILE) as file:
            text = file.read()
        self.assertEqual(text.count("\nbob:") + text.startswith("bob:"), 1)
        self.assertTrue(text.endswith("# by hand\ncarol:{SHA}x:a comment\nbobby:{PLAIN}x\n"), text)
        self.user("remove", "bob")
        with open(FILE) as file:
            self.assertEqual(file.read(), "# by hand\ncarol:{SHA}x:a comment\nbobby:{PLAIN}x\n")
        self.assertEqual([row["password"] for row in json.loads(self.user("list", "--format", "json"))], ["sha1", "plain", None, None])

    def test_a_role_is_the_policys_to_give(self):
        said = self.user("add", "bob", "--role", "admin", password="a-secret\n", status=2)
        self.assertIn('admin = ["user:alice", "group:ops", "user:bob"]', said)
        self.assertIn('night-shift = ["user:nina", "user:bob"]', self.user("add", "bob", "--role", "night-shift", password="a-secret\n", status=2))
        self.assertIn("says that alice is admin", self.user("add", "alice", "--role", "viewer", password="a-secret\n", status=2))
        self.assertIn("no role 'root'; it has admin, viewer, night-shift", self.user("add", "bob", "--role", "root", password="a-secret\n", status=2))
        self.assertFalse(os.path.exists(FILE))
        self.write_policy("auth-request")
        self.assertIn("identity provider", self.user("add", "bob", password="a-secret\n", status=2))

    def test_names_and_passwords_that_cannot_be(self):
        for name in ("", "a:b", "a b", "-x", "#x", "a\nb", 'a"b', "a\\b", "x" * 65, "é", "a\0b".replace("\0", "\x01")):
            self.user("add", "--", name, password="a-secret\n", status=2)
        for password in ("", "\n", "x" * 257 + "\n", "a\0b\n", "y" * 100_000):
            self.user("add", "bob", password=password, status=2)
        self.assertFalse(os.path.exists(FILE))
        self.user("add", "b.o-b_1@example.org", password="x" * 256 + "\n")

    def test_several_at_once_lose_nothing(self):
        adding = [subprocess.Popen([COMMAND, "access", "user", "add", f"user{n}", "--policy", f"{self.directory}/policy.toml"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for n in range(8)]
        for one in adding:
            one.stdin.write(b"secret\n")
            one.stdin.close()
        self.assertEqual([one.wait(60) for one in adding], [0] * 8)
        self.assertEqual(sorted(self.lines()), [f"user{n}" for n in range(8)])

    def on_terminal(self, *typed):
        """What a terminal shows while that is typed, and the exit status."""
        child, terminal = pty.fork()
        if child == 0:
            os.execv(COMMAND, [COMMAND, "access", "user", "add", "bob", "--policy", f"{self.directory}/policy.toml"])
        shown = b""
        for prompt, line in zip((b"Password of bob: ", b"Once more: "), typed):
            while prompt not in shown:
                shown += os.read(terminal, 4096)
            os.write(terminal, line)
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:
            pass  # the other end is closed
        os.close(terminal)
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_on_a_terminal_it_is_asked_twice_and_not_shown(self):
        shown, status = self.on_terminal(b"typed-secret\n", b"typed-secret\n")
        self.assertEqual(status, 0, shown)
        self.assertNotIn("typed-secret", shown)
        self.assertTrue(self.fits("bob", "typed-secret"))
        shown, status = self.on_terminal(b"one\n", b"two\n")
        self.assertEqual(status, 2)
        self.assertIn("differ", shown)
        self.assertTrue(self.fits("bob", "typed-secret"))
        shown, status = self.on_terminal(b"half\x03")
        self.assertEqual(status, 2)
        self.assertIn("interrupted", shown)

    def test_nginx_takes_the_password_while_others_are_added(self):
        self.user("add", "bob", password="bobs password\n")
        with open(f"{self.directory}/nginx.conf", "w") as file:
            paths = " ".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
            file.write(f"daemon off; pid {self.directory}/pid; error_log {self.directory}/error.log; user www-data; worker_processes 1;\nevents {{}}\nhttp {{ access_log off; {paths}\n"
                       f'server {{ listen 127.0.0.1:18080; auth_basic "x"; auth_basic_user_file {FILE}; location / {{ try_files /none =204; }} }} }}\n')
        server = subprocess.Popen([NGINX, "-c", f"{self.directory}/nginx.conf"])
        self.addCleanup(server.wait)
        self.addCleanup(server.send_signal, signal.SIGTERM)

        def status(user, password):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", 18080, timeout=30)) as client:
                client.request("GET", "/", headers={"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()})
                return client.getresponse().status

        deadline = time.monotonic() + 30
        while True:
            try:
                self.assertEqual(status("bob", "bobs password"), 204)
                break
            except ConnectionRefusedError:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
        self.assertEqual(status("bob", "wrong"), 401)
        self.assertEqual(status("Bob", "bobs password"), 401)
        seen, over = [], threading.Event()
        asker = threading.Thread(target=lambda: [seen.append(status("bob", "bobs password")) for _ in iter(over.is_set, True)])
        asker.start()
        for n in range(10):
            self.user("add", f"other{n}", password="a-secret\n")
        over.set()
        asker.join()
        self.assertGreater(len(seen), 3)
        self.assertEqual(set(seen), {204})
        self.user("remove", "bob")
        self.assertEqual(status("bob", "bobs password"), 401)


if __name__ == "__main__":
    unittest.main()
