"""Debian's kernel packages, fetched and unpacked into the cache: nothing is installed.

apt does it, with lists of its own and the signature checks that it always makes; no root is needed.
"""

import contextlib
import errno
import lzma
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from helpers import kernel
from helpers.errors import BpfError, NotFound, Unsupported

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie", "latest": "sid"}
MIRROR = "http://deb.debian.org/debian"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCH = "amd64"
# Of a kernel's modules, what a guest without hardware, and a course about BPF, can use.
KEPT = (
    "arch crypto fs kernel lib mm net security "
    "drivers/virtio drivers/block drivers/net drivers/char/hw_random drivers/crypto drivers/vhost"
).split()
DROPPED = "drivers/net/wireless drivers/net/ethernet drivers/net/usb drivers/net/can".split()


@dataclass(frozen=True)
class Kernel:
    """A kernel in the cache: ``name`` is what one asks for (6.1), ``release`` its ``uname -r``."""

    name: str
    release: str
    folder: Path

    @property
    def image(self) -> Path:
        """What QEMU boots: the unpacked ELF file where there is one, which starts sooner."""
        whole = self.folder / "vmlinux"
        return whole if whole.exists() else self.folder / "vmlinuz"

    @property
    def modules(self) -> Path:
        return self.folder / "lib/modules" / self.release

    @property
    def title(self) -> str:
        """As the kernel picker shows it: the two numbers of the release."""
        return "Python on Linux " + ".".join(re.findall(r"\d+", self.release)[:2])

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
        return sum(path.lstat().st_blocks * 512 for path in self.folder.rglob("*"))


def home() -> Path:
    """The folder of all that has to do with guests."""
    return kernel.cache_dir("vm")


def present(name: str) -> Kernel | None:
    """The kernel of that name, if it is in the cache."""
    folder = home() / "kernels" / name
    try:
        return Kernel(name, (folder / "release").read_text().strip(), folder)
    except OSError:
        return None


def kernels() -> list[Kernel]:
    """All kernels in the cache, oldest first."""
    return [found for name in SUITES if (found := present(name))]


def get(name: str) -> Kernel:
    """The kernel of that name.

    Raises:
        NotFound: it is not in the cache.
    """
    if found := present(name):
        return found
    have = ", ".join(one.name for one in kernels()) or "none"
    raise NotFound(
        f"There is no kernel {name!r} here. Those that are: {have}.\n"
        f"Fetch it with: ./course kernels add {name if name in SUITES else '6.1'}",
        errno.ENOENT,
    )


def add(name: str, progress: Callable[[float, str], None] = lambda share, what: None) -> Kernel:
    """Fetch a kernel into the cache, or bring the one that is there up to date.

    ``progress`` is told the share that is done, from 0 to 1, and what is being done.

    Raises:
        NotFound: no kernel of that name is known.
        Unsupported: the machine is no x86-64 Debian or Ubuntu, or lacks Debian's keys.
        BpfError: apt could not fetch or verify something; its own words are in the message.
    """
    if name not in SUITES:
        raise NotFound(f"No kernel {name!r} is known. Known are: {', '.join(SUITES)}.")
    if os.uname().machine != "x86_64":
        raise Unsupported("an x86-64 machine", os.uname().machine, "Use the Vagrant VM instead.")
    if not shutil.which("apt-get"):
        raise Unsupported("apt-get", "no apt-get on PATH", "Use a Debian or Ubuntu machine.")
    if not KEYS.exists():
        raise Unsupported(
            f"Debian's keys, {KEYS}", "no such file", "apt-get install debian-archive-keyring"
        )
    folder = kernel.cache_dir("vm", "kernels")
    _sweep(folder)
    progress(0.0, "package lists")
    apt = _Apt(name)
    apt.update()
    packages = apt.packages()
    fresh = folder / f"{name}.new-{os.getpid()}"
    fresh.mkdir()
    try:
        apt.download(packages, fresh, lambda share: progress(0.05 + 0.75 * share, packages[0]))
        progress(0.8, "unpacking")
        _unpack(fresh, packages)
        whole = folder / name
        with contextlib.suppress(FileNotFoundError):
            whole.rename(folder / f"{name}.old-{os.getpid()}")
        fresh.rename(whole)
    finally:
        _sweep(folder)
    progress(1.0, "done")
    return get(name)


def remove(name: str) -> None:
    """Remove a kernel from the cache, and apt's lists for it.

    Raises:
        NotFound: it is not there.
    """
    shutil.rmtree(get(name).folder)
    shutil.rmtree(home() / "apt" / name, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what an interrupted ``add`` left: whose process is gone, or is this one."""
    for path in folder.glob("*.*-*"):
        pid = path.name.rpartition("-")[2]
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)


# --- apt ------------------------------------------------------------------------------------


class _Apt:
    """apt-get with lists and caches of its own, for one suite."""

    def __init__(self, name: str) -> None:
        self.folder = kernel.cache_dir("vm", "apt", name)
        for part in ("lists/partial", "archives/partial"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        signed = f"[arch={ARCH} signed-by={KEYS}]"
        (self.folder / "sources.list").write_text(f"deb {signed} {mirror()} {SUITES[name]} main\n")
        self.options = [
            *("-o", f"Dir::Etc::SourceList={self.folder}/sources.list"),
            *("-o", "Dir::Etc::SourceParts=/dev/null"),
            *("-o", f"Dir::State={self.folder}", "-o", f"Dir::State::Lists={self.folder}/lists"),
            *("-o", f"Dir::State::status={self.folder}/status"),
            *("-o", f"Dir::Cache={self.folder}"),
            *("-o", f"APT::Architecture={ARCH}", "-o", f"APT::Architectures={ARCH}"),
            *("-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3"),
            *("-o", "APT::Sandbox::User="),
            *("-o", "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false"),
        ]

    def run(self, *command: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [command[0], *self.options, *command[1:]],
            cwd=cwd,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
            raise BpfError(
                f"{command[0]} {command[1]} failed. It says:\n"
                + "\n".join(said[-3:] or done.stderr.splitlines()[-3:])
                + "\nMend the network or apt's setup, then run the command again."
            )
        return done.stdout

    def update(self) -> None:
        # Without this, apt takes a mirror that cannot be reached for a warning.
        self.run("apt-get", "update", "-q", "-o", "APT::Update::Error-Mode=any")

    def packages(self) -> list[str]:
        """The packages that make the kernel: what linux-image-amd64 depends on, and so on."""
        wanted, found = [f"linux-image-{ARCH}"], list[str]()
        while wanted:
            package = wanted.pop()
            text = self.run("apt-cache", "show", "--no-all-versions", package)
            depends = re.search(r"^Depends: (.*)$", text, re.MULTILINE)
            if package != f"linux-image-{ARCH}":
                found.append(package)
            names = re.findall(
                r"linux-(?:image|binary|modules)-[\w.+-]+", depends[1] if depends else ""
            )
            wanted += [name for name in names if name not in found and name not in wanted]
        return found

    def download(self, packages: list[str], into: Path, progress: Callable[[float], None]) -> None:
        with _log(into) as log:
            read, write = os.pipe()
            command = ["apt-get", *self.options, "-q", "-o", f"APT::Status-Fd={write}"]
            with open(read) as status:
                try:
                    process = subprocess.Popen(
                        [*command, "download", *packages],
                        cwd=into,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[write],
                    )
                finally:
                    os.close(write)
                for line in status:
                    if line.startswith("dlstatus:"):
                        progress(float(line.split(":")[2]) / 100)
            if process.wait():
                log.seek(0)
                said = [line for line in log.read().splitlines() if line.startswith("E:")]
                raise BpfError(
                    "apt-get download failed. It says:\n"
                    + "\n".join(said[-3:])
                    + "\nMend the network or apt's setup, then run the command again."
                )


@contextlib.contextmanager
def _log(folder: Path) -> Iterator[IO[str]]:
    path = folder / "log"
    with path.open("w+") as log:
        yield log
    path.unlink()


def mirror() -> str:
    """The mirror that this machine uses, when it is a Debian; else Debian's own."""
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            line = r"^(?:URIs:|deb(?: \[.*?\])?) +(https?://\S+/debian)/?\s"
            if found := re.search(line, path.read_text(), re.MULTILINE):
                return found[1]
    return MIRROR


# --- unpacking ------------------------------------------------------------------------------


def _unpack(folder: Path, packages: list[str]) -> None:
    for deb in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "tree")], check=True)
        deb.unlink()
    tree = folder / "tree"
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    modules = next(
        (path for where in ("lib", "usr/lib") for path in tree.glob(f"{where}/modules/*")), None
    )
    if not images or not modules:
        raise BpfError(f"The packages {', '.join(packages)} hold no kernel.")
    release = modules.name
    (folder / "release").write_text(f"{release}\n")
    shutil.copyfile(images[0], folder / "vmlinuz")
    whole = _vmlinux(images[0].read_bytes())
    if whole:
        (folder / "vmlinux").write_bytes(whole)
    kept = folder / "lib/modules" / release
    kept.mkdir(parents=True)
    for path in modules.iterdir():
        if path.name.startswith("modules."):
            path.rename(kept / path.name)
    for part in KEPT:
        if (modules / "kernel" / part).exists():
            (kept / "kernel" / part).parent.mkdir(parents=True, exist_ok=True)
            (modules / "kernel" / part).rename(kept / "kernel" / part)
    for part in DROPPED:
        shutil.rmtree(kept / "kernel" / part, ignore_errors=True)
    depmod = shutil.which("depmod", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if not depmod:
        raise Unsupported("depmod", "no depmod on PATH", "apt-get install kmod")
    done = subprocess.run([depmod, "-b", str(folder), release], capture_output=True, text=True)
    if done.returncode:  # it warns of lists that newer kernels have no more
        raise BpfError(f"depmod failed for Linux {release}. It says:\n{done.stderr}")
    shutil.rmtree(tree)


def _vmlinux(image: bytes) -> bytes | None:
    """The ELF file in a bzImage; None when it is packed in a way that we have no tool for.

    Source: Documentation/arch/x86/boot.rst, payload_offset and payload_length.
    """
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = setup * 512 + offset
    packed = image[start : start + length - 4]  # behind it stands the length when unpacked
    with contextlib.suppress(lzma.LZMAError, zlib.error, OSError, subprocess.CalledProcessError):
        if packed.startswith(b"\xfd7zXZ"):
            return lzma.LZMADecompressor().decompress(packed)
        if packed.startswith(b"\x1f\x8b"):
            return zlib.decompressobj(31).decompress(packed)
        if packed.startswith(b"\x28\xb5\x2f\xfd"):
            return subprocess.run(
                ["zstd", "-dcq"], input=packed, stdout=subprocess.PIPE, check=True
            ).stdout
    return None
