#!/usr/bin/python3
"""Certificates rotate under clients that never rest: nobody sees a broken handshake. Beside it, what other ways of writing the same pairs lose."""

import shutil
import time
import unittest
from pathlib import Path

import rotation
from rotation import ALL, NGINX, PROMETHEUS, TLS, WEB, WEB_TEXT, WithHost, finished, run, summed

ROTATIONS = 3000 if ALL else 60
LOSERS = 500 if ALL else 60  # rotations in the ways of others


class UnderLoad(WithHost):
    def rotate_under_clients(self, name, port, rotations):
        clients = [self.host.client(port) for _ in range(4)]
        started = time.monotonic()
        for number in range(rotations):
            done = self.host.cert("rotate", name, *(["--rekey"] if number % 3 == 2 else []))
            self.assertIn(", seen served", done.stdout)
        seconds = time.monotonic() - started
        result = summed(finished(clients))
        print(f"{name}: {rotations} rotations in {seconds:.1f} s, {result['handshakes']} handshakes, {result['failures']} failed, serials seen {result['serials']}")
        self.assertEqual(result["failures"], 0, result)
        self.assertGreater(result["handshakes"], rotations)
        for serials in result["serials"]:
            self.assertGreater(serials, min(rotations // 4, 10), "every client saw new ones")
        return result["failures"] / rotations

    def test_nginx_keeps_what_it_has_where_a_reload_would_fail(self):
        self.host.cert("issue", "proxy")
        self.host.start_nginx()
        before = self.host.list()["proxy"]["certificate"]["serial"]
        Path("/etc/nginx/nginx.conf").write_text(NGINX.replace("events {}", "events {} nonsense;"))
        failed = self.host.cert("rotate", "proxy", "--rekey", check=False)
        self.assertEqual(failed.returncode, 4)
        self.assertIn("nonsense", failed.stderr)
        one = self.host.list()["proxy"]
        self.assertEqual(one["certificate"]["serial"], before)
        self.assertEqual(one["failed_attempts"], 1)

    def test_prometheus_and_what_other_ways_lose(self):
        self.host.cert("issue", "prometheus")
        self.assertTrue(WEB.read_text().startswith(WEB_TEXT), WEB.read_text())
        self.host.start_prometheus()
        ours = self.rotate_under_clients("prometheus", 9090, ROTATIONS)
        self.assertTrue(WEB.read_text().startswith(WEB_TEXT), WEB.read_text())
        self.assertEqual(WEB.stat().st_mode & 0o7777, 0o640)

        # The same Prometheus, the same clients, pairs of the same kind, written as others write them.
        pairs = []
        for _ in range(6):
            self.host.cert("issue", "other")
            current = TLS / "other/current"
            pairs.append([(current / part).read_bytes() for part in ("cert.pem", "key.pem")])
        lost = {"promwarden": ours, **self.lost_by_other_ways(pairs, PROMETHEUS / "others")}
        print(f"failed handshakes per rotation under the same clients ({ROTATIONS} of ours, {LOSERS} of each other way):")
        for way, failures in lost.items():
            print(f"    {way.replace('_', ' '):<12} {failures:8.3f}")
        self.assertGreater(lost["in_place"] + lost["two_renames"], 0, "the clients would see a broken pair")

    def lost_by_other_ways(self, pairs, place):
        place.mkdir()
        for number in range(2):
            (place / f"{number}").mkdir()
        certificate, key = place / "cert.pem", place / "key.pem"
        between = 0.005  # two files are two steps; a tool does something between them

        def in_place(pair, number):
            certificate.write_bytes(pair[0])
            time.sleep(between)
            key.write_bytes(pair[1])

        def two_renames(pair, number):
            for target, text in zip((certificate, key), pair):
                new = target.with_suffix(".new")
                new.write_bytes(text)
                new.rename(target)
                time.sleep(between)

        def swap(pair, number):
            directory = place / str(number % 2)
            for part, text in zip(("cert.pem", "key.pem"), pair):
                (directory / part).write_bytes(text)
            link = place / "new"
            link.symlink_to(directory.name)
            link.rename(place / "current")

        lost = {}
        for way, at in ((in_place, place), (two_renames, place), (swap, place / "current")):
            way(pairs[0], 0)
            new = WEB.with_suffix(".new")
            new.write_text(f"tls_server_config:\n  cert_file: {at}/cert.pem\n  key_file: {at}/key.pem\n")
            new.rename(WEB)
            clients = [self.host.client() for _ in range(4)]
            time.sleep(1)
            for number in range(1, LOSERS + 1):
                way(pairs[number % len(pairs)], number)
                time.sleep(0.03)
            lost[way.__name__] = summed(finished(clients))["failures"] / LOSERS
        return lost

    def test_nginx(self):
        self.host.cert("issue", "proxy")
        self.host.start_nginx()
        self.rotate_under_clients("proxy", 8443, ROTATIONS if ALL else 15)

    def test_change_of_the_authority(self):
        self.host.write_policy("require")
        for name in ("scrape", "prometheus"):
            self.host.cert("issue", name)
        self.host.start_prometheus()
        old = self.host.directory / "old"
        shutil.copytree(TLS / "scrape/current", old, symlinks=False)
        stranger = run("curl", "-sk", "https://localhost:9090/-/healthy", check=False)
        self.assertNotEqual(stranger.returncode, 0, "without a certificate nobody gets an answer")
        live = [self.host.client(pair=(TLS / "scrape/current/cert.pem", TLS / "scrape/current/key.pem")) for _ in range(3)]
        of_old = self.host.client(pair=(old / "cert.pem", old / "key.pem"))
        time.sleep(1)
        self.assertIn("other hosts", self.host.cert("rotate-ca", "--until-overlap").stdout)
        self.assertEqual((TLS / "authorities.pem").read_text().count("BEGIN"), 2)
        time.sleep(1)
        result = summed(finished([of_old]))
        self.assertEqual(result["failures"], 0, result)
        before = self.host.list()["prometheus"]["certificate"]["issuer"]
        self.assertIn("believed no more", self.host.cert("rotate-ca").stdout)
        time.sleep(1)
        result = summed(finished(live))
        print(f"change of the authority: {result['handshakes']} handshakes, {result['failures']} failed")
        self.assertEqual(result["failures"], 0, result)
        self.assertGreater(min(result["serials"]), 1)
        self.assertNotEqual(self.host.list()["prometheus"]["certificate"]["issuer"], before)
        stranger = self.host.client(pair=(old / "cert.pem", old / "key.pem"))
        time.sleep(1)
        refused = summed(finished([stranger]))
        self.assertEqual(refused["handshakes"], 0, "the old authority is believed no more")
        self.assertGreater(refused["failures"], 0)


if __name__ == "__main__":
    rotation.main(__file__, "prometheus", "nginx", "curl", "setpriv")
