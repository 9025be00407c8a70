"""A flame graph to walk in: zoom, and search."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from helpers.widgets.view import View, button, search

if TYPE_CHECKING:
    import pandas as pd

Path = tuple[str, ...]
WIDTH, HEIGHT = 720, 20


class Flame(View):
    """See ``flame()``."""

    every = 3600.0  # a frame does not change

    def __init__(self, df: "pd.DataFrame", stack: str, value: str) -> None:
        self.widths: dict[Path, float] = {}
        for names, number in zip(df[stack], df[value], strict=True):
            for depth in range(len(names) + 1):
                path = tuple(names[:depth])
                self.widths[path] = self.widths.get(path, 0) + number
        if not self.widths.get(()):
            raise ValueError(f"The column {value!r} holds nothing but zeros: nothing to draw.")
        self.unit, self.zoom, self.search = value, Path(()), ""
        super().__init__()

    def boxes(self) -> list[tuple[Path, float, float]]:
        """Each function in sight: its path, where it begins, and how wide it is, from 0 to 1.

        In sight is what the zoomed function called, and who called it. Less than 1 in 400 is not.
        """
        total, deep = self.widths[self.zoom], len(self.zoom)
        found, ends = list[tuple[Path, float, float]](), dict[Path, float]()
        for path in sorted(self.widths):
            if path == self.zoom[: len(path)]:
                left, wide = 0.0, 1.0
            elif path[:deep] == self.zoom:
                left, wide = ends[path[:-1]], self.widths[path] / total
                ends[path[:-1]] = left + wide
            else:
                continue
            ends[path] = left
            if path and wide >= 1 / 400:
                found.append((path, left, wide))
        return found

    def matched(self) -> float:
        """The share of all samples with a function that the search finds in their stack."""
        hit = {path for path in self.widths if path and self._found(path[-1])}
        first = [p for p in hit if not any(p[:depth] in hit for depth in range(1, len(p)))]
        return sum(self.widths[path] for path in first) / self.widths[()]

    def _found(self, name: str) -> bool:
        return bool(self.search) and self.search.lower() in name.lower()

    def act(self, action: str, given: Mapping[str, str]) -> None:
        if action == "search":
            self.search = given["value"]
        elif action == "zoom":
            self.zoom = tuple(filter(None, given["path"].split("\x1f")))
            if self.zoom not in self.widths:
                self.zoom = ()

    def body(self) -> str:
        found = self.boxes()
        deepest = max((len(path) for path, _, _ in found), default=1)
        drawn = list[str]()
        for path, left, wide in found:
            x, y = left * WIDTH, (deepest - len(path)) * HEIGHT
            letters, name = int(wide * WIDTH / 8), path[-1]
            short = name if len(name) <= letters else name[: max(letters - 1, 0)] + "…"
            kind = "found" if self._found(name) else "other" if name.endswith(" [k]") else ""
            told = f"{name}: {self.widths[path]:,.0f} {self.unit}"
            drawn.append(
                f'<g tabindex="0" role="button" data-act="zoom" data-key="{escape(_key(path))}" '
                f'data-path="{escape(_key(path))}" aria-label="{escape(told)}">'
                f"<title>{escape(told)}</title>"
                f'<rect class="box {kind}" x="{x:.1f}" y="{y}" width="{wide * WIDTH:.1f}" '
                f'height="{HEIGHT}"/>'
                f'<text x="{x + 3:.1f}" y="{y + 15}">{escape(short) if letters > 2 else ""}</text>'
                "</g>"
            )
        height = deepest * HEIGHT
        return (
            f'<div class="row">{search("search", self.search)}'
            f"<span>{escape(self._told())}</span>{button('zoom', 'show all', path='')}</div>"
            f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">{"".join(drawn)}</svg>'
        )

    def _told(self) -> str:
        whole = f"{self.widths[()]:,.0f} {self.unit}"
        if self.search:
            return f"{self.matched():.0%} of {whole} match"
        return whole

    def text(self) -> str:
        lines = [self._told()]
        for path, _, wide in self.boxes():
            lines.append(f"{'  ' * (len(path) - 1)}{path[-1]} {wide:.0%}")
        return "\n".join(lines)


def _key(path: Path) -> str:
    return "\x1f".join(path)


def flame(df: "pd.DataFrame", stack: str, value: str) -> Flame:
    """A flame graph of stacks: choose a function to see it over the whole width; search by name.

    ``df``: a row a stack, ``stack`` its names from the outermost in, ``value`` its samples, as
    ``plots.flame`` takes them. Tab and Enter do what a click does.

    Raises:
        ValueError: the values are all zero.
    """
    return Flame(df, stack, value)
