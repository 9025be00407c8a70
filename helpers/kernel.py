"""What this kernel and this toolchain can do, found by trying, never by version number."""

import atexit
import contextlib
import ctypes
import errno
import functools
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from helpers.diagnostics import as_html, printable
from helpers.errors import (
    BpfError,
    NotFound,
    PermissionNeeded,
    Unsupported,
    check_exhausted,
    describe,
)
from helpers.libbpf import MapCreateOpts, MapInfo, ProgInfo, lib

ROOT = Path(__file__).resolve().parent.parent
BPFFS = Path("/sys/fs/bpf")
OURS = BPFFS / "bpf_maps_measured"  # what the course pins is below this, and nowhere else


def _started(pid: int | str) -> str:
    """When that process began, in ticks since the boot; empty when it is gone. proc(5)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return fields[18] if state not in "ZX" else ""


# A folder for each notebook, named by its process and when that began, since numbers come again.
# Processes that the notebook starts share it: they find the name in their environment.
OWNER = "BPF_COURSE_OWNER"
PINS = OURS / os.environ.setdefault(OWNER, f"{os.getpid()}_{_started(os.getpid())}")

# enum bpf_map_type of <linux/bpf.h>, in its order
MAP_TYPES = (
    "unspec hash array prog_array perf_event_array percpu_hash percpu_array stack_trace "
    "cgroup_array lru_hash lru_percpu_hash lpm_trie array_of_maps hash_of_maps devmap sockmap "
    "cpumap xskmap sockhash cgroup_storage reuseport_sockarray percpu_cgroup_storage queue stack "
    "sk_storage devmap_hash struct_ops ringbuf inode_storage task_storage bloom_filter "
    "user_ringbuf cgrp_storage arena insn_array"
).split()


def cache_dir(*parts: str) -> Path:
    """A folder of ours below the user's cache, made private (0700) and checked to be ours.

    Raises:
        PermissionNeeded: it is somebody else's, a symbolic link, or others may write into it.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home) / "bpf-maps-measured"
    for part in ("", *parts):
        path = path / part if part else path
        if not os.path.lexists(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_ours(path, "Remove it, or set XDG_CACHE_HOME to a folder of your own.")
    return path


def _check_ours(path: Path, remedy: str, *owners: int) -> None:
    """Who else could put something into a folder of ours, or lead us elsewhere by it?"""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), *owners):
        raise PermissionNeeded(f"use the folder {path}, which is not yours", remedy)
    if found.st_mode & 0o022:
        raise PermissionNeeded(f"use the folder {path}, into which others may write", remedy)


def no_bpf() -> Unsupported:
    """The error for a kernel, or a container, without the system call itself."""
    return Unsupported(
        "a kernel with bpf(2)",
        f"Linux {platform.release()}, which answers {describe(errno.ENOSYS)}",
        "Use a kernel built with CONFIG_BPF_SYSCALL, outside of containers that forbid the call.",
    )


def cpus() -> int:
    """How many CPUs this kernel could ever have: per-CPU maps hold one value for each."""
    return lib().libbpf_num_possible_cpus()


def online_cpus() -> list[int]:
    """The CPUs that run now, by number. Source: /sys/devices/system/cpu/online."""
    found = list[int]()
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def map_type(number: int) -> str:
    """The name of a map type; "type_99" of one that the course does not know."""
    return MAP_TYPES[number] if 0 <= number < len(MAP_TYPES) else f"type_{number}"


def has_map_type(name: str) -> bool:
    """Does this kernel make maps of this type? Tried with a small map of that type.

    Raises:
        NotFound: the course knows no type of that name.
    """
    if name not in MAP_TYPES:
        raise NotFound(f"There is no map type {name!r}.\nThere are: {', '.join(MAP_TYPES[1:])}.")
    number = MAP_TYPES.index(name)
    answer: int = lib().libbpf_probe_bpf_map_type(number, None)
    # A libbpf older than the type says neither yes nor no (libbpf 1.1 ends at cgrp_storage).
    return answer == 1 if answer >= 0 or name not in _YOUNG else _makes(number, *_YOUNG[name])


_YOUNG = {"arena": (0, 0, 1 << 10), "insn_array": (4, 16, 0)}  # key size, value size, map flags


def _makes(number: int, key_size: int, value_size: int, flags: int) -> bool:
    opts = MapCreateOpts(ctypes.sizeof(MapCreateOpts), map_flags=flags)
    fd = lib().bpf_map_create(number, b"", key_size, value_size, 1, ctypes.byref(opts))
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


class MapType(NamedTuple):
    """A type of map: what it is by the documentation, and whether this kernel makes it.

    ``here`` was tried; it is None for a type that the kernel names and the course does not know.
    ``missing`` means: a kernel of this version should have it, and this one refuses.
    """

    name: str
    key: str
    value: str
    use: str
    since: str
    commit: str
    here: bool | None
    missing: bool


# Key | value | use | since | commit, for each of MAP_TYPES but the first. Versions and commits:
# docs/kernel-versions.md of BCC, and docs.ebpf.io.
_ABOUT = """
hash | any fixed size | any fixed size | look up by anything: connections, processes | 3.19 | 0f8e4bd8a1fc
array | index | any fixed size | counters and settings under small numbers | 3.19 | 28fbcfa08d8e
prog_array | index | program | tail calls: jump into another program | 4.2 | 04fd61ab36ec
perf_event_array | CPU | perf buffer | stream events, a buffer for each CPU | 4.3 | ea317b267e9d
percpu_hash | any fixed size | one for each CPU | count under any key without sharing | 4.6 | 824bd0ce6c7c
percpu_array | index | one for each CPU | count under small numbers without sharing | 4.6 | a10423b87a7e
stack_trace | stack id | return addresses | profiles: which code was running | 4.6 | d5a3b1f69186
cgroup_array | index | cgroup | ask whether a task is in a cgroup | 4.8 | 4ed8ec521ed5
lru_hash | any fixed size | any fixed size | a cache that evicts when it is full | 4.10 | 29ba732acbee
lru_percpu_hash | any fixed size | one for each CPU | such a cache, without sharing | 4.10 | 8f8449384ec3
lpm_trie | prefix and bits | any fixed size | longest match of an address, as routers do | 4.11 | b95a5c4db09b
array_of_maps | index | map | swap a whole map in one step | 4.12 | 56f668dfe00d
hash_of_maps | any fixed size | map | a map for each customer, say | 4.12 | bcc6b1b7ebf8
devmap | index | network interface | send packets out of another interface | 4.14 | 546ac1ffb70d
sockmap | index | socket | hand bytes from socket to socket | 4.14 | 174a79ff9515
cpumap | CPU | queue length | have another CPU take a packet | 4.15 | 6710e1126934
xskmap | index | AF_XDP socket | hand packets to user space | 4.18 | fbfc504a24f5
sockhash | any fixed size | socket | the same as sockmap, by any key | 4.18 | 81110384441a
cgroup_storage | cgroup | any fixed size | data of a cgroup; cgrp_storage replaces it | 4.19 | de9cbbaadba5
reuseport_sockarray | index | socket | choose which of many listeners gets a client | 4.19 | 5dc4c4b7d4e8
percpu_cgroup_storage | cgroup | one for each CPU | the same, without sharing | 4.20 | b741f1630346
queue | none | any fixed size | first in, first out | 4.20 | f1a2e44a3aec
stack | none | any fixed size | last in, first out | 4.20 | f1a2e44a3aec
sk_storage | socket | any fixed size | data that goes when its socket goes | 5.2 | 6ac99e8f23d4
devmap_hash | any number | network interface | devmap for numbers far apart | 5.4 | 6f9d451ab1a3
struct_ops | 0 | struct of functions | parts of the kernel as programs | 5.6 | 85d33df357b6
ringbuf | none | records of any length | stream events, one buffer for all CPUs | 5.8 | 457f44363a88
inode_storage | file | any fixed size | data that goes when its file goes | 5.10 | 8ea636848aca
task_storage | task | any fixed size | data that goes when its task ends | 5.11 | 4cf1bc1f1045
bloom_filter | none | any fixed size | surely not seen before, or maybe | 5.16 | 9330986c0300
user_ringbuf | none | records of any length | stream from user space to a program | 6.1 | 583c1f420173
cgrp_storage | cgroup | any fixed size | data that goes when its cgroup goes | 6.2 | c4bcfb38a95e
arena | none | pages | memory shared with user space, pointers and all | 6.9 | 317460317a02
insn_array | index | place in a program | jump tables | 6.19 | b4ce5923e780
"""  # noqa: E501


def map_types() -> list[MapType]:
    """Every type of map that the course or this kernel knows, and whether this kernel makes it.

    The list goes into ``pandas.DataFrame`` as it is. Support is tried, not looked up.

    Cost: under 10 ms; once 0.5 s, to write down what the kernel calls its types.

    Source: docs/kernel-versions.md of iovisor/bcc; docs.ebpf.io/linux/map-type.
    """
    found = []
    for line in _ABOUT.strip().splitlines():
        name, key, value, use, since, commit = line.split(" | ")
        here = has_map_type(name)
        found.append(MapType(name, key, value, use, since, commit, here, _has(since) and not here))
    enum = re.search(r"enum bpf_map_type \{(.*?)\}", _vmlinux_text(), re.DOTALL)
    for name, number in re.findall(r"\bBPF_MAP_TYPE_(\w+) = (\d+)", enum[1] if enum else ""):
        if int(number) >= len(MAP_TYPES):
            found.append(MapType(name.lower(), "", "", "", "", "", None, False))
    return found


def _vmlinux_text() -> str:
    try:
        return (vmlinux_header() / "vmlinux.h").read_text()
    except Unsupported:  # no BTF: then the kernel names nothing
        return ""


def _has(since: str) -> bool:
    """Is the running kernel of that version or later?"""
    return version_here() >= _two_numbers(since)


def version_here() -> tuple[int, ...]:
    """The first two numbers of the running kernel: (6, 1) of 6.1.0-28-amd64.

    To check what documentation says of a version; to know what a kernel can do, try it.
    """
    return _two_numbers(platform.release())


def _two_numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])


@functools.cache
def has_kprobes() -> bool:
    """Can programs be attached to kernel functions here? (Either perf's door or tracefs's.)"""
    doors = ("/sys/bus/event_source/devices/kprobe/type", "/sys/kernel/tracing/kprobe_events")
    return any(os.path.exists(door) for door in doors)


@functools.cache
def has_atomic_fetch() -> bool:
    """Do atomic operations return the old value here? Tried with a program of five instructions."""
    add_one_and_fetch = (
        "b701 0000 01000000"  # r1 = 1
        "7b1a f8ff 00000000"  # *(u64 *)(r10 - 8) = r1
        "db1a f8ff 01000000"  # r1 = atomic_fetch_add((u64 *)(r10 - 8), r1)
        "b700 0000 00000000"  # r0 = 0
        "9500 0000 00000000"  # exit
    )
    socket_filter = 1  # BPF_PROG_TYPE_SOCKET_FILTER, linux/bpf.h
    fd = lib().bpf_prog_load(
        socket_filter, b"fetch", b"Dual MIT/GPL", bytes.fromhex(add_one_and_fetch), 5, None
    )
    if fd >= 0:
        os.close(fd)
    return bool(fd >= 0)


def has_own_cpu() -> bool:
    """Is the processor a real one? An emulated one has other costs (QEMU says what it is)."""
    return "QEMU TCG" not in Path("/proc/cpuinfo").read_text()


def patience(seconds: int) -> int:
    """A limit in seconds; an emulated processor gets six times as many."""
    return seconds if has_own_cpu() else 6 * seconds


class Feature(NamedTuple):
    """What a cell may need: in words, the Linux that brings it, and whether it is here."""

    words: str
    since: str  # empty for what is no matter of the version
    here: Callable[[], bool]


# A cell says what it needs by a tag, needs-kprobe; a whole notebook in its metadata.
FEATURES = {
    "kprobe": Feature("kprobes (CONFIG_KPROBES)", "4.1", has_kprobes),
    "atomic-fetch": Feature("atomic additions that return the old value", "5.12", has_atomic_fetch),
    "own-cpu": Feature("a processor that is not emulated", "", has_own_cpu),
}


def missing() -> list[str]:
    """Those of ``FEATURES`` that are not here."""
    return [name for name, feature in FEATURES.items() if not feature.here()]


def needs(name: str) -> bool:
    """Is the feature here? If not, print what a cell would need, and how to get it."""
    if name not in FEATURES:
        raise NotFound(f"The course knows no feature {name!r}. It knows: {', '.join(FEATURES)}.")
    here = FEATURES[name].here()
    if not here:
        print(
            f"This cell needs {FEATURES[name].words}, and there is no such thing here.\n"
            "Choose another Linux in the kernel picker; ./course kernels add 6.1  brings one."
        )
    return here


@functools.cache
def clang() -> str:
    """The path of a clang that compiles for BPF.

    Raises:
        Unsupported: there is none.
    """
    path = shutil.which("clang")
    if path is None:
        raise Unsupported("clang", "no clang on PATH", "Install it with: ./course install")
    return path


@functools.cache
def bpftool() -> str:
    """The path of a bpftool that runs. Ubuntu's own is a wrapper that wants its exact kernel.

    Raises:
        Unsupported: there is none.
    """
    tools = [*Path("/usr/lib").glob("linux-tools*/**/bpftool")]
    for path in [shutil.which("bpftool", path=f"{os.environ['PATH']}:/usr/sbin:/sbin"), *tools]:
        if path and subprocess.run([path, "version"], capture_output=True).returncode == 0:
            return str(path)
    raise Unsupported("bpftool", "none that runs", "Install it with: ./course install")


def vmlinux_btf() -> Path:
    """Where the kernel describes its own types.

    Raises:
        Unsupported: it was built without CONFIG_DEBUG_INFO_BTF.
    """
    path = Path("/sys/kernel/btf/vmlinux")
    if not path.exists():
        raise Unsupported(
            "a kernel that describes its types (CONFIG_DEBUG_INFO_BTF)",
            f"Linux {platform.release()} without {path}",
            "Debian 12 and 13 and Ubuntu 24.04 have it: use one of their kernels.",
        )
    return path


def vmlinux_header() -> Path:
    """The folder of a ``vmlinux.h`` for the running kernel, written once and kept."""
    import hashlib

    raw = vmlinux_btf().read_bytes()
    folder = cache_dir("vmlinux", hashlib.sha256(raw).hexdigest()[:16])
    if not (folder / "vmlinux.h").exists():
        command = [bpftool(), "btf", "dump", "file", str(vmlinux_btf()), "format", "c"]
        text = subprocess.run(command, check=True, capture_output=True).stdout
        write_atomically(folder / "vmlinux.h", text)
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that nobody ever sees half-written."""
    import tempfile

    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.replace(file.name, path)
        except BaseException as error:
            os.unlink(file.name)
            if isinstance(error, OSError):
                error.filename = str(path)  # write(2) does not say
            raise


def find_headers() -> Path | None:
    """The kernel headers that BCC will use; None when there are none.

    They are the running kernel's own, or the merged tree that ``./course install`` made from the
    distribution's newest for a kernel that has no package of its own.
    """
    own = Path(f"/lib/modules/{platform.release()}/build")
    named = Path(os.environ.get("BCC_KERNEL_SOURCE") or "/nonexistent")
    made = cache_dir("headers") / "current"
    return next((path.resolve() for path in (own, named, made) if path.is_dir()), None)


def headers_for_bcc() -> Path:
    """Make BCC find kernel headers, and say which.

    Raises:
        Unsupported: there are none.
    """
    path = find_headers()
    if path is None:
        raise Unsupported(
            "kernel headers, which BCC compiles against",
            f"none for Linux {platform.release()}",
            "Install them with: ./course install",
        )
    if not Path(f"/lib/modules/{platform.release()}/build").is_dir():
        os.environ["BCC_KERNEL_SOURCE"] = str(path)
    return path


def ids(kind: str) -> Iterator[int]:
    """The ids of all programs, maps or links (``prog``, ``map``, ``link``) in this kernel."""
    step = getattr(lib(), f"bpf_{kind}_get_next_id")
    found = ctypes.c_uint32()
    while step(found, ctypes.byref(found)) == 0:
        yield found.value


def objects(kind: str) -> dict[int, str]:
    """All programs or maps (``prog`` or ``map``) in this kernel: their names by id.

    Raises:
        PermissionNeeded: not allowed to look at other people's.
    """
    get = getattr(lib(), f"bpf_{kind}_get_fd_by_id")
    found = {}
    for number in ids(kind):
        fd = get(number)
        if fd == -errno.ENOENT:  # it went away while we looked
            continue
        check_exhausted(f"look at {kind} {number}", -fd)
        if fd < 0:
            raise PermissionNeeded(f"look at {kind} {number}")
        info = (ProgInfo if kind == "prog" else MapInfo)()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
        os.close(fd)
        found[number] = info.name.decode(errors="replace")
    return found


def _mounts() -> list[list[str]]:
    """The lines of /proc/mounts; what somebody mounted may be called anything."""
    lines = os.fsdecode(Path("/proc/mounts").read_bytes()).rstrip("\n").split("\n")
    return [line.split(" ") for line in lines]


def make_pins(path: Path) -> None:
    """See that ``path`` lies in a BPF file system; make our own folder there, if it is in that.

    Raises:
        Unsupported: no BPF file system is mounted there.
        BpfError: a folder of ours cannot be made, since a pin has its name, say.
        PermissionNeeded: not allowed to.
    """
    mounts = _mounts()
    above = [
        (len(where), i) for i, (_, where, *_) in enumerate(mounts) if Path(where) in path.parents
    ]
    if mounts[max(above)[1]][2] != "bpf":  # the nearest, and of two there the later
        raise Unsupported(
            "a path in a BPF file system",
            f"{path}, which is in none",
            f"Pin below {BPFFS}; if it is not mounted there, ./course install mounts it.",
        )
    if PINS not in path.parents:
        return None
    _check_pins()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileNotFoundError:  # another notebook removed the empty folder of all in that moment
        return make_pins(path)
    except PermissionError:
        raise PermissionNeeded(f"make the folder {path.parent}") from None
    except OSError as error:
        number = error.errno or 0
        raise BpfError(
            f"The folder {path.parent} cannot be made (errno {describe(number)}).\n"
            "A pin may have its name already: choose another.",
            number,
        ) from None


def _check_pins() -> None:
    """Anybody may make files in bpffs, so our folder may have been made by somebody else.

    Raises:
        PermissionNeeded: it was.
    """
    if os.path.lexists(OURS):  # and so nobody else makes what is below it
        # A learner's process, in a check, is nobody's, and pins where root lets it.
        _check_ours(OURS, f"Look who made it, then remove it: ls -ld {OURS}", 0)


def drop_pins() -> None:
    """Remove our own folder below bpffs, and those in it, when nothing is pinned there any more."""
    _check_pins()
    _drop([*sorted(PINS.rglob("*"), reverse=True), PINS, OURS])


def _drop(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # not empty, gone, or no folder but a pin
            folder.rmdir()


def sweep(*, everybody: bool = False, dry_run: bool = False) -> list[str]:
    """Remove what killed notebooks left in this kernel, and say what it was.

    Programs, maps, links and network namespaces of ours live by file descriptors alone, and die
    with their process. Only pins outlive it. Those of a process that lives, whoever's it is, stay,
    unless ``everybody`` is meant. With ``dry_run``, nothing is removed.

    Raises:
        PermissionNeeded: a pin is another user's, or our folder is, and may lead anywhere.
    """
    _check_pins()
    kept = [] if everybody else owned()
    left = [path for path in sorted(OURS.rglob("*"), reverse=True) if not _below(path, kept)]
    if OURS.is_dir() and not kept:
        left.append(OURS)
    for path in [] if dry_run else left:
        try:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
        except PermissionError:
            raise PermissionNeeded(f"remove {path}") from None
    return [str(path) for path in left]


def owned() -> list[Path]:
    """The folders of pins whose notebook, or other process, is alive."""
    return [path for path in OURS.glob("*_*") if _lives(*path.name.split("_", 1))]


def _lives(pid: str, began: str) -> bool:
    return began != "" and _started(pid) == began


def _below(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


# --- doctor ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """One thing that the course needs: is it there, what was found, what to do if not."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    required: bool = True


class Report:
    """What ``doctor()`` found. ``ok`` when everything required is there."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings

    @property
    def ok(self) -> bool:
        return all(f.ok for f in self.findings if f.required)

    def as_dict(self) -> dict[str, object]:
        return {"ok": self.ok, "findings": [asdict(f) for f in self.findings]}

    def as_json(self) -> str:
        return json.dumps(self.as_dict(), indent=2)

    def __repr__(self) -> str:
        lines = []
        for f in self.findings:
            lines.append(f"{_mark(f):8}{f.what:20} {f.found}")
            if not f.ok and f.remedy:
                lines.append(f"{'':28} {f.remedy}")
        lines.append(self._verdict())
        return printable("\n".join(lines))

    def _repr_html_(self) -> str:
        rows = ""
        for f in self.findings:
            found = as_html(f.found if f.ok else f"{f.found}. {f.remedy}")
            rows += "<tr>"
            for text in (_mark(f), as_html(f.what), found):
                rows += f"<td style='text-align: left'>{text}</td>"
            rows += "</tr>"
        return f"<table>{rows}</table><p><b>{as_html(self._verdict())}</b></p>"

    def _verdict(self) -> str:
        if self.ok:
            return "Everything that the course needs is here."
        missing = ", ".join(f.what for f in self.findings if f.required and not f.ok)
        return f"Not ready: {missing}."


def _mark(finding: Finding) -> str:
    return "yes" if finding.ok else "MISSING" if finding.required else "no"


def doctor() -> Report:
    """Try everything that the course needs on this machine, for real: it takes about a second."""
    install = "Run: ./course install"
    checks: list[tuple[str, Callable[[], str], str, bool]] = [
        ("kernel", lambda: f"Linux {platform.release()}, {platform.machine()}", "", True),
        ("rights", _rights, "Start with ./course lab: it asks for the rights BPF needs.", True),
        ("BPF maps", _try_map, "Use a kernel built with CONFIG_BPF_SYSCALL.", True),
        ("BTF", lambda: str(vmlinux_btf()), "", True),
        ("bpffs", lambda: _mounted(BPFFS, "bpf"), install, True),
        ("tracefs", lambda: _mounted(Path("/sys/kernel/tracing"), "tracefs"), install, True),
        ("network namespaces", _try_namespace, "Use a kernel built with CONFIG_NET_NS.", True),
        ("libbpf", lambda: lib().libbpf_version_string().decode(), install, True),
        ("clang", _try_clang, install, True),
        ("bpftool", lambda: _first_line([bpftool(), "version"]), install, True),
        ("kernel headers", lambda: headers_for_bcc().name, install, True),
        ("BCC", _try_bcc, install, True),
        ("CPUs", _two_cpus, "Give the machine a second CPU: chapters on races need two.", True),
        ("kprobes", _kprobes, "Cells that need them say so.", False),
        ("process numbers", _numbers, "Use no container, or one with --pid=host.", False),
    ]
    findings = []
    for what, check, remedy, required in checks:
        try:
            findings.append(Finding(what, True, check(), required=required))
        except (Unsupported, PermissionNeeded) as error:
            have = error.have if isinstance(error, Unsupported) else error.message.split("\n")[0]
            findings.append(Finding(what, False, have, error.remedy or remedy, required))
        except (OSError, subprocess.CalledProcessError, ImportError) as error:
            findings.append(Finding(what, False, str(error), remedy, required))
    return Report(findings)


def _first_line(command: list[str]) -> str:
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text.splitlines()[0]


def _rights() -> str:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if "CapEff" in s)
    have = int(line.split()[1], 16)
    need = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
    missing = [name for name, bit in need.items() if not have >> bit & 1]
    if missing:
        raise PermissionNeeded("use BPF", f"Missing: {', '.join(missing)}. Use ./course lab.")
    return "root" if os.geteuid() == 0 else "enough capabilities"


def _try_map() -> str:
    fd = lib().bpf_map_create(MAP_TYPES.index("hash"), b"doctor", 4, 8, 1, None)
    if fd == -errno.EPERM:
        raise PermissionNeeded("make a map")
    if fd == -errno.ENOSYS:
        raise no_bpf()
    if fd < 0:
        raise BpfError(f"no map could be made: {describe(-fd)}", -fd)
    try:
        key, value = bytes(4), (ctypes.c_uint64 * 1)()
        lib().bpf_map_update_elem(fd, key, (42).to_bytes(8, "little"), 0)
        if lib().bpf_map_lookup_elem(fd, key, value) or value[0] != 42:
            raise BpfError("a map did not give back what was put in")
    finally:
        os.close(fd)
    return "made one, wrote 42, read 42"


def _mounted(path: Path, kind: str) -> str:
    if [what for _, where, what, *_ in _mounts() if where == str(path)][-1:] != [kind]:
        raise BpfError(f"{path} is not mounted")  # or something else over it
    return str(path)


def _try_namespace() -> str:
    failed: list[int] = []

    def leave() -> None:  # a thread of its own: its namespace goes when it ends
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
            failed.append(ctypes.get_errno())

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    if failed == [errno.EPERM]:
        raise PermissionNeeded("make a network namespace")
    if failed:
        raise BpfError(f"none could be made: {describe(failed[0])}", failed[0])
    return "made one, left it"


def _try_clang() -> str:
    command = [clang(), "-target", "bpf", "-x", "c", "-", "-c", "-o", "/dev/null"]
    subprocess.run(command, input=b"int x;", check=True, capture_output=True)
    return _first_line([clang(), "--version"])


def import_bcc() -> Any:
    """BCC's Python module, with headers found for it.

    Raises:
        Unsupported: it is not installed, or PyPI's package of the same name is in the way.
    """
    remedy = "Install the distribution's python3-bpfcc with: ./course install"
    try:
        import bcc
    except ImportError as error:
        raise Unsupported("BCC's Python module", str(error), remedy) from None
    if not hasattr(bcc, "BPF"):
        raise Unsupported("BCC's Python module", f"another project's, {bcc.__file__}", remedy)
    headers_for_bcc()
    return bcc


def free_bcc(module: Any) -> None:
    """Give back what BCC's own cleanup keeps until the process ends: maps and memory."""
    module.cleanup()
    atexit.unregister(module.cleanup)
    import_bcc().lib.bpf_module_destroy(module.module)
    module.module = None


def _try_bcc() -> str:
    bcc = import_bcc()
    try:
        module = bcc.BPF(text=b"BPF_HASH(doctor);", cflags=["-w"])
    except Exception as error:  # BCC raises nothing finer
        raise BpfError(f"{bcc.__version__} compiles no map here: {error}") from None
    try:
        table = module[b"doctor"]
        table[table.Key(1)] = table.Leaf(42)
        if table[table.Key(1)].value != 42:
            raise BpfError("a BCC map did not give back what was put in")
    finally:
        free_bcc(module)
    return f"{bcc.__version__}: compiled a map, wrote 42, read 42"


def _two_cpus() -> str:
    if len(online_cpus()) < 2:
        raise BpfError(f"{len(online_cpus())} online of {cpus()} possible")
    return f"{len(online_cpus())} online of {cpus()} possible"


def _numbers() -> str:
    """Programs are told a process's number in the first PID namespace, Python that in its own."""
    if os.stat("/proc/self/ns/pid").st_ino != 0xEFFFFFFC:  # PROC_PID_INIT_INO, <linux/proc_ns.h>
        raise BpfError("here Python sees others than programs do: those that watch you see nobody")
    return "the same for programs and for Python"


def _kprobes() -> str:
    if not has_kprobes():
        raise BpfError("this kernel has none")
    return "this kernel has them"
