"""Names for addresses: the functions of the kernel, and those of the files that a process runs."""

import errno
import functools
import os
import weakref
from pathlib import PurePath
from typing import Any

import numpy as np

from helpers import kernel
from helpers.errors import NotFound, PermissionNeeded
from helpers.maps import BpfMap

NOTHING = -errno.EFAULT  # the stack id of a side, user's or kernel's, that had no frame
KERNEL = " [k]"  # ends the name of a function of the kernel's


class Symbols:
    """Names for the addresses of one process, and of the kernel below it.

    Make it while the process lives, and ask while it lives: names come from the files that
    /proc/PID/maps lists, from their .symtab or .dynsym or from separate debug files, and the
    kernel's from /proc/kallsyms. A function that none of them lists is shown as its file.

    Cost: 5 ms, and 0.2 s for the first of the kernel's names; then microseconds.

    Raises:
        NotFound: there is no such process.
        PermissionNeeded: it is somebody else's.

    Source: proc(5); BCC's bcc_syms.h, which reads the files.
    """

    def __init__(self, pid: int) -> None:
        try:
            os.close(os.open(f"/proc/{pid}/maps", os.O_RDONLY))
        except PermissionError:
            raise PermissionNeeded(f"read the memory layout of process {pid}") from None
        except OSError:
            raise NotFound(f"There is no process {pid}.", errno.ESRCH) from None
        self.pid, self._cache = pid, _cache(pid)
        weakref.finalize(self, kernel.import_bcc().lib.bcc_free_symcache, self._cache.cache, pid)

    def user(self, address: int) -> str:
        """The function at this address of the process; ``[file]`` or ``[unknown]`` without."""
        return _name(self._cache, address)

    def kernel(self, address: int) -> str:
        """The function at this address of the kernel, with `` [k]`` after its name."""
        return _name(_kernel(), address) + KERNEL

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


def _cache(pid: int) -> Any:
    # BCC's own: it knows separate debug files, the vDSO, and programs at addresses of chance.
    return kernel.import_bcc().SymbolCache(pid)


@functools.cache
def _kernel() -> Any:
    return _cache(-1)


def _name(cache: Any, address: int) -> str:
    name, _, file = cache.resolve(address, True)
    if name and name != b"[unknown]":
        return str(name.decode(errors="replace"))
    return f"[{PurePath(os.fsdecode(file)).name if file else 'unknown'}]"
