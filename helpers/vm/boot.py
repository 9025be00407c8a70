"""One Linux guest: a fetched kernel in QEMU, over this machine's own file system.

The guest's root is this machine's, read-only below an overlay in memory; the course's folder is
writable, and so is the folder of the guest itself, at ``/run/course``. Its network card reaches
nobody: only ports that are named are forwarded, from 127.0.0.1 to the guest. No root is needed.

From the kernel to the command, all that runs is two scripts: ours, in the initramfs, and the one
that ``Guest`` writes. There is no udev and no systemd, which took most of the time to boot.
"""

import contextlib
import hashlib
import itertools
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from helpers import kernel
from helpers.errors import BpfError, Unsupported
from helpers.vm.fetch import Kernel

MEMORY = 1024  # MiB, unless told otherwise
CPUS = 2
INSIDE = Path("/run/course")  # where the guest sees its own folder
PANIC = r"Kernel panic|BUG:|Oops|sysrq: |Out of memory"
NEEDED = "virtio_pci virtio_rng virtio_balloon virtio_net 9pnet_virtio 9p overlay".split()
PLAIN = "trans=virtio,version=9p2000.L,msize=512000"
CMDLINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check "
    "random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0 selinux=0"
)
# In TCG, 5-level page tables cost and bring nothing. AVX2 of QEMU 7.2 is wrong: NumPy's argsort(),
# and so sort_values() of pandas, gave other orders than on real processors.
PROCESSOR = {"kvm": "host", "tcg": "max,la57=off,avx2=off"}

INIT = f"""#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
for module in /modules/*; do
	$B insmod $module
done
$B grep -q course.probe /proc/cmdline && {{ echo course: alive; $B poweroff -f; }}
fail() {{ echo "course: $1"; $B poweroff -f; }}
$B mount -t 9p -o ro,{PLAIN},cache=loose root /lower || fail "the kernel mounts no 9p"
$B mount -t tmpfs tmpfs /upper
$B mkdir /upper/upper /upper/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work overlay /root ||
	fail "the kernel mounts no overlay"
for folder in tmp run var/tmp; do
	$B mkdir -p /root/$folder
	$B mount -t tmpfs tmpfs /root/$folder
done
$B mkdir /root{INSIDE}
$B mount -t 9p -o {PLAIN} guest /root{INSIDE} || fail "there is no folder of the guest"
$B cp /bin/busybox /root/run/busybox
$B umount /proc
exec $B switch_root /root /run/busybox sh {INSIDE}/start
"""

START = """\
B=/run/busybox
mount() {{ $B mount "$@"; }}
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
$B mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t cgroup2 cgroup2 /sys/fs/cgroup
$B mkdir -p /run/kernel /lib/modules/{release}
mount -t 9p -o ro,{plain},cache=loose kernel /run/kernel
mount -o bind /run/kernel/lib/modules/{release} /lib/modules/{release}
if [ -d {course}/.venv ]; then
	$B mkdir /run/venv
	mount -o bind {course}/.venv /run/venv
fi
$B mkdir -p {course}
mount -t 9p -o {plain},cache=mmap course {course}
[ ! -d /run/venv ] || mount -o bind /run/venv {course}/.venv
$B hostname linux
$B ip link set lo up
$B ip address add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
$B chmod 1777 /tmp /var/tmp
ulimit -l unlimited
ulimit -n 65536
{exports}
export COURSE_UPTIME="$($B cut -d' ' -f1 /proc/uptime)"
cd {cwd}
{command} > {inside}/out 2>&1 < /dev/null
echo $? > {inside}/status
$B poweroff -f
"""


def in_guest() -> bool:
    """Is this Python inside a guest? Then it can start no other."""
    return (INSIDE / "start").exists()


class Guest:
    """A running guest, with one command in it; it ends with the command.

    ``folder`` is shared with the guest, which sees it at ``/run/course``: ``files`` are put there
    first; the command's output is in ``out`` and its exit status in ``status``.
    """

    _numbers = itertools.count()

    def __init__(
        self,
        of: Kernel,
        command: Iterable[str],
        *,
        ports: Iterable[int] = (),
        files: Mapping[str, str | bytes] = {},
        env: Mapping[str, str] = {},
        cwd: Path = kernel.ROOT,
        memory: int = MEMORY,
    ) -> None:
        qemu = _qemu()
        _room_for(memory)
        accelerator = _accelerator(of)
        self.kernel = of
        runs = _folder("guests")
        _sweep(runs)
        self.folder = runs / f"{os.getpid()}-{next(self._numbers)}"
        self.folder.mkdir(mode=0o700)
        script = START.format(
            release=of.release,
            plain=PLAIN,
            inside=INSIDE,
            course=shlex.quote(str(kernel.ROOT)),
            exports="\n".join(f"export {k}={shlex.quote(v)}" for k, v in _env(env).items()),
            cwd=shlex.quote(str(cwd)),
            command=shlex.join(_found(command)),
        )
        for name, text in {**files, "start": script}.items():
            (self.folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:{port}" for port in ports)
        shares: dict[str, tuple[Path, bool]] = {"root": (Path("/"), True)}
        shares |= {"kernel": (of.folder, True)}
        shares |= {"course": (kernel.ROOT, False), "guest": (self.folder, False)}
        line = [
            *_machine(qemu, accelerator, of, memory),
            *("-serial", f"file:{self.folder}/console"),
            *("-netdev", f"user,id=net,restrict=on,ipv6=off{forwards}"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-balloon-pci,free-page-reporting=on"),
            *[word for tag, share in shares.items() for word in _share(tag, *share)],
            *("-append", CMDLINE),
        ]
        keeper = Path(__file__).with_name("keeper.py")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(keeper), str(self.folder), *line],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end of the command, and return its exit status.

        Raises:
            BpfError: the guest ended in another way; its last lines are in the message.
            subprocess.TimeoutExpired: it is still running.
        """
        self.process.wait(seconds)
        try:
            return int((self.folder / "status").read_text())
        except (OSError, ValueError):
            raise self.failure() from None

    def failure(self) -> BpfError:
        """What to say of a guest that ended before its command did."""
        return BpfError(
            f"The guest with Linux {self.kernel.release} ended by itself. It said last:\n"
            f"{self.last_words() or 'nothing'}"
        )

    def last_words(self, lines: int = 6) -> str:
        """The end of what the guest's console, its command and QEMU said."""
        said = []
        for name in ("qemu.log", "console", "out"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_bytes()[-16000:].decode(errors="replace")
                spoken = [line for line in _plain(text).splitlines() if line.strip()]
                # A panic ends in registers and addresses; why it came stands further up.
                why = [line for line in spoken[:-lines] if re.search(PANIC, line)]
                said += why[:4] + spoken[-lines:]
        return "\n".join(said)

    def close(self) -> None:
        """End the guest at once; twice is fine."""
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()  # QEMU goes with it
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _found(command: Iterable[str]) -> list[str]:
    """With the path of the program: the shell in the guest would take busybox's of that name."""
    program, *rest = command
    return [shutil.which(program) or program, *rest]


def bare_boot(of: Kernel, accelerator: str | None = None, seconds: float = 120) -> float:
    """Boot to the first line of a script and power off: the seconds that it takes.

    Raises:
        BpfError: that line never came.
    """
    line = [*_machine(_qemu(), accelerator or _accelerator(of), of, 256), "-serial", "stdio"]
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


def _machine(qemu: str, accelerator: str, of: Kernel, memory: int) -> list[str]:
    more = ",thread=multi,tb-size=256" if accelerator == "tcg" else ""
    return [
        *(qemu, "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
        *("-M", "q35", "-m", str(memory), "-smp", str(CPUS)),
        *("-accel", accelerator + more, "-cpu", PROCESSOR[accelerator]),
        *("-kernel", str(of.image), "-initrd", str(_initramfs(of))),
        *("-device", "virtio-rng-pci"),
    ]


def _share(tag: str, path: Path, readonly: bool) -> list[str]:
    options = f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"
    return ["-virtfs", f"{options},readonly={'on' if readonly else 'off'}"]


def _env(more: Mapping[str, str]) -> dict[str, str]:
    headers = os.environ.get("BCC_KERNEL_SOURCE") or str(kernel.cache_dir() / "headers/current")
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(Path.home()),
        "LANG": "C.UTF-8",
        "BCC_KERNEL_SOURCE": headers,
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: value for name, value in os.environ.items() if name.startswith("BPF_COURSE_")},
        **more,
    }


def _qemu() -> str:
    if found := shutil.which("qemu-system-x86_64"):
        return found
    raise Unsupported(
        "QEMU (qemu-system-x86_64)", "none on PATH", "./course kernels add 6.1  installs it"
    )


def _room_for(memory: int) -> None:
    """Raise BpfError unless the machine has that many MiB: else it would end other processes."""
    free = re.search(r"^MemAvailable: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    if free and int(free[1]) >> 10 < memory:
        raise BpfError(
            f"A guest takes up to {memory:,} MB of free memory, and this machine has "
            f"{int(free[1]) >> 10:,}.\nShut down other programs, or other kernels: JupyterLab "
            "lists them at its left."
        )


def _folder(name: str) -> Path:
    return kernel.cache_dir("vm", name)


def _sweep(runs: Path) -> None:
    """Remove the folders of guests whose owner is gone."""
    for path in runs.iterdir():
        if not Path("/proc", path.name.partition("-")[0]).exists():
            shutil.rmtree(path, ignore_errors=True)


def _plain(text: str) -> str:
    """Without terminal escapes."""
    return re.sub(r"\x1b[\[\]()][0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f]", "", text)


# --- KVM or not -----------------------------------------------------------------------------


def _accelerator(of: Kernel) -> str:
    """ "kvm" where a short boot with it works, else "tcg"; remembered until the next boot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    known = _folder("kvm") / hashlib.sha256(f"{boot_id} {_qemu()}".encode()).hexdigest()[:16]
    if not known.exists():
        try:
            bare_boot(of, "kvm", seconds=20)
            works = "kvm"
        except BpfError:
            works = "tcg"
        kernel.write_atomically(known, works.encode())
    return known.read_text()


# --- the initramfs --------------------------------------------------------------------------


def _initramfs(of: Kernel) -> Path:
    """The archive with our script, busybox, and the modules that it takes to mount the root."""
    path = of.folder / f"initramfs-{hashlib.sha256(INIT.encode()).hexdigest()[:8]}"
    if path.exists():
        return path
    busybox = shutil.which("busybox")
    if not busybox:
        raise Unsupported("busybox", "none on PATH", "apt-get install busybox-static")
    folders = "dev bin modules proc sys lower upper root".split()
    entries = [(name, 0o40755, b"", 0) for name in folders]
    entries.append(("dev/console", 0o20600, b"", 5 << 8 | 1))
    entries.append(("bin/busybox", 0o100755, Path(busybox).read_bytes(), 0))
    entries.append(("init", 0o100755, INIT.encode(), 0))
    for number, module in enumerate(_in_order(of)):
        data = module.read_bytes()
        if module.suffix == ".xz":
            data = lzma.decompress(data)
        entries.append((f"modules/{number:02}.ko", 0o100644, data, 0))
    kernel.write_atomically(path, _cpio(entries))
    return path


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


def _cpio(entries: Iterable[tuple[str, int, bytes, int]]) -> bytes:
    """An archive in the newc format: name, mode, contents, device.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    out = bytearray()
    for number, (name, mode, data, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", 0)], 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, device >> 8, device & 255)
        out += b"070701" + b"".join(b"%08X" % field for field in (*fields, len(path), 0)) + path
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)
