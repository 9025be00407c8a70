"""Debians with nothing but the base system, on this kernel.

Each release is a tree that mmdebstrap made, the root of a mount namespace of its own, so
that every mount goes with the last process. There is no PID namespace: what a program is told of
processes, such as bpf_get_current_pid_tgid(), are the numbers of the outermost one.

What is downloaded once (the base system, packages) is kept in the cache.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from helpers import kernel
from helpers.vm import fetch


class Release(NamedTuple):
    """A Debian, and the versions in it that the course has to do with."""

    suite: str
    python: str
    bcc: str
    libbpf: str
    clang: str


RELEASES = [
    Release("bookworm", "3.11", "0.26", "1.1", "14"),
    Release("trixie", "3.13", "0.31", "1.5", "19"),
]

# What a shell of this machine knows of the way to the network, and a new machine's owner would set.
PROXIES = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")

# /dev is this machine's; /sys is mounted anew, so that what ./course mounts below it stays inside.
ENTER = r"""
set -eu
tree=$1 kept=$2
shift 2
mount --make-rprivate /
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount -t sysfs sysfs "$tree/sys"
mount --rbind /sys/fs/cgroup "$tree/sys/fs/cgroup"
mount --rbind /dev "$tree/dev"
mount -t tmpfs tmpfs "$tree/dev/shm"
mount -t tmpfs tmpfs "$tree/run"
mount --bind "$kept" "$tree/var/cache/apt/archives"
# Not chroot, in which one cannot make mount namespaces, as the checks of labs do.
cd "$tree"
pivot_root . mnt
exec chroot . /bin/bash -c 'umount -l /mnt && cd /root/course && exec "$@"' - "$@"
"""


class Machine:
    """A tree, and what runs in it."""

    def __init__(self, release: Release, folder: Path, kept: Path) -> None:
        self.release, self.folder, self.kept = release, folder, kept
        self.root = folder.stat()

    def run(self, *command: str) -> str:
        """Run a command in the clone; its output, which is also what a failure shows."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        env |= {"HOME": "/root", "LANG": "C.UTF-8"} | {name: os.environ[name] for name in PROXIES}
        if BUNDLE.exists():
            env |= {"SSL_CERT_FILE": "/root/ca.crt", "PIP_CERT": "/root/ca.crt"}
        enter = ["bash", "-c", ENTER, "enter", str(self.folder), str(self.kept), *command]
        try:
            done = subprocess.run(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", *enter],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        finally:
            self.kill()
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n" + (
            "\n".join(done.stdout.splitlines()[-200:])
        )
        return done.stdout

    def processes(self) -> list[int]:
        """Those whose root is the tree."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path / "root"), self.root):
                    found.append(int(path.name))
        return found

    def kill(self) -> None:
        """End what a command left running. A moment for what is ending by itself comes first."""
        for wait in (0.1, 0.5, 2, 2):
            if not (left := self.processes()):
                return
            time.sleep(wait)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def base(suite: str) -> Path:
    """The base system as a tar file, made when it is not in the cache."""
    tar = kernel.cache_dir("fresh") / f"{suite}.tar"
    if not tar.exists():
        part = tar.with_suffix(f".part-{os.getpid()}.tar")
        settings = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True)
        ways = re.findall(r"^Acquire::https?::.*(?:Proxy|CaInfo).*$", settings.stdout, re.M | re.I)
        line = f"deb [signed-by={fetch.KEYS}] {fetch.mirror()} {suite} main"
        options = [f"--aptopt={way}" for way in ways]
        try:
            command = ["mmdebstrap", "--quiet", "--variant=minbase", *options, suite, part, line]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            part.rename(tar)
        finally:
            part.unlink(missing_ok=True)
    return tar


@contextlib.contextmanager
def made(release: Release) -> Iterator[Machine]:
    """A tree with a clone of the course; it is removed at the end, whatever happens."""
    home = kernel.cache_dir("fresh")
    for left in home.glob("*.tree-*"):  # of a run that was killed
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left)
    kept = kernel.cache_dir("fresh", "kept", release.suite)
    (kept / "partial").mkdir(parents=True, exist_ok=True)
    folder = home / f"{release.suite}.tree-{os.getpid()}"
    folder.mkdir(mode=0o755)
    machine = Machine(release, folder, kept)
    try:
        subprocess.run(
            ["tar", "-C", folder, "--numeric-owner", "-xf", base(release.suite)], check=True
        )
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc", name), folder / "etc")
        if BUNDLE.exists():
            shutil.copy(BUNDLE, folder / "root/ca.crt")
        clone = ["git", "clone", "--quiet", "--no-hardlinks", kernel.ROOT, folder / "root/course"]
        subprocess.run(clone, check=True)
        yield machine
    finally:
        machine.kill()
        assert not machine.processes()
        assert str(folder) not in Path("/proc/self/mounts").read_text()
        shutil.rmtree(folder)
