"""A machine that has booted, saved to a file: guests begin with it instead of booting.

Emulated, a boot and the imports of a notebook take a multiple of what it takes to read the memory
of a machine that has all of that behind it. QEMU saves no machine that has a shared folder mounted
(hw/9pfs/9p.c). So a copy of the few files that Python needs for its imports goes into the
initramfs, and the folders are mounted by the guest that wakes up (``inside.py``).

The file is for one kernel, checkout, .venv, Python and QEMU; when one of them changes, it is made
anew by the next guest. With KVM a boot is fast, and nothing is saved.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

from helpers import kernel
from helpers.errors import BpfError
from helpers.vm import inside, machine
from helpers.vm.fetch import Kernel
from helpers.vm.machine import Entry

SECONDS = 180  # that it may take to boot, import and save


def of(of: Kernel, accelerator: str, memory: int) -> BinaryIO | None:
    """The file to begin with, made if need be; None when the guest is to boot.

    It is open, since others may remove it at any time: QEMU waits for ever when there is nothing to
    begin with.
    """
    if accelerator != "tcg" or memory != machine.MEMORY:
        return None
    path = _path(of)
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    with (of.folder / "state.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not path.exists() and not why_not(of):
            _make(of, path)
        return path.open("rb") if path.exists() else None


def why_not(of: Kernel) -> str:
    """Why that kernel boots each time, in words; empty when it does not, or was not tried yet."""
    path = _failed(of)
    return path.read_text() if path.exists() else ""


def line() -> bytes:
    """What wakes a saved machine, on its second serial line; random bytes that no other has.

    The first few may come while nobody listens.
    """
    return b"    " + secrets.token_hex(32).encode() + b"\n"


def _path(of: Kernel) -> Path:
    """Where the file is, or will be, for all that it depends on as it is now."""
    depends = [machine.INIT, machine.CMDLINE, machine.PROCESSOR, machine.MEMORY, machine.CPUS]
    depends += [Path(inside.__file__).read_text(), of.release]
    stamp = Path(sys.prefix, ".course-stamp")  # none where ./course did not make the .venv
    for path in (Path(machine.qemu()), Path(sys.executable).resolve(), stamp):
        depends += [path, path.stat().st_mtime_ns if path.exists() else 0]
    ours = hashlib.sha256(os.fsencode(kernel.ROOT)).hexdigest()[:8]  # checkouts share the cache
    return of.folder / f"state-{ours}-{hashlib.sha256(repr(depends).encode()).hexdigest()[:8]}"


def _failed(of: Kernel) -> Path:
    """Where it says why there is no state: until this machine's next boot.

    A disk has room again, and a machine that was too busy is not so for ever; one that is always
    too slow tries it for ``SECONDS`` once a boot, and not for each guest.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return _path(of).with_suffix(f".{boot}.failed")


def _make(of: Kernel, path: Path) -> None:
    # Nothing that goes wrong here (no room on the disk, say) keeps a guest from booting.
    try:
        for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*"):
            old.unlink(missing_ok=True)
        folder = kernel.cache_dir("vm", "guests") / f"{os.getpid()}-state-{of.name}"
        try:
            folder.mkdir(mode=0o700)
            _save(of, folder, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # first, as the words below need room, too
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        with contextlib.suppress(OSError):
            _failed(of).write_text(str(error))  # ./course kernels shows it


def _save(of: Kernel, folder: Path, path: Path) -> None:
    """Boot to where ``inside`` waits, and save the machine to a file."""
    archive, console = folder / "initramfs", folder / "console"
    archive.write_bytes(machine.initramfs(of, _files()))
    (folder / "wake").touch()
    line = machine.whole(of, "tcg", machine.MEMORY, folder, initramfs=archive)
    line += ["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
    deadline = time.monotonic() + SECONDS
    kept = machine.keep(folder, line)
    try:
        while not console.exists() or inside.WAITS.encode() not in console.read_bytes():
            if kept.poll() is not None or time.monotonic() > deadline:
                said = [file for file in (folder / "qemu.log", console) if file.exists()]
                text = "".join(file.read_text(errors="replace") for file in said)
                raise BpfError(f"it did not get there:\n{text[-2000:]}")
            time.sleep(0.05)
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(f"{folder}/qmp")
            _migrate(control, folder / "state", path, deadline)
    finally:
        machine.end(kept)


def _migrate(control: socket.socket, half: Path, path: Path, deadline: float) -> None:
    """Have QEMU write all that the machine is to a file. Source: QEMU's QMP reference."""
    talk = control.makefile("rw")
    talk.readline()  # its greeting

    def say(command: str, **arguments: object) -> dict[str, str]:
        talk.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        talk.flush()
        while True:
            answer = json.loads(talk.readline())
            if "error" in answer:
                raise BpfError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                found: dict[str, str] = answer["return"]
                return found

    say("qmp_capabilities")
    say("migrate-set-parameters", **{"max-bandwidth": 8 << 30})
    into, whole = (shlex.quote(str(name)) for name in (half, path))
    say("migrate", uri=f"exec:zstd -q -1 -T0 >{into} && mv {into} {whole}")
    while (status := say("query-migrate")["status"]) != "completed" or not path.exists():
        if status in ("failed", "cancelled") or time.monotonic() > deadline:
            raise BpfError(f"QEMU does not save the machine: {status}")
        time.sleep(0.05)


def _files() -> list[Entry]:
    """The files that Python needs for its imports, below ``lower``, with the links to them."""
    listed = subprocess.run(
        [sys.executable, inside.__file__, "files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = [inside.__file__, sys.executable, str(Path(sys.prefix, "pyvenv.cfg")), *listed]
    wanted += [str(path) for path in Path(sys.prefix).glob("lib/python3*/site-packages/*.pth")]
    wanted += ["/etc/ld.so.cache", "/lib64/ld-linux-x86-64.so.2"]
    entries = dict[str, Entry]()
    for path in wanted:
        _add(path, entries)
    # The linker looks for libraries by the names of links, which the list of what is mapped lacks.
    for folder in {os.path.dirname(os.path.realpath(p)) for p in listed if ".so" in p}:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.path.realpath(path)[1:] in {e[6:] for e in entries}:
                _add(path, entries)
    devices = [("null", 1 << 8 | 3), ("urandom", 1 << 8 | 9)]
    entries |= {"lower/dev": Entry("lower/dev", 0o40755)}
    return [
        *sorted(entries.values()),
        *(Entry(f"lower/dev/{name}", 0o20666, device=number) for name, number in devices),
    ]


def _add(path: str, entries: dict[str, Entry]) -> None:
    """Add a file, with the folders above it, and whatever it is a link to."""
    parts = Path(path).parts[1:]
    for number in range(1, len(parts) + 1):
        here = "/" + "/".join(parts[:number])
        if (name := f"lower{here}") in entries and not os.path.islink(here):
            continue
        found = os.lstat(here)
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(here)
            entries[name] = Entry(name, found.st_mode, target.encode())
            rest = os.path.join(os.path.dirname(here), target, *parts[number:])
            return _add(os.path.normpath(rest), entries)
        data = b"" if stat.S_ISDIR(found.st_mode) else Path(here).read_bytes()
        mode = found.st_mode & ~0o6000
        entries[name] = Entry(name, mode, data, written=int(found.st_mtime))
    return None
