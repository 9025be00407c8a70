"""Ratios inside one run: what is compared takes turns, so that the machine cancels out.

What is measured is CPU time, of this process, of the kernel for it, and of its children. Nothing
here waits for anything but a CPU, so that alone it is the same as time on the clock; on a machine
with other work it is still the same.
"""

import gc
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

GOOD, BAD, NEUTRAL = "#0072b2", "#d55e00", "#999999"  # told apart by every kind of eye


class Work(NamedTuple):
    """Something to time; ``before`` is not timed."""

    run: Callable[[], object]
    before: Callable[[], object] = lambda: None


class Row(NamedTuple):
    """One comparison. ``goal`` is the most times as long, or the least times as fast, as it."""

    what: str
    ours: float
    peer: str
    theirs: float
    goal: float | None
    bound: str  # what keeps it from being faster
    faster: bool = False  # the goal is to be faster than a peer, not near to a floor
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """Ours in theirs where the goal is to be faster, theirs in ours where it is to be near."""
        if self.faster:
            return self.theirs / self.ours
        return self.ours / self.theirs if self.theirs else self.ours

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.ratio >= self.goal if self.faster else self.ratio <= self.goal


def cpu_time() -> float:
    """Seconds of CPU so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def together(rounds: int, *works: Work | Callable[[], object]) -> list[float]:
    """Seconds of the least disturbed of some rounds of each, taking turns."""
    best, times = [float("inf")] * len(works), [1] * len(works)
    for _ in range(rounds):
        for i, one in enumerate(works):
            work = one if isinstance(one, Work) else Work(one)
            work.before()
            with no_collector():
                start, result = cpu_time(), None
                for _ in range(times[i]):
                    result = None  # before the next one asks for memory
                    result = work.run()
                taken = (cpu_time() - start) / times[i]
            del result  # in nobody's time
            best[i] = min(best[i], taken)
            if one is not work:  # what is short is done several times in a row, the caches warm
                times[i] = max(1, int(0.005 / best[i]))
    return best


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- what is shown ------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The rows as text, in columns."""
    lines = [("what", "ours", "against", "theirs", "ratio", "goal", "met", "what bounds it")]
    for row in rows:
        lines.append(
            (
                row.what,
                amount(row.ours, row.unit),
                row.peer,
                amount(row.theirs, row.unit),
                f"{row.ratio:.2f}" if row.ratio < 10 else f"{row.ratio:.0f}",
                "" if row.goal is None else f"{'≥' if row.faster else '≤'} {row.goal:g}",
                {True: "yes", False: "NO", None: ""}[row.met],
                row.bound,
            )
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{x:{a}{w}}" for x, a, w in zip(line, "<><>>><<", widths, strict=True)).rstrip()
        for line in lines
    )


def amount(number: float, unit: str) -> str:
    if unit != "s":
        return f"{number:,.4g} {unit}".strip()
    factor, name = next(
        (f, n) for f, n in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")) if number * f >= 1
    )
    return f"{number * factor:.3g} {name}"


def machine() -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def save(rows: list[Row], about: dict[str, Any], folder: Path) -> list[Path]:
    """Write ``bench.json`` and ``bench.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = [row._asdict() | {"ratio": row.ratio, "met": row.met} for row in rows]
    paths = [folder / "bench.json", folder / "bench.png"]
    paths[0].write_text(json.dumps(about | {"rows": found}, indent=1, ensure_ascii=False) + "\n")
    plot(rows, paths[1])
    return paths


def plot(rows: list[Row], path: Path) -> None:
    """Two panels: how many times as fast as the peers, and how near to the floors."""
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.unit]
    sides = [[r for r in shown if r.faster], [r for r in shown if not r.faster]]
    height = 0.42 * max(map(len, sides)) + 1.2
    figure = Figure(figsize=(13, height), layout="constrained", dpi=100)
    for axes, side in zip(figure.subplots(1, 2), sides, strict=True):
        places = list(range(len(side)))[::-1]
        colors = [{True: GOOD, False: BAD, None: NEUTRAL}[row.met] for row in side]
        axes.barh(places, [row.ratio for row in side], color=colors, height=0.6)
        for row, at in zip(side, places, strict=True):
            if row.goal is not None:
                axes.plot([row.goal] * 2, [at - 0.4, at + 0.4], color="black", linewidth=2)
            end = max(row.ratio, row.goal or 0)  # the number stands clear of both
            axes.text(end, at, f"  {row.ratio:.3g} ×", fontsize=8, va="center")
        axes.set_yticks(places, [f"{row.what}\n{row.peer}" for row in side], fontsize=7)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    fast, near = figure.axes
    fast.set(xscale="log", xlim=(0.5, None))
    fast.set_title("How many times as fast as the other way (line: goal)", fontsize=10)
    near.set_title("How many times as long, or as much, as the floor (line: goal)", fontsize=10)
    figure.savefig(path)
