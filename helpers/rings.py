"""The pages that ring and perf buffers share with the kernel, read in bulk.

A reader's ``take()`` gives the records that are there, many at once: as a table of bytes (a row a
record) where neighbours are equally long, else as a list of bytes. A table lies in the shared
pages; they are handed back to the kernel when ``take()`` is asked for more and has none. Who stops
before, by an error or an interrupt, has taken nothing, and gets the same records again.

What makes that safe. The kernel writes a record first, and says so afterwards: in a ring by
clearing the busy bit of its header, in a perf buffer by moving ``data_head``. So we have to load
the position (and the header) before the record. And we may say that we are done, by one aligned
store of 8 bytes, only after our last load. On x86-64 that is so by itself: the processor lets no
load pass an earlier load, and no store an earlier load; and the interpreter calls NumPy once for
each step, so no compiler joins them. On arm64 loads may pass each other, and Python has no barrier
to stop them: there libbpf reads, which has them, and calls back for each record.

Source: Documentation/bpf/ringbuf.rst; kernel/bpf/ringbuf.c; perf_event_open(2), "MMAP layout".
"""

import ctypes
import errno
import functools
import mmap
import os
import platform
import select
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import kernel
from helpers.errors import BpfError, PermissionNeeded, describe
from helpers.libbpf import LOST_FN, PERF_FN, RING_FN, lib
from helpers.maps import BpfMap

Records = np.ndarray | list[bytes]
Piece = tuple[Records, int]  # records, and where they end

IN_BULK = platform.machine() == "x86_64"
_CHUNK = 4096  # records at a time: they stay in the cache while their columns are cut
_FEW = 64  # fewer neighbours of one length are not worth a table
_BUSY, _DISCARD, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1  # of a ring's header
_LOST, _SAMPLE = 2, 9  # PERF_RECORD_…
_HEAD = 1024  # where struct perf_event_mmap_page has data_head, with data_tail behind it
_U32 = struct.Struct("<I")
_SAMPLE_HEAD = struct.Struct("<QI")  # struct perf_event_header, and the length of the data
_LOST_COUNT = struct.Struct("<16xQ")


def reader(source: BpfMap, pages: int) -> "Ring | Perf | Callbacks":
    """The reading end of a ring buffer, or of a perf buffer with so many ``pages`` for each CPU.

    Raises:
        PermissionNeeded: not allowed to.
        BpfError: the kernel would not, for another reason.
    """
    if not IN_BULK:
        return Callbacks(source, pages)
    return Ring(source) if source.type == "ringbuf" else Perf(source, pages)


class Ring:
    """A ring buffer. Its data is mapped twice in a row, so that no record is cut at the end."""

    told = 0  # losses that the kernel told of: a ring tells of none

    def __init__(self, source: BpfMap) -> None:
        page, shared = mmap.PAGESIZE, mmap.MAP_SHARED
        self.room = size = source.max_entries
        self._fd = fd = os.dup(source.fd)  # the map may be closed while somebody waits
        try:
            ours = mmap.mmap(fd, page, shared, mmap.PROT_READ | mmap.PROT_WRITE)
            theirs = mmap.mmap(fd, page + 2 * size, shared, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise _refused(source.name, error.errno or 0) from None
        self._consumer = np.frombuffer(ours, "<u8", 1)
        self._producer = np.frombuffer(theirs, "<u8", 1)
        self._data = memoryview(theirs)[page:]
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def take(self) -> Iterator[Records]:
        """The records that are there now, without those that the program discarded."""
        begin, end = int(self._consumer[0]), int(self._producer[0])
        first, done = begin % self.room, 0
        window = self._data[first : first + end - begin]
        for records, at in _pieces(window, _ring_table, _ring_list):
            yield records
            done = at
        self._consumer[0] = begin + done

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel wakes us, or the time is over."""
        self._poll.poll(1000 * seconds)

    def __del__(self) -> None:
        os.close(self._fd)


def _pieces(
    window: memoryview, table: Callable[..., Piece], single: Callable[..., Piece]
) -> Iterator[Piece]:
    """Cut a stretch of whole records up; each piece comes with the place where it ends."""
    at = 0
    while at < len(window):
        records, end = table(window, at)
        if end == at:
            records, end = single(window, at)
        if end == at:  # it is being written still, and those behind it have to wait
            return
        yield records, end
        at = end


def _ring_table(window: memoryview, at: int) -> Piece:
    """The neighbours from ``at`` on that are as long as the first, if they are many."""
    (head,) = _U32.unpack_from(window, at)
    step = (head + 15) // 8 * 8
    rows = min((len(window) - at) // step, _CHUNK)
    if rows < _FEW or head & (_BUSY | _DISCARD):
        return [], at
    table = np.frombuffer(window, "u1", rows * step, at).reshape(rows, step)
    rows = _run(table[:, :4].view("<u4")[:, 0] == head)
    return (table[:rows, 8 : 8 + head], at + rows * step) if rows >= _FEW else ([], at)


def _ring_list(window: memoryview, at: int) -> Piece:
    """The next records of any length."""
    heads, records = window.cast("I"), list[bytes]()
    for _ in range(_CHUNK):
        if at == len(window) or (head := heads[at >> 2]) & _BUSY:
            break
        length = head & _LENGTH
        if not head & _DISCARD:
            records.append(bytes(window[at + 8 : at + 8 + length]))
        at += (length + 15) & ~7
    return records, at


def _run(alike: np.ndarray) -> int:
    """How many are true before the first that is not."""
    return len(alike) if alike.all() else int(alike.argmin())


class Perf:
    """A perf buffer: pages for each CPU. libbpf makes them, we read them."""

    def __init__(self, source: BpfMap, pages: int) -> None:
        so = lib()
        # libbpf wants functions that it would call if it were it that reads.
        self._unused = PERF_FN(lambda *_: None), LOST_FN(lambda *_: None)
        self._buffer = so.perf_buffer__new(source.fd, pages, *self._unused, None, None)
        if not self._buffer:
            raise _refused(source.name, ctypes.get_errno())
        self.told, self._cpus = 0, list[tuple[np.ndarray, np.ndarray]]()
        for i in range(so.perf_buffer__buffer_cnt(self._buffer)):
            base, size = ctypes.c_void_p(), ctypes.c_size_t()
            so.perf_buffer__buffer(self._buffer, i, ctypes.byref(base), ctypes.byref(size))
            shared = ctypes.c_uint8 * (mmap.PAGESIZE + size.value)
            whole = np.ctypeslib.as_array(shared.from_address(base.value or 0))
            positions = whole[_HEAD : _HEAD + 16].view("<u8")
            self._cpus.append((positions, whole[mmap.PAGESIZE :]))
        self.room = sum(len(data) for _, data in self._cpus)
        self._poll = select.poll()
        self._poll.register(so.perf_buffer__epoll_fd(self._buffer), select.POLLIN)

    def take(self) -> Iterator[Records]:
        """The records that are there now, CPU after CPU."""
        for positions, data in self._cpus:
            end, begin = (int(position) for position in positions)
            first, size = begin % len(data), end - begin
            window = data[first : first + size]
            if len(window) < size:  # it goes on at the beginning
                window = np.concatenate([window, data[: size - len(window)]])
            told = list[int]()
            single = functools.partial(_perf_list, told)
            for records, _ in _pieces(window.data, _perf_table, single):
                yield records
            positions[1] = end
            self.told += sum(told)

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel wakes us, or the time is over."""
        self._poll.poll(1000 * seconds)

    def __del__(self) -> None:
        if self._buffer:
            lib().perf_buffer__free(self._buffer)


def _perf_table(window: memoryview, at: int) -> Piece:
    """The neighbours from ``at`` on that are samples as long as the first, if they are many."""
    head, length = _SAMPLE_HEAD.unpack_from(window, at)
    step = head >> 48
    rows = min((len(window) - at) // step, _CHUNK)
    if rows < _FEW or head & 0xFFFFFFFF != _SAMPLE:
        return [], at
    table = np.frombuffer(window, "u1", rows * step, at).reshape(rows, step)
    heads, lengths = table[:, :8].view("<u8")[:, 0], table[:, 8:12].view("<u4")[:, 0]
    rows = _run((heads == head) & (lengths == length))
    return (table[:rows, 12 : 12 + length], at + rows * step) if rows >= _FEW else ([], at)


def _perf_list(told: list[int], window: memoryview, at: int) -> Piece:
    """The next records of any kind and length; ``told`` gets the losses that they tell of."""
    records = list[bytes]()
    for _ in range(_CHUNK):
        if at == len(window):
            break
        head, length = _SAMPLE_HEAD.unpack_from(window, at)
        if head & 0xFFFFFFFF == _SAMPLE:
            records.append(bytes(window[at + 12 : at + 12 + length]))
        elif head & 0xFFFFFFFF == _LOST:
            told += _LOST_COUNT.unpack_from(window, at)
        at += head >> 48
    return records, at


class Callbacks:
    """Either buffer, read by libbpf, which calls Python for each record."""

    def __init__(self, source: BpfMap, pages: int) -> None:
        so, at, fd = lib(), ctypes.string_at, source.fd
        self._name = source.name
        self.told, self._records = 0, list[bytes]()
        take = self._records.append
        # The callbacks only copy: an exception in one could not reach the learner.
        if source.type == "ringbuf":
            self.room, what = source.max_entries, "ring_buffer"
            self._called: Any = (RING_FN(lambda _, data, size: take(at(data, size)) or 0),)
            self._buffer = so.ring_buffer__new(fd, *self._called, None, None)
        else:
            self.room, what = kernel.cpus() * pages * mmap.PAGESIZE, "perf_buffer"
            self._called = (
                PERF_FN(lambda _, cpu, data, size: take(at(data, size))),
                LOST_FN(lambda _, cpu, count: self._tell(count)),
            )
            self._buffer = so.perf_buffer__new(fd, pages, *self._called, None, None)
        if not self._buffer:
            raise _refused(source.name, ctypes.get_errno())
        self._poll, self._consume, self._free = (
            getattr(so, f"{what}__{name}") for name in ("poll", "consume", "free")
        )

    def _tell(self, count: int) -> None:
        self.told += count

    def take(self) -> Iterator[Records]:
        """The records that are there now, and those that came while they were read."""
        self._check(self._consume(self._buffer))
        taken = self._records[:]
        yield taken
        del self._records[: len(taken)]

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel wakes us, or the time is over."""
        self._check(self._poll(self._buffer, int(1000 * seconds)))

    def _check(self, result: int) -> None:
        if result < 0 and result != -errno.EINTR:
            raise _refused(self._name, -result)

    def __del__(self) -> None:
        if getattr(self, "_buffer", None):
            self._free(self._buffer)


def _refused(name: str, number: int) -> BpfError:
    if number in (errno.EPERM, errno.EACCES):
        return PermissionNeeded(f"read {name}")
    return BpfError(f"{name} cannot be read (errno {describe(number)}).", number)
