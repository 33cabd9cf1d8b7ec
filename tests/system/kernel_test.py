"""Debian's own kernel (6.1, no owned tables), booted under qemu without acceleration: the early unit, the guard, its healing and the status."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import machine  # noqa: E402
from machine import TREES, locked, run  # noqa: E402

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /new
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module || /bin/busybox echo "insmod $module failed"; done
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do /bin/busybox usleep 50000; i=$((i+1)); done
/bin/busybox mount -t ext4 /dev/vda /new
exec /bin/busybox switch_root /new /sbin/init
"""
# What the machine does with itself; one line of output for each observation. A namespace plays the stranger.
INSIDE = """#!/bin/sh
say() { echo "RESULT $*" >/dev/console; }
say kernel $(uname -r)
ip netns add stranger
ip link add out type veth peer name in netns stranger
ip address add 203.0.113.1/24 dev out
ip link set out up
ip -n stranger address add 203.0.113.2/24 dev in
ip -n stranger link set in up
reach() { ip netns exec stranger curl -s -o /dev/null -m 3 -w '%{http_code}' http://203.0.113.1:9090/-/ready; }
for i in $(seq 100); do curl -s -o /dev/null -m 1 http://127.0.0.1:9090/-/ready && break; sleep 0.3; done
if [ ! -e /var/lib/promwarden/accepted ]; then
    say before $(reach)
    promwarden apply >/dev/null 2>&1; say apply $?
    say after $(reach)
    nft flush ruleset
    sleep 1
    say flushed $(reach)
    say healed $(nft list chain inet promwarden guard_pre 2>/dev/null | grep -c 'dport 9090')
    say gaps $(promwarden history --format json | sed -n 's/.*"kind":"heal".*"gap_us":\\([0-9]*\\).*/\\1/p')
    say status $(promwarden status --format json | tr -d '\\n ')
    sync
    systemctl --force --force reboot
else
    say second $(reach)
    say early $(systemctl show promwarden-early -p ActiveState -p ExecMainStatus -p ExecMainStartTimestampMonotonic -p ExecMainExitTimestampMonotonic | tr '\\n' ' ')
    say pre $(systemctl show network-pre.target -p ActiveEnterTimestampMonotonic)
    systemctl --force --force poweroff
fi
"""
UNIT = """[Unit]
After=prometheus.service promwardend.service
Wants=prometheus.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/observe
[Install]
WantedBy=multi-user.target
"""
MODULES = ["virtio_pci", "virtio_blk", "ext4"]


def kernel():
    """Debian's kernel image of that release, unpacked."""
    with locked("kernel"):
        directory = TREES / "kernel"
        if not list(directory.glob("boot/vmlinuz-*")):
            shutil.rmtree(directory, ignore_errors=True)
            base = machine.tree("bookworm", machine.needs(machine.package()))
            name = re.search(r"Depends: (linux-image-\S+)", run("chroot", base, "apt-cache", "depends", "linux-image-amd64").stdout)[1]
            with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
                url = re.search(r"'(\S+)'", run("chroot", base, "apt-get", "download", "--print-uris", name).stdout)[1]
                run("curl", "-sfL", "-o", f"{work}/kernel.deb", url, timeout=600)
                half = TREES / "kernel.half"
                shutil.rmtree(half, ignore_errors=True)
                run("dpkg-deb", "-x", f"{work}/kernel.deb", half)
                half.rename(directory)
    return directory, next((directory / "lib/modules").iterdir()).name


def initramfs(made, version, work):
    """busybox and the modules that lead to the disk, out of a machine's tree."""
    tree = Path(work, "initramfs")
    for part in ("bin", "modules"):
        (tree / part).mkdir(parents=True)
    shutil.copy(made.root / "bin/busybox", tree / "bin/busybox")
    order = []
    for module in MODULES:
        listed = made.offline("modprobe", "-S", version, "--show-depends", module).stdout
        for path in re.findall(r"^insmod (\S+)", listed, re.MULTILINE):
            if Path(path).name not in order:
                order.append(Path(path).name)
                shutil.copy(made.root / path[1:], tree / "modules")
    (tree / "modules/order").write_text("\n".join(order) + "\n", encoding="ascii")
    (tree / "init").write_text(INIT, encoding="ascii")
    (tree / "init").chmod(0o755)
    image = Path(work, "initramfs.img")
    run("sh", "-c", f"cd {tree} && find . | cpio -o -H newc 2>/dev/null >{image}")
    return image


@unittest.skipUnless(machine.ALL, "boots a kernel without acceleration: PROMWARDEN_ALL")
class Kernel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.TemporaryDirectory(dir="/var/tmp")
        cls.addClassCleanup(cls.work.cleanup)
        directory, version = kernel()
        cls.kernel = directory / f"boot/vmlinuz-{version}"
        made = machine.Machine(machine.tree("bookworm", machine.needs(machine.package())), machine.package())
        try:
            for path, text, mode in (("usr/local/sbin/observe", INSIDE, 0o755), ("etc/systemd/system/observe.service", UNIT, 0o644)):
                (made.root / path).write_text(text, encoding="ascii")
                (made.root / path).chmod(mode)
            run("systemctl", f"--root={made.root}", "enable", "observe")
            shutil.copytree(directory / "lib/modules", made.root / "lib/modules", ignore=shutil.ignore_patterns("sound", "media", "gpu", "wireless", "staging", "infiniband"))
            made.offline("depmod", version)
            cls.initramfs = initramfs(made, version, cls.work.name)
            cls.disk = Path(cls.work.name, "disk")
            run("mke2fs", "-q", "-t", "ext4", "-d", made.root, cls.disk, "2500M", timeout=300)
        finally:
            made.close()

    def boot(self):
        """What the machine said about itself, by name."""
        done = subprocess.run(["timeout", "240", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "768", "-smp", "2", "-nographic", "-no-reboot",
                               "-kernel", self.kernel, "-initrd", self.initramfs, "-append", "console=ttyS0 quiet panic=-1 root=/dev/vda rw",
                               "-drive", f"file={self.disk},if=virtio,format=raw", "-nic", "none"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        output = done.stdout.decode(errors="replace")
        found = dict(re.findall(r"RESULT (\w+) ?([^\r\n]*)", output))
        self.assertIn("kernel", found, output[-3000:])
        return found

    def test_the_guard_on_an_older_kernel(self):
        first = self.boot()
        self.assertRegex(first["kernel"], r"^6\.1\.")
        self.assertEqual((first["before"], first["after"], first["flushed"]), ("200", "000", "000"), first)
        self.assertIn(first["apply"], ("0", "1", "3"))
        self.assertGreater(int(first["healed"]), 0)
        status = json.loads(first["status"])
        self.assertEqual(status["firewall"]["state"], "plain")
        self.assertIn("6.9", status["firewall"]["reason"])
        second = self.boot()
        self.assertEqual(second["second"], "000")
        early = dict(part.split("=") for part in second["early"].split())
        self.assertEqual((early["ActiveState"], early["ExecMainStatus"]), ("active", "0"))
        self.assertLessEqual(int(early["ExecMainExitTimestampMonotonic"]), int(second["pre"].split("=")[1]))
        took = int(early["ExecMainExitTimestampMonotonic"]) - int(early["ExecMainStartTimestampMonotonic"])
        print(f"\n{first['kernel']}: gaps {first['gaps']} us; the early unit took {took / 1000:.0f} ms without acceleration", file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
