"""A program array as a graph: who jumps to whom, and how often."""

from collections.abc import Mapping
from html import escape
from typing import Any

from helpers import kernel
from helpers.errors import LayoutError
from helpers.maps import BpfMap
from helpers.program import Program
from helpers.widgets.view import View, as_text, button, choice, field

EMPTY = "empty"


class TailCalls(View):
    """See ``tail_calls()``."""

    def __init__(
        self, program: Program, slots: BpfMap, counts: BpfMap, rows: Mapping[str, str]
    ) -> None:
        if slots.type != "prog_array":
            raise LayoutError(f"{slots.name} is a {slots.type} map: this shows program arrays.")
        self.program, self.slots, self.counts, self.named = program, slots, counts, dict(rows)
        self._empty: set[int] = set()  # slots that held a program before
        super().__init__()

    def edges(self) -> list[tuple[str, str, int]]:
        """Each slot that holds a program, or did: its number, the program's name, its count."""
        names, counted, found = kernel.objects("prog"), self.counted(), list[tuple[str, str, int]]()
        held: dict[int, int] = dict(self.slots.items())
        self._empty = {slot for slot in self._empty if slot not in held}
        for slot in sorted({*held, *self._empty}):
            name = names.get(held[slot], f"program {held[slot]}") if slot in held else EMPTY
            found.append((str(slot), name, counted.get(self.named.get(name, name), 0)))
        return found

    def counted(self) -> dict[str, int]:
        """The counts by name: of the fields of entry 0, in which the programs count."""
        entry: Any = self.counts[0]
        return dict(entry._asdict())

    def fell_through(self) -> int:
        """Calls that found an empty slot, if the programs count them."""
        return self.counted().get("fell_through", 0)

    def act(self, action: str, given: Mapping[str, str]) -> None:
        slot = int(given["slot"], 0)
        if action == "empty":
            del self.slots[slot]
            self._empty.add(slot)
        elif action == "fill":
            self.slots[slot] = self.program.function(given["program"])

    def body(self) -> str:
        edges = self.edges()
        height = 30 * max(len(edges), 1) + 34
        rows = list[str]()
        for i, (slot, name, count) in enumerate(edges):
            y, kind = 8 + 30 * i, "none" if name == EMPTY else "box"
            line = f'<path class="line" d="M270 {y + 11}h80m-7 -4l7 4l-7 4"/>'
            rows.append(
                f'<rect class="box" x="200" y="{y}" width="70" height="22"/>'
                f'<text x="262" y="{y + 16}" text-anchor="end">{slot}</text>'
                f"{'' if name == EMPTY else line}"
                f'<rect class="box {kind}" x="350" y="{y}" width="180" height="22"/>'
                f'<text x="358" y="{y + 16}">{escape(name)}</text>'
                f'<text x="540" y="{y + 16}">{_times(name, count)}</text>'
            )
        bottom = height - 12
        fell = f"fell through: {self.fell_through():,}"
        alt = escape(f"{self.slots.name}. {self._told(edges)}")
        return (
            f"<p>{escape(repr(self.slots))}</p>"
            f'<svg viewBox="0 0 640 {height}" width="640" role="img" aria-label="{alt}">'
            f'<text x="0" y="24">packet</text><path class="line" d="M60 19h140m-7 -4l7 4l-7 4"/>'
            f'{"".join(rows)}<text x="200" y="{bottom}">{fell}</text></svg>{self._form(edges)}'
        )

    def _form(self, edges: list[tuple[str, str, int]]) -> str:
        full = [slot for slot, name, _ in edges if name != EMPTY]
        drop = "".join(button("empty", f"empty slot {slot}", slot=slot) for slot in full)
        names = self.program.programs
        put = choice("program", names, names[0], "put")
        send = '<button type="submit">fill</button>'
        form = f'<form data-act="fill">{put}{field("slot", 0, "into slot")}{send}</form>'
        return f'<div class="row">{drop}</div>{form}'

    def _told(self, edges: list[tuple[str, str, int]]) -> str:
        calls = "; ".join(f"slot {slot}: {name}, {count:,} calls" for slot, name, count in edges)
        return f"{calls or 'all slots are empty'}; fell through: {self.fell_through():,}"

    def text(self) -> str:
        rows = [(slot, name, _times(name, count)) for slot, name, count in self.edges()]
        table = as_text(["slot", "program", "calls"], rows)
        return "\n".join([repr(self.slots), table, f"fell through: {self.fell_through():,}"])


def _times(name: str, count: int) -> str:
    return "" if name == EMPTY else f"{count:,}"


def tail_calls(
    program: Program, slots: BpfMap, counts: BpfMap, rows: Mapping[str, str]
) -> TailCalls:
    """The slots of a program array, who is in them, and how often each was called, live.

    ``counts``: an array in whose entry 0 each program counts its calls, in a field of a struct;
    ``rows`` says which: {"count_tcp": "tcp"}. A field ``fell_through`` counts the calls that found
    an empty slot. Slots are emptied and filled from the page.

    Raises:
        LayoutError: ``slots`` is no program array.
    """
    return TailCalls(program, slots, counts, rows)
