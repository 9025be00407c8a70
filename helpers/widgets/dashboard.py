"""Rates over time, from any map that counts."""

import time
from collections import deque
from collections.abc import Mapping
from html import escape
from itertools import pairwise
from typing import Any

from helpers.maps import BpfMap
from helpers.widgets.view import View, as_text, button, choice

WINDOWS = {"10 s": 10.0, "30 s": 30.0, "2 min": 120.0}
DASHES = ("", "6 3", "2 2", "8 2 2 2")
WIDE, HIGH = 600, 160


class Dashboard(View):
    """See ``dashboard()``."""

    every = 0.5

    def __init__(self, source: BpfMap, value: str | None = None, lines: int = 4) -> None:
        self.map, self.field, self.count = source, value, lines
        self.paused, self.window = False, "30 s"
        self.looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=241)
        super().__init__()
        self.look()

    def look(self) -> None:
        """Read the map, and keep what it holds for two minutes."""
        self.looks.append((time.monotonic(), self._counts()))

    def _counts(self) -> dict[str, int]:
        return {_name(key): self._total(value) for key, value in self.map.items()}

    def _total(self, value: Any) -> int:
        if isinstance(value, list):
            return sum(map(self._total, value))
        return int(getattr(value, self.field) if self.field else value)

    def rates(self) -> dict[str, list[tuple[float, float]]]:
        """Each key's rate a second at each look of the window, whose end is second 0."""
        if not self.looks:
            return {}
        end, found = self.looks[-1][0], dict[str, list[tuple[float, float]]]()
        seen = [look for look in self.looks if end - look[0] <= WINDOWS[self.window]]
        for (before, old), (now, new) in pairwise(seen):
            for key, count in new.items():
                # A counter that was set back has no rate: what came since cannot be told.
                rate = max(count - old.get(key, 0), 0) / (now - before)
                found.setdefault(key, []).append((now - end, rate))
        return found

    def now(self) -> list[tuple[str, int, float]]:
        """The busiest keys: name, count, and rate a second over the window."""
        if not self.looks:
            return []
        rates, counts = self.rates(), self.looks[-1][1]
        mean = {key: sum(r for _, r in line) / len(line) for key, line in rates.items()}
        order = sorted(counts, key=lambda key: (-mean.get(key, 0), key))
        return [(key, counts[key], mean.get(key, 0.0)) for key in order[: self.count]]

    def act(self, action: str, given: Mapping[str, str]) -> None:
        if action == "pause":
            self.paused = not self.paused
        elif action == "window" and given["value"] in WINDOWS:
            self.window = given["value"]

    def body(self) -> str:
        self.map.fileno()  # raises Closed
        if not self.paused:
            self.look()
        shown, rates = self.now(), self.rates()
        top = max((rate for key, *_ in shown for _, rate in rates.get(key, [])), default=0) or 1
        span = WINDOWS[self.window]
        drawn, rows = list[str](), list[str]()
        for i, (key, count, rate) in enumerate(shown):
            points = " ".join(
                f"{WIDE * (1 + at / span):.1f},{HIGH - 4 - r / top * (HIGH - 24):.1f}"
                for at, r in rates.get(key, [])
            )
            dash = DASHES[i % len(DASHES)]
            style = f'class="line" stroke-width="2" stroke-dasharray="{dash}"'
            drawn.append(f'<polyline {style} points="{points}"/>')
            sample = f'<svg width="40" height="12"><path {style} d="M0 6h40"/></svg>'
            rows.append(
                f'<tr data-key="{escape(key)}"><td>{sample}</td><td class="word">{escape(key)}</td>'
                f"<td>{count:,}</td><td>{rate:,.1f}</td></tr>"
            )
        alt = escape("; ".join(f"{key}: {rate:,.1f} a second" for key, _, rate in shown))
        pause = button("pause", "go on" if self.paused else "pause")
        windows = choice("window", WINDOWS, self.window, "window", "window")
        heads = "".join(f'<th scope="col">{w}</th>' for w in ("line", *HEADS))
        return (
            f'<div class="row"><span>{escape(self.map.name)}, a second; the top is {top:,.1f}'
            f"{', paused' if self.paused else ''}</span>{pause}{windows}</div>"
            f'<svg viewBox="0 0 {WIDE} {HIGH}" width="{WIDE}" role="img" aria-label="{alt}">'
            f'<path class="line" d="M0 {HIGH - 4}h{WIDE}"/>{"".join(drawn)}</svg>'
            f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )

    def text(self) -> str:
        rows = [(key, f"{count:,}", f"{rate:,.1f}") for key, count, rate in self.now()]
        return "\n".join([f"{self.map.name}, over {self.window}", as_text(HEADS, rows)])


HEADS = ["key", "count", "a second"]


def _name(key: Any) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def dashboard(source: BpfMap, value: str | None = None, lines: int = 4) -> Dashboard:
    """Rates over time of a map that counts: the ``lines`` busiest keys, with pause and window.

    ``value``: the field that counts, where values are structs. Per-CPU counters are added up.
    """
    return Dashboard(source, value, lines)
