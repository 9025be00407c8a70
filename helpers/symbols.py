"""Names for addresses: the functions of the kernel, and those of the files that a process runs.

BCC has such a table, too. In 0.26 it closes a file descriptor of chance when a process has no
/tmp/perf-PID.map, and a notebook may lose a pipe or a map by it: so this one reads ELF by itself.
"""

import errno
import functools
import mmap
import os
import struct
from bisect import bisect_right
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from helpers.errors import NotFound, PermissionNeeded
from helpers.maps import BpfMap

NOTHING = -errno.EFAULT  # the stack id of a side, user's or kernel's, that had no frame
KERNEL = " [k]"  # ends the name of a function of the kernel's

_SYMBOL = np.dtype("u4,u1,u1,u2,u8,u8")  # Elf64_Sym: name, info, other, section, value, size
_SYMTAB, _DYNSYM, _LOAD = 2, 11, 1  # SHT_SYMTAB, SHT_DYNSYM, PT_LOAD
_FUNCTIONS = (2, 10)  # STT_FUNC, STT_GNU_IFUNC
_LONGEST = 1 << 16  # bytes of a function of the kernel, whose table has no sizes


class Mapping(NamedTuple):
    """A part of a file in the memory of a process: a line of /proc/PID/maps."""

    start: int
    end: int
    offset: int
    file: str


class Symbols:
    """Names for the addresses of one process, and of the kernel below it.

    Make it while the process lives: its memory layout goes with it. Names come from the .symtab
    and .dynsym of its 64-bit ELF files, and the kernel's from /proc/kallsyms. A function that
    none of them lists is shown as its file.

    Cost: 2 ms a file, when its first name is asked for, and 0.3 s for the first of the kernel's.

    Raises:
        NotFound: there is no such process.
        PermissionNeeded: it is somebody else's.

    Source: proc(5), elf(5).
    """

    def __init__(self, pid: int) -> None:
        try:
            # A file's name may hold anything but a NUL and an end of line, which is written \\012.
            lines = os.fsdecode(Path(f"/proc/{pid}/maps").read_bytes()).rstrip("\n").split("\n")
        except PermissionError:
            raise PermissionNeeded(f"read the memory layout of process {pid}") from None
        except OSError:
            raise NotFound(f"There is no process {pid}.", errno.ESRCH) from None
        self.pid = pid
        self._mappings, self._files = list[Mapping](), dict[str, _File]()
        for line in lines:
            where, _, offset, _, _, *file = line.split(maxsplit=5)
            start, end = (int(one, 16) for one in where.split("-"))
            self._mappings.append(Mapping(start, end, int(offset, 16), "".join(file)))

    def user(self, address: int) -> str:
        """The function at this address of the process; ``[file]`` or ``[unknown]`` without."""
        place = bisect_right(self._mappings, address, key=lambda one: one.start) - 1
        if place < 0 or address >= self._mappings[place].end or not self._mappings[place].file:
            return "[unknown]"
        _, _, _, path = one = self._mappings[place]
        if path not in self._files:
            self._files[path] = _read(f"/proc/{self.pid}/root{path}") or _read(path) or _File()
        name = self._files[path].function(address - one.start + one.offset)
        return name or f"[{_readable(PurePath(path).name).strip('[]')}]"

    def kernel(self, address: int) -> str:
        """The function at this address of the kernel, with `` [k]`` after its name."""
        starts, names = _kernel()
        place = int(np.searchsorted(starts, np.uint64(address), "right")) - 1
        known = place >= 0 and address - int(starts[place]) < _LONGEST
        return (names[place] if known else "[unknown]") + KERNEL

    def stack(self, stacks: BpfMap, user: int = NOTHING, kernel: int = NOTHING) -> tuple[str, ...]:
        """The functions of a user stack and of the kernel stack above it, the outermost first.

        ``user`` and ``kernel`` are keys of the stack map ``stacks``, as bpf_get_stackid() gave
        them. For -EFAULT, there was no stack, and it adds nothing; another negative number is
        the error that cost the stack, and stands there by its name: ``[EEXIST]``.

        Raises:
            MissingKey: the map has no stack of that id, or no longer.
        """
        names = list[str]()
        for number, find in ((user, self.user), (kernel, self.kernel)):
            if number >= 0:
                names += [find(address) for address in addresses(stacks, number)][::-1]
            elif number != NOTHING:
                names.append(f"[{errno.errorcode.get(-number, number)}]")
        return tuple(names)


def addresses(stacks: BpfMap, number: int) -> list[int]:
    """The addresses of one stack, the innermost first, each inside the function that it is of.

    All but the first are where a call returns to, the byte after the call: that may be the first
    byte of the next function, so they are given less one.

    Raises:
        MissingKey: the map has no such stack.
    """
    # The value has no type in BTF: 8 bytes a frame, and zeros after the last.
    frames = [int(frame) for frame in np.frombuffer(stacks[number], np.uint64) if frame]
    return [frame - (place > 0) for place, frame in enumerate(frames)]


def _readable(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")


class _File:
    """The functions of one ELF file; none, until ``_read`` fills it."""

    def __init__(self) -> None:
        self.segments = list[tuple[int, int, int]]()  # offset in the file, bytes, address
        self.starts, self.ends = np.empty(0, np.uint64), np.empty(0, np.uint64)
        self.names = list[bytes]()

    def function(self, offset: int) -> str | None:
        """The function whose code lies at this offset of the file."""
        inside = [one for one in self.segments if one[0] <= offset < one[0] + one[1]]
        if not inside:
            return None
        where = np.uint64(offset - inside[0][0] + inside[0][2])
        last = int(np.searchsorted(self.starts, where, "right"))
        if not last:
            return None
        first = int(np.searchsorted(self.starts, self.starts[last - 1], "left"))
        names = [
            self.names[i].decode(errors="replace")
            for i in range(first, last)
            if where < self.ends[i]
        ]
        # One function may have several names, as puts() and _IO_puts(): the plainest, please.
        return min(names, key=lambda name: (name.startswith("_"), len(name)), default=None)


def _read(path: str) -> _File | None:
    """The functions of an ELF file; None where it is gone, or no such file."""
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if bytes(data[:6]) != b"\x7fELF\x02\x01":  # 64 bits, little-endian
            return None
        return _parse(data)
    except (OSError, ValueError, IndexError, struct.error):  # damaged, or cut short
        return None


def _parse(data: memoryview) -> _File:
    found, symbols, names = _File(), [np.empty(0, _SYMBOL)], list[bytes]()
    segments, sections, _, _, size, many, width, count = struct.unpack_from("<QQIHHHHH", data, 32)
    for at in range(segments, segments + size * many, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, at)
        if kind == _LOAD:
            found.segments.append((offset, length, address))
    heads = [
        struct.unpack_from("<IIQQQQI", data, sections + width * number) for number in range(count)
    ]
    for _, kind, _, _, offset, length, link in heads:
        if kind not in (_SYMTAB, _DYNSYM):
            continue
        table = np.frombuffer(data[offset : offset + length], _SYMBOL)
        table = table[np.isin(table["f1"] & 15, _FUNCTIONS) & (table["f3"] != 0)]
        strings = bytes(data[heads[link][4] : heads[link][4] + heads[link][5]])
        names += [strings[at : strings.index(b"\0", at)] for at in table["f0"].tolist()]
        symbols.append(table)
    every = np.concatenate(symbols)
    order = np.argsort(every["f4"], kind="stable")
    found.starts, found.ends = every["f4"][order], (every["f4"] + every["f5"])[order]
    found.names = [names[i] for i in order]
    return found


@functools.cache
def _kernel() -> tuple[np.ndarray, list[str]]:
    """The addresses of the kernel's functions, in order, and their names."""
    found = dict[int, str]()
    with open("/proc/kallsyms") as lines:
        for line in lines:
            address, kind, name, *_ = line.split()
            if kind in "tTwW" and int(address, 16):  # zeros: the kernel does not tell us
                found.setdefault(int(address, 16), name)
    return np.array(sorted(found), np.uint64), [found[address] for address in sorted(found)]
