"""Operations on a map, one at a time, from either side; and an LRU map beside an exact LRU."""

import os
import struct
from collections import OrderedDict
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from helpers.errors import BpfError, describe
from helpers.maps import FLAGS
from helpers.program import Program, load
from helpers.widgets.view import View, as_text, button, choice, field

REQUEST = struct.Struct("<IIIIQq")  # struct request of bpf/explorer.bpf.c
OPS = ("lookup", "update", "delete")
SIDES = ("Python, by a system call", "the program in the kernel, by a helper")


class Step(NamedTuple):
    """One operation, and what it did to the map and to the dict."""

    what: str
    side: str
    map_said: str
    dict_said: str


class Explorer(View):
    """See ``explore()``."""

    def __init__(self, kind: str = "hash") -> None:
        if kind not in ("hash", "array"):
            raise ValueError(f"explore() takes hash or array, not {kind!r}.")
        self.program: Program = load("explorer.bpf.c")
        self.kind, self.map = kind, self.program[kind]
        self.dict: dict[int, int] = dict(self.map.items())
        self.steps: list[Step] = []
        super().__init__()

    def close(self) -> None:
        super().close()
        self.program.close()

    def step(self, op: str, key: int, value: int = 0, flags: str = "any", side: int = 0) -> Step:
        """Do it to both. ``side``: 0 for Python, 1 for the program in the kernel."""
        self.map.key.encode(key), self.map.value.encode(value)  # or it raises: they do not fit
        by_map = self._by_kernel if side else self._by_python
        what = f"{op} {key}" + (f" = {value}, {flags}" if op == "update" else "")
        done = Step(what, ("Python", "kernel")[side], "", "")
        try:
            told = by_map(op, key, value, flags)
        except BpfError as error:
            told = f"{error.errno_name}: {str(error).splitlines()[0]}"
        done = done._replace(map_said=told, dict_said=self._by_dict(op, key, value, flags))
        self.steps.append(done)
        return done

    def _by_python(self, op: str, key: int, value: int, flags: str) -> str:
        if op == "lookup":
            return str(self.map[key])
        if op == "update":
            self.map.update_elem(key, value, flags)
        else:
            del self.map[key]
        return "done"

    def _by_kernel(self, op: str, key: int, value: int, flags: str) -> str:
        ask = REQUEST.pack(OPS.index(op), self.kind == "array", key, FLAGS[flags], value, 0)
        answer = self.program.run("step", data=ask).data
        *_, found, result = REQUEST.unpack(answer)
        if op == "lookup":
            return str(found) if not result else "NULL"
        return "done" if not result else f"-{describe(-result)}"

    def _by_dict(self, op: str, key: int, value: int, flags: str) -> str:
        try:
            if op == "lookup":
                return str(self.dict[key])
            if op == "delete":
                del self.dict[key]
            elif flags == "noexist":
                self.dict.setdefault(key, value)
            elif flags == "any" or key in self.dict:
                self.dict[key] = value
        except KeyError:
            return f"KeyError: {key}"
        return "done"

    def act(self, action: str, given: Mapping[str, str]) -> None:
        key, value = int(given["key"], 0), int(given["value"] or "0", 0)
        self.step(given["op"], key, value, given["flags"], SIDES.index(given["side"]))

    def _rows(self) -> list[tuple[str, str, str]]:
        held = dict(self.map.items())
        return [
            (str(key), str(held.get(key, "")), str(self.dict.get(key, "")))
            for key in sorted({*held, *self.dict})
        ]

    def body(self) -> str:
        rows = "".join(
            f'<tr data-key="{key}"><td>{key}</td>'
            f"<td{_moved(ours, theirs)}>{ours}</td><td>{theirs}</td></tr>"
            for key, ours, theirs in self._rows()
        )
        steps = "".join(
            f'<tr data-key="step{i}">'
            + "".join(f'<td class="word">{escape(word)}</td>' for word in one)
            + "</tr>"
            for i, one in reversed([*enumerate(self.steps, 1)][-6:])
        )
        heads = "".join(f'<th class="word" scope="col">{w}</th>' for w in HEADS)
        return (
            f"<table><caption>{escape(repr(self.map))}, beside a dict</caption><thead><tr>"
            '<th scope="col">key</th><th scope="col">map</th><th scope="col">dict</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>{self._form()}"
            f"<table><caption>What you did, the last first</caption><thead><tr>{heads}</tr></thead>"
            f"<tbody>{steps}</tbody></table>"
        )

    def _form(self) -> str:
        flags = [name for name in FLAGS if name != "lock"]
        parts = [
            choice("op", OPS, "update", "operation"),
            field("key", 1, "key"),
            field("value", 10, "value"),
            choice("flags", flags, "any", "flags"),
            choice("side", SIDES, SIDES[0], "by"),
            '<button type="submit">do it</button>',
        ]
        return f'<form data-act="step" data-key="form">{"".join(parts)}</form>'

    def text(self) -> str:
        held = [repr(self.map), as_text(["key", "map", "dict"], self._rows())]
        return "\n".join([*held, *([as_text(HEADS, self.steps)] if self.steps else [])])


HEADS = ["operation", "from", "the map said", "the dict said"]


def _moved(ours: str, theirs: str) -> str:
    return "" if ours == theirs else ' class="moved"'


def explore(kind: str = "hash") -> Explorer:
    """A new map with room for four, "hash" or "array", beside a dict: do the same to both.

    Each operation goes by a system call from Python, or by a helper from a program in the kernel;
    the answers stand side by side. ``noexist`` is ``dict.setdefault()``, which does not complain.
    """
    return Explorer(kind)


class LruExplorer(View):
    """See ``explore_lru()``."""

    def __init__(self, size: int = 10) -> None:
        self.cpu = min(os.sched_getaffinity(0))
        self.program: Program = load("lru.bpf.c", defines={"FLOWS": size})
        self.map, self.size, self.newest = self.program["cache"], size, 0
        self.exact: OrderedDict[int, bool] = OrderedDict()
        super().__init__()

    def close(self) -> None:
        super().close()
        self.program.close()

    def use(self, key: int) -> None:
        """A packet of this flow: the program looks it up, and inserts it when it is new."""
        from helpers import sandbox

        frame = sandbox.udp(sport=key)
        # Each CPU keeps places of its own at hand: one CPU, so that what you see is the LRU.
        sandbox.on_cpus([self.cpu], lambda: self.program.run("remember", data=frame))
        self.newest = max(self.newest, key)
        self.exact[key] = True
        self.exact.move_to_end(key)
        if len(self.exact) > self.size:
            self.exact.popitem(last=False)

    def act(self, action: str, given: Mapping[str, str]) -> None:
        many = {"insert": 1, "insert5": 5}.get(action, 0)
        for _ in range(many):
            self.use(self.newest + 1)
        if action == "touch":
            self.use(int(given["flow"]))

    def lives(self) -> list[tuple[int, bool, bool]]:
        """Each flow that was ever seen: is it in the kernel's map, is it in the exact LRU?"""
        held = set(self.map)
        return [(key, key in held, key in self.exact) for key in range(1, self.newest + 1)]

    def body(self) -> str:
        rows = "".join(
            f'<tr data-key="{key}"><td>{key}</td><td{_moved(str(a), str(b))}>{_word(a)}</td>'
            f"<td>{_word(b)}</td><td>{button('touch', f'send flow {key}', flow=key)}</td></tr>"
            for key, a, b in self.lives()[-24:]
        )
        heads = "".join(f'<th scope="col">{w}</th>' for w in ("flow", "LRU hash", "exact LRU", ""))
        count = sum(a for _, a, _ in self.lives())
        return (
            f"<table><caption>{escape(repr(self.map))}. It holds {count}, the exact LRU "
            f"{len(self.exact)}.</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
            f'</table><div class="row">{button("insert", "send a new flow")}'
            f"{button('insert5', 'send five')}</div>"
        )

    def text(self) -> str:
        rows = [(key, _word(a), _word(b)) for key, a, b in self.lives()]
        return "\n".join([repr(self.map), as_text(["flow", "LRU hash", "exact LRU"], rows)])


def _word(there: bool) -> str:
    return "lives" if there else "gone"


def explore_lru(size: int = 10) -> LruExplorer:
    """An LRU hash of ``size``, beside an exact LRU: send packets of flows, see who lives.

    Each packet runs ``remember`` of bpf/lru.bpf.c in the kernel, on one CPU.
    """
    return LruExplorer(size)
