"""The pages that ring and perf buffers share with the kernel, read in bulk.

A reader's ``take()`` gives the records that are there, many at once, where they lie. Their pages
are handed back to the kernel when it is asked for more and has none: who keeps something copies it,
and who stops before, by an error or an interrupt, has taken nothing, and gets the same again.

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
import itertools
import mmap
import os
import platform
import select
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from helpers import kernel
from helpers.errors import BpfError, PermissionNeeded, check_exhausted, describe
from helpers.libbpf import LOST_FN, PERF_FN, RING_FN, lib
from helpers.maps import BpfMap

IN_BULK = platform.machine() == "x86_64"
_CHUNK = 1 << 19  # bytes at a time: they stay in the cache while their columns are cut
_FEW = 64  # fewer neighbours of one length are not worth a table
BUSY, DISCARD, LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1  # of a ring's header
_LOST, _SAMPLE, _KIND = 2, 9, 0xFFFFFFFF  # PERF_RECORD_…, in a perf buffer's header
_HEAD = 1024  # where struct perf_event_mmap_page has data_head, with data_tail behind it


class Records:
    """Some records: the bytes of each begin in ``data`` at ``starts``, at a multiple of 4."""

    def __init__(self, data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        self._data, self._starts, self._lengths = data, starts, lengths

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def shortest(self) -> int:
        """The length of the shortest, in bytes."""
        return int(self._lengths.min())

    def table(self, size: int) -> np.ndarray:
        """The first ``size`` bytes of each, as a row of uint8."""
        words = self._starts[:, None] // 4 + np.arange((size + 3) // 4)
        return self._data.view("<u4")[words].view("u1")[:, :size]

    def rests(self, size: int = 0) -> list[bytes]:
        """All bytes of each but the first ``size``."""
        return self._slices(self._data.tobytes(), size)

    def texts(self, size: int) -> list[str] | None:
        """The same as str; None where they are not all of them plain ASCII without a NUL."""
        found = self._slices(str(self._data.data, "latin-1"), size)
        whole = "".join(found)
        return found if whole.isascii() and "\0" not in whole else None

    def _slices(self, whole: Any, size: int) -> list[Any]:
        stops = (self._starts + self._lengths).tolist()
        starts = (self._starts + size).tolist()
        return [whole[start:stop] for start, stop in zip(starts, stops, strict=True)]

    @classmethod
    def of(cls, records: list[bytes]) -> "Records":
        """Records that lie about anywhere."""
        lengths = np.fromiter(map(len, records), "i8", len(records))
        places = (lengths + 3) & ~3
        gaps = (b"\0" * gap for gap in (places - lengths).tolist())
        data = b"".join(itertools.chain.from_iterable(zip(records, gaps, strict=True)))
        return cls(np.frombuffer(data, "u1"), np.cumsum(places) - places, lengths)


class Alike(Records):
    """Neighbours that are equally long: the rows of a table, ``gap`` bytes into it."""

    def __init__(self, rows: np.ndarray, gap: int, length: int) -> None:
        self._rows = rows[:, gap : gap + length]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shortest(self) -> int:
        return self._rows.shape[1]

    def table(self, size: int) -> np.ndarray:
        return self._rows[:, :size]

    def rests(self, size: int = 0) -> list[bytes]:
        return self._slices(self._rows[:, size:].tobytes(), size)

    def texts(self, size: int) -> list[str] | None:
        whole = self._rows[:, size:].tobytes()
        return self._slices(whole.decode(), size) if whole.isascii() and 0 not in whole else None

    def _slices(self, whole: Any, size: int) -> list[Any]:
        if not (width := self.shortest - size):
            return [whole] * len(self)
        return [whole[i : i + width] for i in range(0, len(whole), width)]


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
        self._data = np.frombuffer(theirs, "u1", offset=page)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)

    def take(self) -> Iterator[Records]:
        """The records that are there now, without those that the program discarded."""
        begin, end = int(self._consumer[0]), int(self._producer[0])
        first, done = begin % self.room, 0
        data = self._data[first : first + end - begin]
        for records, done in _pieces(data, _ring_records):  # noqa: B007
            yield records
        self._consumer[0] = begin + done

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel wakes us, or the time is over."""
        self._poll.poll(1000 * seconds)

    def __del__(self) -> None:
        os.close(self._fd)


def _ring_records(data: np.ndarray) -> tuple[Records, int]:
    """The records at the beginning of a stretch, and where they end."""
    head = int(data[:4].view("<u4")[0])
    step = (head + 15) // 8 * 8
    if rows := min(len(data), _CHUNK) // step:  # one that is busy or discarded looks too long
        table = data[: rows * step].reshape(rows, step)
        rows = _run(table[:, :4].view("<u4")[:, 0] == head)
        if rows >= _FEW:
            return Alike(table[:rows], 8, head), rows * step
    data = data[: max(_CHUNK, 8 + ((head & LENGTH) + 7) // 8 * 8)]
    heads = data.view("<u4")[::2].astype("i8")
    steps = ((heads & LENGTH) + 15) >> 3
    steps[(heads & BUSY) != 0] = len(heads)  # nobody goes past it
    places, end = _walk(steps)
    places = places[(heads[places] & DISCARD) == 0]
    return Records(data, 8 * places + 8, heads[places] & LENGTH), 8 * end


def _run(alike: np.ndarray) -> int:
    """How many are true before the first that is not."""
    return len(alike) if alike.all() else int(alike.argmin())


def _walk(steps: np.ndarray) -> tuple[np.ndarray, int]:
    """Begin at 0, and from i go on to i + steps[i]: the places where one was, and the last one.

    It ends at the first step that leads out of ``steps``. Each place is told where 2, 4, 8 and 16
    steps lead to, so that Python takes one in sixteen, and NumPy those between.
    """
    size = len(steps)
    here = np.arange(size + 1)
    ahead = here.copy()
    ahead[:-1] += steps
    np.copyto(ahead, here, where=ahead > size)
    leaps = [ahead]
    for _ in range(4):
        leaps.append(leaps[-1][leaps[-1]])
    far, leap = [0], leaps.pop().data
    while (end := leap[far[-1]]) != far[-1]:
        far.append(end)
    places = np.array(far)
    for ahead in reversed(leaps):
        places = np.stack([places, ahead[places]], axis=1).ravel()
    return places[:-1][places[1:] != places[:-1]], end  # at the end one stays


def _pieces(
    data: np.ndarray, records: Callable[[np.ndarray], tuple[Records, int]]
) -> Iterator[tuple[Records, int]]:
    """Cut a stretch up; each piece comes with the place where it ends."""
    at = 0
    while at < len(data):
        found, size = records(data[at:])
        if not size:  # the first is being written still, and those behind it have to wait
            return
        at += size
        yield found, at


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
            for records, _ in _pieces(window, functools.partial(_perf_records, told)):
                yield records
            positions[1] = end
            self.told += sum(told)

    def wait(self, seconds: float) -> None:
        """Sleep until the kernel wakes us, or the time is over."""
        self._poll.poll(1000 * seconds)

    def __del__(self) -> None:
        if self._buffer:
            lib().perf_buffer__free(self._buffer)


def _perf_records(told: list[int], data: np.ndarray) -> tuple[Records, int]:
    """The samples at the beginning of a stretch, and where they end; ``told`` gets the losses."""
    head, length = int(data[:8].view("<u8")[0]), int(data[8:12].view("<u4")[0])
    step, kind = head >> 48, head & _KIND
    rows = min(len(data), _CHUNK) // step
    if kind == _SAMPLE:
        table = data[: rows * step].reshape(rows, step)
        heads, lengths = table[:, :8].view("<u8")[:, 0], table[:, 8:12].view("<u4")[:, 0]
        rows = _run((heads == head) & (lengths == length))
        if rows >= _FEW:
            return Alike(table[:rows], 12, length), rows * step
    data = data[:_CHUNK]
    heads = data.view("<i8")
    places, end = _walk((heads >> 51) & 0x1FFF)
    kinds = heads[places] & _KIND
    told += heads[places[kinds == _LOST] + 2].tolist()
    places = places[kinds == _SAMPLE]
    return Records(data, 8 * places + 12, data.view("<u4")[2 * places + 2].astype("i8")), 8 * end


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
        yield Records.of(taken)
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
    check_exhausted(f"read {name}", number)
    return BpfError(f"{name} cannot be read (errno {describe(number)}).", number)
