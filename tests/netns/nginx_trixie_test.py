"""The nginx of Debian 13 instead of this host's: the generated site gives the same statuses, and the evaluator knows what it does.

Its packages are fetched with apt's own means and kept between runs; it is started with its own libraries. Without PROMWARDEN_ALL a part of the rows and of the configurations stands for
all. Needs root.
"""

import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]
import access_test  # noqa: E402
import nginx_test  # noqa: E402
from machine import ALL, TREES, locked, mirror, run  # noqa: E402

PACKAGES = ["nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3t64", "zlib1g", "libzstd1"]


def nginx_of(release):
    """A script that starts that release's nginx."""
    place = TREES / f"nginx-{release}"
    with locked(place.name):
        if not (place / "nginx").exists():
            half = TREES / f"{place.name}.half"
            shutil.rmtree(half, ignore_errors=True)
            fetch(release, half)
            shutil.rmtree(place, ignore_errors=True)
            half.rename(place)
    return str(place / "nginx")


def fetch(release, place):
    for directory in ("apt/lists/partial", "apt/cache/archives/partial"):
        (place / directory).mkdir(parents=True)
    (place / "apt/sources.list").write_text(f"deb {mirror()} {release} main\n", encoding="ascii")
    settings = {"Dir::Etc::sourcelist": place / "apt/sources.list", "Dir::Etc::sourceparts": "/nonexistent", "Dir::State::lists": place / "apt/lists", "Dir::Cache": place / "apt/cache", "APT::Sandbox::User": "root",
                "Acquire::Languages": "none"}
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    run("apt-get", "-q", *options, "update", timeout=300)
    run("apt-get", "-q", *options, "download", *PACKAGES, cwd=place / "apt", timeout=300)
    for deb in (place / "apt").glob("*.deb"):
        run("dpkg-deb", "-x", deb, place)
    shutil.rmtree(place / "apt")
    libraries = next((place / "usr/lib").glob("*/libc.so.6")).parent
    loader = next(libraries.glob("ld-linux*.so*")).name
    # Beside what it starts, wherever that is moved to.
    (place / "nginx").write_text(f'#!/bin/sh\nhere=${{0%/*}}\nexec "$here/{libraries.relative_to(place)}/{loader}" --library-path "$here/{libraries.relative_to(place)}" "$here/usr/sbin/nginx" "$@"\n', encoding="ascii")
    os.chmod(place / "nginx", 0o755)


class Site(access_test.Access):
    step = 1 if ALL else 12

    @classmethod
    def setUpClass(cls):
        cls.nginx = nginx_of("trixie")
        super().setUpClass()

    def test_it_is_another_version(self):
        self.assertRegex(subprocess.run([self.nginx, "-v"], stderr=subprocess.PIPE, text=True, check=True).stderr, r"nginx/1\.(2[6-9]|[3-9]\d)\.")


class Evaluator(nginx_test.Evaluator):
    written, random = (200, 60) if ALL else (10, 2)

    @classmethod
    def setUpClass(cls):
        cls.nginx = nginx_of("trixie")
        super().setUpClass()


if __name__ == "__main__":
    unittest.main()
