"""A ring buffer as it is in memory: both positions, and the header of every record between them."""

import mmap
from html import escape
from typing import NamedTuple

from helpers.errors import LayoutError
from helpers.maps import BpfMap
from helpers.rings import BUSY, DISCARD, LENGTH
from helpers.widgets.view import View, as_text

HEADER = 8  # bytes before each record: its length and two bits, and the page it is on


class Record(NamedTuple):
    """One record that nobody has read yet: where it begins, its bytes, and what is to become of it.

    ``at`` counts every byte since the ring was made, as the positions do.
    """

    at: int
    size: int
    state: str

    @property
    def room(self) -> int:
        """What it takes in the ring: with its header, rounded up to 8."""
        return (HEADER + self.size + 7) // 8 * 8


class Pages:
    """The pages that the kernel shares, mapped for looking alone: ``helpers.rings`` reads them.

    One page holds the consumer's position, one the producer's; behind them lie the records.

    Source: kernel/bpf/ringbuf.c; Documentation/bpf/ringbuf.rst.
    """

    def __init__(self, ring: BpfMap) -> None:
        if ring.type != "ringbuf":
            raise LayoutError(f"{ring.name} is a {ring.type} map: this shows ring buffers.")
        page, self.size = mmap.PAGESIZE, ring.max_entries
        how = (mmap.MAP_SHARED, mmap.PROT_READ)
        self._consumer = mmap.mmap(ring.fd, page, *how)
        self._producer = mmap.mmap(ring.fd, page + self.size, *how, offset=page)

    @staticmethod
    def _number(pages: mmap.mmap, at: int, size: int) -> int:
        return int.from_bytes(pages[at : at + size], "little")

    @property
    def consumer(self) -> int:
        """Bytes that the reader has given back."""
        return self._number(self._consumer, 0, 8)

    @property
    def producer(self) -> int:
        """Bytes that programs have reserved."""
        return self._number(self._producer, 0, 8)

    def records(self) -> list[Record]:
        """What lies between the two positions; a reader that is at work may take it meanwhile."""
        at, end, found = self.consumer, self.producer, list[Record]()
        while at < end:
            head = self._number(self._producer, mmap.PAGESIZE + at % self.size, 4)
            state = "reserved" if head & BUSY else "discarded" if head & DISCARD else "submitted"
            found.append(Record(at, head & LENGTH, state))
            if found[-1].room > self.size:  # no header any more: the reader went on, and it is old
                return found[:-1]
            at += found[-1].room
        return found

    def close(self) -> None:
        """Unmap the pages, which keep the ring in the kernel."""
        self._consumer.close()
        self._producer.close()


class RingView(View):
    """See ``ring()``."""

    every = 0.2

    def __init__(self, source: BpfMap, rows: int = 12) -> None:
        self.map, self.rows, self.pages = source, rows, Pages(source)
        super().__init__()

    def close(self) -> None:
        super().close()
        with self._lock:
            self.pages.close()

    def state(self) -> tuple[int, int, list[Record]]:
        """The consumer's position, the producer's, and the records between."""
        self.map.fileno()  # raises Closed when the program has gone
        return self.pages.consumer, self.pages.producer, self.pages.records()

    def body(self) -> str:
        read, written, records = self.state()
        rows = "".join(
            f'<tr data-key="{one.at}"><td>{one.at:,}</td><td>{one.size}</td><td>{one.room}</td>'
            f'<td class="word">{one.state}</td></tr>'
            for one in records[: self.rows]
        )
        heads = "".join(f'<th scope="col">{w}</th>' for w in HEADS)
        more = len(records) - self.rows
        rest = f"<p>… and {more:,} more</p>" if more > 0 else ""
        return (
            f"<p>{escape(self._title(read, written, records))}</p>"
            f"{self._picture(read, written, records)}"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{rest}"
        )

    def _title(self, read: int, written: int, records: list[Record]) -> str:
        used, full = written - read, ""
        if used + 2 * HEADER >= self.pages.size:  # the kernel keeps one byte free
            full = " Full: the smallest reservation gives NULL."
        return (
            f"{self.map.name}: {used:,} of {self.pages.size:,} bytes in use, {len(records):,} "
            f"records. Consumer at {read:,}, producer at {written:,}.{full}"
        )

    def _picture(self, read: int, written: int, records: list[Record]) -> str:
        size = self.pages.size
        boxes = list[str]()
        for state, style in STYLES.items():
            # One path for all records of a state: thousands of boxes would be slow to draw.
            spans = [
                span
                for one in records
                if one.state == state
                for span in _wrapped(one.at % size, one.room, size)
            ]
            path = "".join(
                f"M{a * 600 / size:.1f} 20h{max(b * 600 / size - 0.5, 0.5):.1f}v24"
                f"h-{max(b * 600 / size - 0.5, 0.5):.1f}z"
                for a, b in spans
            )
            boxes.append(f'<path class="box {style}" d="{path}"/>')
        marks = "".join(
            f'<path class="line" d="M{at % size * 600 / size:.1f} {top}v10"/>'
            f'<text x="{min(at % size * 600 / size, 540):.1f}" y="{text}">{name}</text>'
            for name, at, top, text in (("consumer", read, 8, 10), ("producer", written, 46, 66))
        )
        alt = escape(self._title(read, written, records))
        return (
            f'<svg viewBox="0 0 600 72" width="600" role="img" aria-label="{alt}">'
            f'<rect class="box none" x="0" y="20" width="600" height="24"/>{"".join(boxes)}{marks}'
            "</svg>"
        )

    def text(self) -> str:
        read, written, records = self.state()
        rows = [(f"{r.at:,}", r.size, r.room, r.state) for r in records[: self.rows]]
        return "\n".join([self._title(read, written, records), as_text(HEADS, rows)])


HEADS = ["at", "record", "with header", "state"]
STYLES = {"submitted": "found", "reserved": "other", "discarded": ""}


def _wrapped(at: int, room: int, size: int) -> list[tuple[int, int]]:
    """One span, or two when it goes over the end of the ring."""
    return [(at, room)] if at + room <= size else [(at, size - at), (0, at + room - size)]


def ring(source: BpfMap, rows: int = 12) -> RingView:
    """A ring buffer's shared pages, live: both positions, and each record's size and state.

    Looking takes nothing from the ring: no record is consumed, and readers are not disturbed.

    Raises:
        LayoutError: the map is no ring buffer.
    """
    return RingView(source, rows)
