"""A live map as a table that can be edited: what you change in the page changes in the kernel."""

import contextlib
import errno
from collections.abc import Mapping
from html import escape
from typing import Any, NamedTuple

from helpers import kernel
from helpers.errors import MissingKey
from helpers.maps import FLAGS, BpfMap
from helpers.widgets.view import View, as_text, button, choice, field, live


class Leaf(NamedTuple):
    """One cell of a value: in which CPU's copy, and which field of the struct (None: all of it)."""

    cpu: int | None
    field: str | None

    @property
    def head(self) -> str:
        """The head of its column."""
        words = [f"cpu {self.cpu}" if self.cpu is not None else "", self.field or ""]
        return " ".join(filter(None, words)) or "value"

    def of(self, value: Any) -> Any:
        """Its part of a whole value."""
        one = value if self.cpu is None else value[self.cpu]
        return one if self.field is None else getattr(one, self.field)

    def put(self, value: Any, new: Any) -> Any:
        """A whole value like ``value`` in all but this part."""
        if self.cpu is not None:
            inner = Leaf(None, self.field).put(value[self.cpu], new)
            return [*value[: self.cpu], inner, *value[self.cpu + 1 :]]
        return new if self.field is None else value._replace(**{self.field: new})


class MapTable(View):
    """See ``table()``."""

    def __init__(self, source: BpfMap, rows: int = 32) -> None:
        self.map, self.rows = source, rows
        cpus: list[int | None] = [None]
        if source.per_cpu:
            cpus = list(range(kernel.cpus()))
        self.leaves = [Leaf(cpu, name) for cpu in cpus for name in _fields(source.value)]
        self._before: dict[str, tuple[Any, ...]] = {}
        self._keys: dict[str, Any] = {}
        super().__init__()

    def entries(self) -> tuple[list[tuple[Any, Any]], bool]:
        """The first ``rows`` entries in order of their keys, and whether there are more."""
        found, key = dict[Any, Any](), self.map.next_key()
        while key is not None and len(found) < self.rows:
            with contextlib.suppress(KeyError):  # deleted since, or an empty slot of programs
                found[key] = self.map[key]
            key = self.map.next_key(key)
        try:
            return sorted(found.items(), key=lambda entry: entry[0]), key is not None
        except TypeError:  # texts, of which some are not UTF-8, and so bytes
            return sorted(found.items(), key=repr), key is not None

    def body(self) -> str:
        found, more = self.entries()
        heads = [*(name or "key" for name in _fields(self.map.key)), *self._heads()]
        rows, now = [], {}
        self._keys = {}
        for key, value in found:
            name = repr(key)
            self._keys[name] = key
            now[name] = tuple(leaf.of(value) for leaf in self.leaves)
            rows.append(self._row(name, key, now[name]))
        self._before = now
        head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
        count = f"the first {len(found)}" if more else str(len(found))
        return (
            f"<table><caption>{escape(repr(self.map))}. Entries: {count}.</caption>"
            f"<thead><tr>{head}<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
            f"{self._form()}"
        )

    def _heads(self) -> list[str]:
        return [leaf.head for leaf in self.leaves]

    def _row(self, name: str, key: Any, now: tuple[Any, ...]) -> str:
        before = self._before.get(name)
        cells = [f"<td>{escape(str(part))}</td>" for part in _parts(self.map.key, key)]
        for i, (leaf, value) in enumerate(zip(self.leaves, now, strict=True)):
            moved = "" if before is None or before[i] == value else ' class="moved"'
            shown = escape(str(value))
            if isinstance(value, int | float | str):
                shown = live("edit", value, f"{leaf.head} of key {name}", row=name, leaf=i)
            cells.append(f"<td{moved}>{shown}</td>")
        drop = button("delete", "delete", row=name)
        return f'<tr data-key="{escape(name)}">{"".join(cells)}<td>{drop}</td></tr>'

    def _form(self) -> str:
        fields = [
            *(field(f"key{i}", "", n or "key") for i, n in enumerate(_fields(self.map.key))),
            *(field(f"value{i}", "", head) for i, head in enumerate(self._heads())),
        ]
        flags = choice("flags", [name for name in FLAGS if name != "lock"], "any", "flags")
        send = '<button type="submit">update</button>'
        return f'<form data-act="update" data-key="form">{"".join(fields)}{flags}{send}</form>'

    def act(self, action: str, given: Mapping[str, str]) -> None:
        if action == "delete":
            del self.map[self._key(given["row"])]
        elif action == "edit":
            key, leaf = self._key(given["row"]), self.leaves[int(given["leaf"])]
            value = self.map[key]
            new = parse(given["value"], leaf.of(value))
            self.map.update_elem(key, leaf.put(value, new), flags="exist")
        elif action == "update":
            names = _fields(self.map.key)
            typed = [parse(given[f"key{i}"]) for i in range(len(names))]
            key = typed[0] if names == [None] else tuple(typed)
            self.map.update_elem(key, self._new_value(given), flags=given["flags"])

    def _key(self, row: str) -> Any:
        if row not in self._keys:  # the page shows what was there a moment ago
            raise MissingKey(f"{self.map.name} no longer has the key {row}.", errno.ENOENT)
        return self._keys[row]

    def _new_value(self, given: Mapping[str, str]) -> Any:
        typed = [parse(given[f"value{i}"]) for i in range(len(self.leaves))]
        width = len(_fields(self.map.value))
        copies: list[Any] = [
            typed[at] if width == 1 and self.leaves[at].field is None else typed[at : at + width]
            for at in range(0, len(typed), width)
        ]
        copies = [tuple(one) if isinstance(one, list) else one for one in copies]
        return copies if self.map.per_cpu else copies[0]

    def text(self) -> str:
        found, more = self.entries()
        heads = [*(name or "key" for name in _fields(self.map.key)), *self._heads()]
        rows = [
            [*_parts(self.map.key, key), *(leaf.of(value) for leaf in self.leaves)]
            for key, value in found
        ]
        end = [f"… and more than these {len(found)}"] if more else []
        return "\n".join([repr(self.map), as_text(heads, rows), *end])


def _fields(layout: Any) -> list[str | None]:
    """The names of a struct's fields, as its namedtuples have them; [None] for anything else."""
    return list(getattr(getattr(layout, "type", None), "_fields", ())) or [None]


def _parts(layout: Any, key: Any) -> list[Any]:
    return [key] if _fields(layout) == [None] else list(key)


def parse(text: str, like: object = 0) -> Any:
    """What was typed, as the type of ``like``: numbers as C writes them; other text stays text.

    Raises:
        ValueError: nothing was typed where a number belongs.
    """
    if isinstance(like, str):
        return text
    try:
        return float(text) if isinstance(like, float) else int(text, 0)
    except ValueError:
        if not text.strip():
            raise ValueError("a field is empty") from None
        return text  # an address in writing, say; what else will not do, the layout names


def table(source: BpfMap, rows: int = 32) -> MapTable:
    """A map as a live table: values tick; edit them, insert and delete, and read the errors.

    ``rows``: no more entries than these are read each time, in the kernel's order.

    Each change is one system call, as ``update_elem`` and ``del`` make it.
    """
    return MapTable(source, rows)
