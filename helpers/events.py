"""``Events``: the records of a ring or perf buffer, as namedtuples and as a DataFrame.

``helpers.rings`` reads the shared pages; here records are decoded, and counted: delivered + lost =
produced.
"""

import contextlib
import errno
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers import rings
from helpers.btf import Array, Layout, Record, Text, gather
from helpers.diagnostics import printable
from helpers.errors import BpfError, Closed, LayoutError, Unsupported, describe
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
                "Use that one, or close() it first: two readers would take each other's records.",
                errno.EBUSY,
            )
        self._tail = _tail(layout)
        self._fixed = _without(layout) if self._tail else layout
        self._id, self._ask, self._asked = source.id, lost, lost() if lost else 0
        self._delivered = self._lost = 0
        if self.kind not in ("ringbuf", "perf_event_array"):
            raise Unsupported(
                "a ring or perf buffer", f"{self.name}, a {self.kind} map", "Read it by key."
            )
        self._lock = threading.Lock()  # two threads would take the same records
        self._reader: rings.Ring | rings.Perf | rings.Callbacks | None
        self._reader = rings.reader(source, pages)
        _open[self._id] = self

    # --- reading --------------------------------------------------------------------------

    def raw(self, timeout: float = 0.0) -> list[bytes]:
        """Take the records that are there; wait up to ``timeout`` seconds for the first.

        Bytes as the program wrote them. The perf buffer pads each to 8 bytes with its header of
        4, so up to 7 bytes of no meaning may follow.

        Raises:
            Closed: the reader or its program was closed.
        """
        records = list[bytes]()
        with self._lock, contextlib.closing(self._pieces(timeout)) as pieces:
            for piece in pieces:
                records += piece.rests()
        return records

    def _pieces(self, timeout: float) -> Generator[rings.Records, None, None]:
        reader = self._reader
        if reader is None:
            raise Closed(f"The reader of {self.name} is closed.\nOpen it with prog.events().")
        deadline, taken = time.monotonic() + timeout, 0
        while True:
            for piece in reader.take():
                yield piece
                taken += len(piece)
            left = deadline - time.monotonic()
            if taken or left <= 0:
                break
            # In steps: a program may wake nobody.
            reader.wait(min(0.1, left))
        self._delivered += taken
        self._lost = self._ask() - self._asked if self._ask else reader.told

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

        # Each record takes its header's 8 bytes, too.
        room = 0 if self._reader is None else self._reader.room // (8 + self._least)
        with self._lock, contextlib.closing(self._pieces(timeout)) as pieces:
            tables = map(self._columns, itertools.chain([rings.Records.of([])], pieces))
            df = pd.DataFrame(gather(tables, room), copy=False)
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
        if self._tail:
            (rest,) = _rests(self._tail, rings.Records.of([record]))
            return value._replace(**{value._fields[-1]: rest})
        return value

    @property
    def _least(self) -> int:
        return self.layout.size if self.layout else 0

    def _columns(self, records: rings.Records) -> dict[str, np.ndarray]:
        if self.layout is None or self._fixed is None:
            return {"data": _objects(records.rests())}
        if len(records):
            self._long_enough(records.shortest)
        columns = dict(self._fixed.columns(records.table(self.layout.size), 0, ""))
        if self._tail:
            columns[self._tail.name] = _objects(_rests(self._tail, records))
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
        told = f"{self.name}: records of {what} from a {self.kind.replace('_', ' ')}{state}"
        return printable(told)


def _tail(layout: Layout | None) -> Any:
    """The last member of a record, if it is an array without a length."""
    if isinstance(layout, Record) and layout.members and not layout.members[-1].layout.size:
        return layout.members[-1]
    return None


def _without(layout: Any) -> Record:
    """The same record without that member."""
    return Record(layout.ctype, layout.size, layout.members[:-1], union=False)


def _rests(tail: Any, records: rings.Records) -> list[Any]:
    """What follows the fixed part of each record, as ``tail`` has it."""
    if isinstance(tail.layout, Text):
        texts = records.texts(tail.offset)
        return texts or list(map(tail.layout.text, records.rests(tail.offset)))
    rests = records.rests(tail.offset)
    if isinstance(tail.layout, Array):
        element = tail.layout.element
        return [Array(element, len(rest) // element.size).decode(rest) for rest in rests]
    return rests


def _objects(items: list[Any]) -> np.ndarray:
    column = np.empty(len(items), object)
    column[:] = items
    return column
