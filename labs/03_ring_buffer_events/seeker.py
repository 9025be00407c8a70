"""What the check of lab 03 traces: a process that seeks as it is told, in lines of JSON.

    {"seeks": [[fd, offset], …], "name": …}     by the main thread, under that name
    {"threads": [{"cpu", "fd", "first", "step", "count", "name"}, …]}    by new ones, all at once

It answers with the ids of the threads, and ends with its standard input.
"""

import ctypes
import json
import os
import sys
import threading
from typing import Any

PR_SET_NAME = 15

libc = ctypes.CDLL(None, use_errno=True)
libc.lseek.argtypes = ctypes.c_int, ctypes.c_long, ctypes.c_int
libc.lfind.argtypes = (
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
)
libc.lfind.restype = ctypes.c_void_p


def rename(name: str) -> None:
    """Give the calling thread a name, which comes in hex: it need not be text."""
    libc.prctl(PR_SET_NAME, bytes.fromhex(name), 0, 0, 0)


def seek_often(fd: int, first: int, step: int, count: int) -> None:
    """Call ``lseek(fd, first + i * step)`` for each i below ``count``, in a loop of C.

    libc's linear search calls a function on each element of a table until that returns 0. It looks
    at none itself, so that a table need not be there; and its loop does not hold Python's lock, so
    that two threads run side by side.
    """
    length = ctypes.c_size_t(count)
    function = ctypes.cast(libc.lseek, ctypes.c_void_p)
    assert libc.lfind(fd & (1 << 64) - 1, first, ctypes.byref(length), step, function) is None


def in_threads(plans: list[dict[str, Any]]) -> list[int]:
    together = threading.Barrier(len(plans))
    ids = [0] * len(plans)

    def run(number: int, cpu: int | None, name: str, **seeks: int) -> None:
        ids[number] = threading.get_native_id()
        rename(name)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        together.wait()
        seek_often(**seeks)

    threads = [threading.Thread(target=run, args=[i], kwargs=p) for i, p in enumerate(plans)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ids


def main() -> None:
    print(json.dumps({"pid": os.getpid(), "file": os.memfd_create("file")}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "threads" in order:
            print(json.dumps(in_threads(order["threads"])), flush=True)
            continue
        rename(order["name"])
        for fd, offset in order["seeks"]:
            libc.lseek(fd, offset, os.SEEK_SET)
        print(json.dumps([threading.get_native_id()]), flush=True)


if __name__ == "__main__":
    main()
