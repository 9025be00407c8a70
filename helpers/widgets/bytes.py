"""The bytes of a map, each under the name of the field that it belongs to; padding, too."""

from html import escape
from itertools import groupby
from typing import NamedTuple

import numpy as np

from helpers.btf import Layout
from helpers.maps import BpfMap
from helpers.widgets.view import View


class Part(NamedTuple):
    """Some neighbouring bytes of an entry, and what they are."""

    name: str
    raw: bytes

    @property
    def hex(self) -> str:
        """As two digits a byte."""
        return self.raw.hex(" ")


PADDING = "padding"
TAIL = "rounded up to 8"  # of a per-CPU slot


def parts(layout: Layout, raw: bytes, prefix: str = "") -> list[Part]:
    """The fields and gaps of one value in the order of its bytes; a scalar is one part."""
    owner = [PADDING] * len(raw)
    for name, offset, size in layout.fields:
        for at in range(offset, offset + size):
            # Bitfields and members of a union share bytes: all of them are named.
            owner[at] = name if owner[at] == PADDING else f"{owner[at]}/{name}"
    for offset, size in layout.padding:
        owner[offset : offset + size] = [PADDING] * size
    found, at = [], 0
    for name, same in groupby(owner):
        size = len(list(same))
        found.append(Part(prefix + name, raw[at : at + size]))
        at += size
    return found


class BytesView(View):
    """See ``bytes_of()``."""

    def __init__(self, source: BpfMap, rows: int = 8) -> None:
        self.map, self.rows = source, rows
        super().__init__()

    def entries(self) -> list[tuple[list[Part], list[Part]]]:
        """Key and value of each entry, in parts, sorted by the key's bytes."""
        keys, values = self.map.raw()
        order = sorted(range(len(keys)), key=lambda i: keys[i].tobytes())[: self.rows]
        return [(parts(self.map.key, keys[i].tobytes()), self._value(values[i])) for i in order]

    def _value(self, row: np.ndarray) -> list[Part]:
        raw, size = row.tobytes(), self.map.value.size
        if not self.map.per_cpu:
            return parts(self.map.value, raw)
        slot, found = (size + 7) // 8 * 8, list[Part]()
        for cpu in range(len(raw) // slot):
            one = raw[cpu * slot : (cpu + 1) * slot]
            found += parts(self.map.value, one[:size], f"cpu {cpu} ")
            if slot > size:
                found.append(Part(f"cpu {cpu} {TAIL}", one[size:]))
        return found

    def body(self) -> str:
        rows = "".join(
            f'<tr data-key="{i}"><td class="word">{_boxes(key)}</td>'
            f'<td class="word">{_boxes(value)}</td></tr>'
            for i, (key, value) in enumerate(self.entries())
        )
        head = '<th class="word" scope="col">key</th><th class="word" scope="col">value</th>'
        return (
            f"<table><caption>{escape(repr(self.map))}. Lowest address first.</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )

    def text(self) -> str:
        lines = [repr(self.map)]
        for key, value in self.entries():
            lines.append("key    " + " | ".join(f"{part.name}: {part.hex}" for part in key))
            lines.append("value  " + " | ".join(f"{part.name}: {part.hex}" for part in value))
        return "\n".join(lines)


def _boxes(found: list[Part]) -> str:
    names = list(dict.fromkeys(part.name for part in found))
    return " ".join(
        f'<span class="byte {_kind(part.name, names)}">{escape(part.name)} <b>{part.hex}</b></span>'
        for part in found
    )


def _kind(name: str, names: list[str]) -> str:
    gap = name.endswith((PADDING, TAIL))
    return "gap" if gap else f"kind{names.index(name) % 4}"


def bytes_of(source: BpfMap, rows: int = 8) -> BytesView:
    """Every byte of the first ``rows`` entries of a map, sorted by key, under its field's name.

    Padding is hatched, and so is what rounds a per-CPU value up to 8 bytes.

    Reads the whole map each time: for small ones.
    """
    return BytesView(source, rows)
