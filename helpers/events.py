"""``Events``: the records of a ring or perf buffer, as namedtuples and as a DataFrame.

libbpf reads the shared pages, with the memory order that each CPU needs; here its records are
copied out, decoded, and counted: delivered + lost = produced.
"""

import contextlib
import ctypes
import errno
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.btf import Array, Bytes, Layout, Record, Text
from helpers.errors import BpfError, Closed, LayoutError, PermissionNeeded, Unsupported, describe
from helpers.libbpf import LOST_FN, PERF_FN, RING_FN, lib
from helpers.maps import BpfMap

if TYPE_CHECKING:
    import pandas as pd

_open: dict[int, "Events"] = {}  # by map id: a buffer has one reader


class Events:
    """The reading end of a ring or perf buffer: ``prog.events("events")`` makes one.

    A buffer is a stream: what was read is gone from it. It has one reader, since a second one
    would take records away from the first.
    """

    def __init__(
        self,
        source: BpfMap,
        layout: Layout | None,
        lost: Callable[[], int] | None,
        pages: int = 8,
    ) -> None:
        """Read ``source``, decoded by ``layout`` (None: bytes); ``lost`` asks the program.

        ``pages``: of each CPU's perf buffer, a power of two; a ring has its own size.
        """
        self.name, self.layout, self.kind = source.name, layout, source.type
        if source.id in _open:
            raise BpfError(
                f"{self.name} has a reader already (errno {describe(errno.EBUSY)}).\n"
                "Use that one, or close() it first: two readers would split the records.",
                errno.EBUSY,
            )
        self._id, self._ask, self._asked = source.id, lost, lost() if lost else 0
        self._records: list[bytes] = []
        self._told = 0  # lost records that the kernel told of
        self._delivered = self._lost = 0
        self._reader: int | None = self._start(source, pages)
        _open[self._id] = self

    def _start(self, source: BpfMap, pages: int) -> int:
        take, at = self._records.append, ctypes.string_at
        so = lib()
        if self.kind == "ringbuf":
            # The callbacks only copy: an exception in one could not reach the learner.
            self._callbacks = [RING_FN(lambda _, data, size: take(at(data, size)) or 0)]
            reader = so.ring_buffer__new(source.fd, self._callbacks[0], None, None)
            self._poll, self._consume, self._free = (
                so.ring_buffer__poll,
                so.ring_buffer__consume,
                so.ring_buffer__free,
            )
        elif self.kind == "perf_event_array":
            self._callbacks = [
                PERF_FN(lambda _, cpu, data, size: take(at(data, size))),
                LOST_FN(lambda _, cpu, count: self._tell(count)),
            ]
            reader = so.perf_buffer__new(source.fd, pages, *self._callbacks, None, None)
            self._poll, self._consume, self._free = (
                so.perf_buffer__poll,
                so.perf_buffer__consume,
                so.perf_buffer__free,
            )
        else:
            raise Unsupported(
                "a ring or perf buffer", f"{self.name}, a {self.kind} map", "Read it by key."
            )
        if not reader:
            number = ctypes.get_errno()
            if number in (errno.EPERM, errno.EACCES):
                raise PermissionNeeded(f"read {self.name}")
            raise BpfError(f"{self.name} cannot be read (errno {describe(number)}).", number)
        return reader

    def _tell(self, count: int) -> None:
        self._told += count

    # --- reading --------------------------------------------------------------------------

    def raw(self, timeout: float = 0.0) -> list[bytes]:
        """Take the records that are there; wait up to ``timeout`` seconds for the first.

        Bytes as the program wrote them. The perf buffer pads each to 8 bytes with its header of
        4, so up to 7 bytes of no meaning may follow.

        Raises:
            Closed: the reader or its program was closed.
        """
        if self._reader is None:
            raise Closed(f"The reader of {self.name} is closed.\nOpen it with prog.events().")
        deadline = time.monotonic() + timeout
        self._check(self._consume(self._reader))
        while not self._records and (left := deadline - time.monotonic()) > 0:
            # In steps, so that an interrupt from the notebook gets through.
            self._check(self._poll(self._reader, min(100, 1 + int(1000 * left))))
            # poll() looks only where it was woken, and a program may wake nobody.
            self._check(self._consume(self._reader))
        taken = self._records[:]
        del self._records[: len(taken)]
        self._count(len(taken))
        return taken

    def _check(self, result: int) -> None:
        if result < 0 and result != -errno.EINTR:
            raise BpfError(f"{self.name} cannot be read (errno {describe(-result)}).", -result)

    def _count(self, taken: int) -> None:
        self._delivered += taken
        self._lost = self._ask() - self._asked if self._ask else self._told

    def read(self, timeout: float = 0.0) -> list[Any]:
        """The same, decoded: a list of namedtuples (ints or bytes without a struct)."""
        return [self._decode(record) for record in self.raw(timeout)]

    def frame(self, timeout: float = 1.0) -> "pd.DataFrame":
        """The same, as a DataFrame: a row a record, columns named after the struct's fields.

        A last field without a length, ``char text[]``, takes the rest of each record.

        ``attrs``: ``delivered`` and ``lost`` since the reader was opened. ``lost`` is exact when
        the program counts its failures (see ``Program.events``). A perf buffer else has what the
        kernel told, which comes with a later record; a ring buffer tells nothing, and has None.
        """
        import pandas as pd

        records = self.raw(timeout)
        df = pd.DataFrame(self._columns(records), copy=False)
        df.attrs |= {
            "map": self.name,
            "type": self.kind,
            "delivered": self._delivered,
            "lost": self.lost,
        }
        return df

    @property
    def delivered(self) -> int:
        """Records read since the reader was opened."""
        return self._delivered

    @property
    def lost(self) -> int | None:
        """Records lost since the reader was opened; None when nobody counts them."""
        return self._lost if self._ask or self.kind == "perf_event_array" else None

    def _decode(self, record: bytes) -> Any:
        if self.layout is None:
            return record
        self._long_enough(len(record))
        value = self.layout.decode(record)
        tail = _tail(self.layout)
        if tail:
            return value._replace(**{value._fields[-1]: _rest(tail, record, self.layout.size)})
        return value

    def _columns(self, records: list[bytes]) -> dict[str, Any]:
        if self.layout is None:
            return {"data": records}
        size, tail = self.layout.size, _tail(self.layout)
        self._long_enough(min(map(len, records), default=size))
        table = np.frombuffer(b"".join(record[:size] for record in records), "u1")
        columns: dict[str, Any] = dict(
            self.layout.columns(table.reshape(len(records), size), 0, "")
        )
        if tail:
            columns[tail.name] = [_rest(tail, record, size) for record in records]
        return {name or "value": column for name, column in columns.items()}

    def _long_enough(self, shortest: int) -> None:
        if self.layout and shortest < self.layout.size:
            raise LayoutError(
                f"{self.name} delivered a record of {shortest} bytes, and {self.layout.ctype} has "
                f"{self.layout.size}.\nName the struct that the program submits: "
                f'prog.events("{self.name}", record="…").'
            )

    # --- life -----------------------------------------------------------------------------

    def close(self) -> None:
        """Stop reading. Closing twice is fine."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._free(reader)
            _open.pop(self._id, None)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never opened
            self.close()

    def __iter__(self) -> Iterator[Any]:
        """The records that are there now, decoded, without waiting."""
        return iter(self.read())

    def __repr__(self) -> str:
        what = self.layout.ctype if self.layout else "bytes"
        state = "" if self._reader is not None else ", closed"
        return f"{self.name}: records of {what} from a {self.kind.replace('_', ' ')}{state}"


def _tail(layout: Layout) -> Any:
    """The last member of a record, if it is an array without a length."""
    if isinstance(layout, Record) and layout.members and not layout.members[-1].layout.size:
        return layout.members[-1]
    return None


def _rest(tail: Any, record: bytes, size: int) -> Any:
    raw = record[tail.offset :]
    if isinstance(tail.layout, Text):
        return Text(len(raw)).decode(raw)
    if isinstance(tail.layout, Array):
        count = len(raw) // tail.layout.element.size
        return Array(tail.layout.element, count).decode(raw)
    return Bytes(len(raw)).decode(raw)
