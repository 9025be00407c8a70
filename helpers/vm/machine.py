"""The machine that a guest runs on: QEMU's command line, the initramfs, and KVM or not.

From the kernel to ``inside.py`` all that runs is one script, in the initramfs. There is no udev and
no systemd, which took most of the time to boot.
"""

import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from helpers import kernel
from helpers.errors import BpfError, Unsupported
from helpers.vm import inside
from helpers.vm.fetch import Kernel

MEMORY = 1536  # MiB, unless told otherwise
CPUS = 2
NEEDED = "virtio_pci virtio_rng virtio_balloon virtio_net 9pnet_virtio 9p overlay".split()
# What a kernel need not do in a guest of ours. Two of these are for emulation:
# norandmaps: QEMU translates code anew for each address that it runs at. Where all processes have a
# program at the same one, a second clang takes a third of the time.
# clearcpuid=112 is REP_GOOD (arch/x86/include/asm/cpufeatures.h): see PROCESSOR.
QUICKER = (
    "quiet mitigations=off nokaslr norandmaps clearcpuid=112 tsc=reliable no_timer_check "
    "cryptomgr.notests audit=0"
)
CMDLINE = f"console=ttyS0 panic=-1 random.trust_cpu=on apparmor=0 selinux=0 {QUICKER}"
# In TCG, 5-level page tables cost and bring nothing; SMAP brings nothing, either. String
# instructions go through memory step by step, so who is told that they are fast (erms) waits: 20
# new areas of 20 MB took 1.5 s, and take 0.3 s; of all the work of a guest it is some 15 percent.
# AVX2 of QEMU 7.2 is wrong: NumPy's argsort(), and so sort_values() of pandas, gave other orders
# than on real processors.
PROCESSOR = {"kvm": "host", "tcg": "max,la57=off,smap=off,erms=off,avx2=off"}
INIT = f"""#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
for module in /modules/*; do
	$B insmod $module
done
$B grep -q course.probe /proc/cmdline && {{ echo course: alive; $B poweroff -f; }}
$B umount /proc
$B hostname linux
$B ip link set lo up
$B ip address add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
export LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
if [ -e /lower/usr ]; then
	exec $B chroot /lower "$course_python" "$course_inside" ready {inside.FIRST_ROOT}</
elif $B mount -t 9p -o ro,{inside.PLAIN},cache=loose root /lower; then
	exec $B chroot /lower "$course_python" "$course_inside" {inside.FIRST_ROOT}</
fi
echo "course: the kernel mounts no 9p"
$B poweroff -f
"""


def bare_boot(of: Kernel, accelerator: str | None = None, seconds: float = 120) -> float:
    """Boot to the first line of a script and power off: the seconds that it takes.

    Raises:
        BpfError: that line never came.
    """
    line = [*_bare(of, accelerator or choose(of), 256, _initramfs(of)), "-serial", "stdio"]
    line += ["-append", f"{CMDLINE} course.probe"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise BpfError(f"Linux {of.release} did not boot within {seconds:g} s.") from None
    if "course: alive" not in done.stdout:
        raise BpfError(f"Linux {of.release} did not boot:\n{done.stderr}{done.stdout}"[:2000])
    return time.monotonic() - began


def whole(
    of: Kernel,
    accelerator: str,
    memory: int,
    folder: Path,
    *,
    ports: Iterable[int] = (),
    initramfs: Path | None = None,
) -> list[str]:
    """QEMU's command line for a guest whose own folder that is, which gets the console, too.

    Ports are forwarded from 127.0.0.1. What stands on QEMU's standard input comes out of the
    guest's second serial line.
    """
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{port}" for port in ports)
    shares: dict[str, tuple[Path, bool]] = {"root": (Path("/"), True)}
    shares |= {"kernel": (of.folder, True)}
    shares |= {"course": (kernel.ROOT, False), "guest": (folder, False)}
    names = {"course_python": sys.executable, "course_inside": inside.__file__}
    return [
        *_bare(of, accelerator, memory, initramfs or _initramfs(of)),
        *("-serial", f"file:{folder}/console", "-serial", "stdio"),
        *("-netdev", f"user,id=net,restrict=on,ipv6=off{forwards}"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-balloon-pci,free-page-reporting=on"),
        *[word for tag, share in shares.items() for word in _share(tag, *share)],
        # Linux hands what it does not know to the first program, in its environment.
        *("-append", " ".join([CMDLINE, *(f'"{name}={path}"' for name, path in names.items())])),
    ]


def keep(folder: Path, line: Iterable[str]) -> "subprocess.Popen[bytes]":
    """Start QEMU, and the process that ends it, and removes the folder, when we end (keeper.py)."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", Path(__file__).with_name("keeper.py"), folder, *line],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(kept: "subprocess.Popen[bytes]") -> None:
    """End what ``keep()`` started, at once; twice is fine."""
    assert kept.stdin
    kept.stdin.close()
    try:
        kept.wait(10)
    except subprocess.TimeoutExpired:
        kept.kill()  # QEMU goes with it
        kept.wait()


def _bare(of: Kernel, accelerator: str, memory: int, initramfs: Path) -> list[str]:
    more = ",thread=multi,tb-size=256" if accelerator == "tcg" else ""
    return [
        *(qemu(), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
        *("-M", "q35", "-m", str(memory), "-smp", str(CPUS)),
        *("-accel", accelerator + more, "-cpu", PROCESSOR[accelerator]),
        *("-kernel", str(of.image), "-initrd", str(initramfs)),
        *("-device", "virtio-rng-pci"),
    ]


def _share(tag: str, path: Path, readonly: bool) -> list[str]:
    options = f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"
    return ["-virtfs", f"{options},readonly={'on' if readonly else 'off'}"]


def qemu() -> str:
    if found := shutil.which("qemu-system-x86_64"):
        return found
    raise Unsupported(
        "QEMU (qemu-system-x86_64)", "none on PATH", "./course kernels add 6.1  installs it"
    )


# --- KVM or not -----------------------------------------------------------------------------


def choose(of: Kernel) -> str:
    """ "kvm" where a short boot with it works, else "tcg"; remembered until the next boot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = (
        kernel.cache_dir("vm", "kvm")
        / hashlib.sha256(f"{boot_id} {qemu()}".encode()).hexdigest()[:16]
    )
    if not known.exists():
        try:
            bare_boot(of, "kvm", seconds=20)
            works = "kvm"
        except BpfError:
            works = "tcg"
        kernel.write_atomically(known, works.encode())
    return known.read_text()


# --- the initramfs --------------------------------------------------------------------------


class Entry(NamedTuple):
    """A file, folder, link or device of an initramfs."""

    name: str
    mode: int
    data: bytes = b""
    device: int = 0  # the major number, 8 bits up, and the minor one
    written: int = 0  # when, in seconds since 1970


def _initramfs(of: Kernel) -> Path:
    """The archive with our script, busybox, and the modules that it takes to mount the root."""
    path = of.folder / f"initramfs-{hashlib.sha256(INIT.encode()).hexdigest()[:8]}"
    if not path.exists():
        kernel.write_atomically(path, initramfs(of))
    return path


def initramfs(of: Kernel, more: Iterable[Entry] = ()) -> bytes:
    """That archive, and what is to be in it besides."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise Unsupported("busybox", "none on PATH", "apt-get install busybox-static")
    folders = "dev bin modules proc sys lower upper root".split()
    entries = [Entry(name, 0o40755) for name in folders]
    entries.append(Entry("dev/console", 0o20600, device=5 << 8 | 1))
    entries.append(Entry("dev/ttyS1", 0o20600, device=4 << 8 | 65))
    entries.append(Entry("dev/urandom", 0o20666, device=1 << 8 | 9))
    entries.append(Entry("bin/busybox", 0o100755, Path(busybox).read_bytes()))
    entries.append(Entry("init", 0o100755, INIT.encode()))
    for number, module in enumerate(_in_order(of)):
        data = module.read_bytes()
        if module.suffix == ".xz":
            data = lzma.decompress(data)
        entries.append(Entry(f"modules/{number:02}.ko", 0o100644, data))
    return _cpio([*entries, *more])


def _in_order(of: Kernel) -> list[Path]:
    """The modules needed, each behind those that it depends on; what is built in is left out."""
    depends = dict[str, list[str]]()
    paths = dict[str, str]()
    for line in (of.modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[path] = rest.split()
        paths[Path(path).name.partition(".")[0].replace("-", "_")] = path
    order = list[str]()

    def add(path: str) -> None:
        for other in reversed(depends[path]):
            add(other)
        if path not in order:
            order.append(path)

    for name in NEEDED:
        if name in paths:
            add(paths[name])
    return [of.modules / path for path in order]


def _cpio(entries: Iterable[Entry]) -> bytes:
    """An archive in the newc format.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    out = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        path, size, device = entry.name.encode() + b"\0", len(entry.data), entry.device
        fields = (number, entry.mode, 0, 0, 1, entry.written, size, 0, 0, device >> 8, device & 255)
        out += b"070701" + b"".join(b"%08X" % field for field in (*fields, len(path), 0)) + path
        out += b"\0" * (-len(out) % 4) + entry.data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
