"""Debian's Prometheus of another release than this host's: fetched with apt's own means and kept between runs, so that a test can put it in the place of the installed one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))
from machine import TREES, locked, mirror, run  # noqa: E402


def prometheus_of(release):
    """A directory with the package's files, and with var/lib/dpkg as if nothing else were installed."""
    place = TREES / f"prometheus-{release}"
    with locked(place.name):
        if not (place / "var/lib/dpkg/status").exists():
            half = TREES / f"{place.name}.half"
            shutil.rmtree(half, ignore_errors=True)
            fetch(release, half)
            shutil.rmtree(place, ignore_errors=True)
            half.rename(place)
    return place


def fetch(release, place):
    for directory in ("apt/lists/partial", "apt/cache/archives/partial"):
        (place / directory).mkdir(parents=True)
    (place / "apt/sources.list").write_text(f"deb {mirror()} {release} main\n", encoding="ascii")
    options = [word for key, value in (("Dir::Etc::sourcelist", place / "apt/sources.list"), ("Dir::Etc::sourceparts", "/nonexistent"), ("Dir::State::lists", place / "apt/lists"),
                                       ("Dir::Cache", place / "apt/cache"), ("APT::Sandbox::User", "root"), ("Acquire::Languages", "none")) for word in ("-o", f"{key}={value}")]
    run("apt-get", "-q", *options, "update", timeout=300)
    run("apt-get", "-q", *options, "download", "prometheus", cwd=place / "apt", timeout=300)
    deb = next((place / "apt").glob("prometheus_*.deb"))
    run("dpkg-deb", "-x", deb, place)
    info = place / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "prometheus.list").write_text("/usr/bin/prometheus\n", encoding="ascii")
    fields = run("dpkg-deb", "-f", deb, "Package", "Version", "Architecture").stdout
    (place / "var/lib/dpkg/status").write_text(fields.replace("\n", "\nStatus: install ok installed\n", 1), encoding="utf-8")
    shutil.rmtree(place / "apt")


def version_of(place):
    done = subprocess.run([place / "usr/bin/prometheus", "--version"], capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return (done.stdout or done.stderr).split()[2].partition("+")[0]
