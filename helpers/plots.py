"""Pictures of frames and of memory: each has a title, units, and its content in words.

Every function returns a ``Picture``, which a cell shows when it is its last line. The colours
are those of Okabe and Ito, which colour-blind readers can tell apart; series differ in marker
and hatching too.

Source: Okabe and Ito, "Color Universal Design" (2008); matplotlib.
"""

import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from helpers.diagnostics import printable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# On a slow machine it tells of its first look for fonts, in the middle of a notebook.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
FILLS = ("#0072B2", "#E69F00", "#56B4E9", "#D55E00")  # as neighbours they differ when pale, too
MARKERS = "osD^vPX"
_INK, _GRID = "#222222", "#dddddd"
_WIDTH, _DPI = 7.0, 90  # inches, dots per inch
_LONGEST = 76  # characters of a text in a picture
_MOST_BYTES = 512  # of a layout that is still legible


class Layout(Protocol):
    """Where the members of a C type lie: what ``layout`` draws. Offsets and sizes in bytes."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def fields(self) -> list[tuple[str, int, int]]: ...
    @property
    def padding(self) -> list[tuple[int, int]]: ...


class Picture:
    """A matplotlib figure and ``alt``, a text that says what it shows.

    The text stands in wherever the picture is not seen. It names titles, units and series, and
    leaves out measured numbers, which differ from run to run.
    """

    def __init__(self, figure: "Figure", alt: str) -> None:
        self.figure, self.alt = figure, printable(alt)

    @property
    def axes(self) -> "list[Axes]":
        """matplotlib's own axes, to look at or to add to."""
        return list(self.figure.axes)

    def __repr__(self) -> str:
        return self.alt

    def png(self) -> bytes:
        """The picture as a PNG of some 5 KB; the same picture gives the same bytes."""
        from PIL import Image

        drawn, small = io.BytesIO(), io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=_DPI)
        # 64 colours look the same and take a third of the room in a committed notebook.
        Image.open(drawn).convert("RGB").quantize(64).save(small, "png", optimize=True)
        return small.getvalue()

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        content: dict[str, Any] = {"image/png": self.png(), "text/plain": self.alt}
        return content, {"image/png": {"alt": self.alt}}  # nbconvert puts it into its HTML


def bars(
    df: "pd.DataFrame",
    label: str | Sequence[str],
    value: str,
    *,
    title: str,
    unit: str,
    alt: str = "",
) -> Picture:
    """One horizontal bar a row, in the frame's order from the top, with its value beside it.

    ``label`` names the columns that make up a row's label: one column as it is; two joined by an
    arrow; four as ``address:port → address:port``, in the order address, address, port, port.
    Any other number is joined by commas. ``unit`` is what one of ``value`` is: "packets", "ns".

    Raises:
        KeyError: the frame has no such column.
        ValueError: the frame is empty, or has more rows than are legible (40).
    """
    columns = [label] if isinstance(label, str) else list(label)
    _check(df, [*columns, value])
    if len(df) > 40:
        raise ValueError(f"{len(df)} bars cannot be read: choose at most 40, as in df.head(40).")
    names = [_label(row) for row in df[columns].itertuples(index=False, name=None)]
    numbers = list(df[value])
    figure, axes = _figure(0.9 + 0.3 * len(df), title)
    places = range(len(names))
    drawn = axes.barh(places, numbers, height=0.7, color=COLOURS[0])
    axes.set_yticks(places, list(map(_words, names)))
    axes.invert_yaxis()
    axes.bar_label(drawn, [_number(number) for number in numbers], padding=4, color=_INK)
    axes.set_xlabel(_words(_with_unit(value, unit)))
    axes.margins(x=0.12, y=0.02)
    _plain(axes.xaxis, df[value])
    axes.grid(axis="x", color=_GRID)
    many = "bar" if len(df) == 1 else "bars"
    said = f"{len(df)} horizontal {many}, one a row of {', '.join(columns)}"
    return Picture(figure, alt or f"{title}. {said}; the length is {_with_unit(value, unit)}.")


def lines(
    df: "pd.DataFrame",
    x: str,
    y: str,
    by: str | None = None,
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    log: bool = True,
    alt: str = "",
) -> Picture:
    """One line for each value of the column ``by``, named at its right end.

    Rows are drawn in the order of ``x``. ``log`` gives both axes a logarithmic scale, on which
    equal ratios are equal distances. Write the unit into the labels: "entries", "ns per lookup".

    Raises:
        KeyError: the frame has no such column.
        ValueError: the frame is empty; more than 7 lines; zero or less on a logarithmic scale.
    """
    _check(df, [x, y, *([by] if by else [])])
    series = dict(list(df.groupby(by, sort=False))) if by else {"": df}
    if len(series) > len(COLOURS):
        raise ValueError(f"{len(series)} lines cannot be told apart: choose {len(COLOURS)}.")
    if log and (df[[x, y]] <= 0).any(axis=None):
        raise ValueError("A logarithmic scale has no place for 0 or less: give log=False.")
    figure, axes = _figure(3.5, title)
    ends: list[End] = []
    for (name, rows), colour, marker in zip(series.items(), COLOURS, MARKERS, strict=False):
        rows = rows.sort_values(x, kind="stable")
        axes.plot(rows[x], rows[y], color=colour, marker=marker, markersize=5, label=_words(name))
        ends.append(End(_words(name), float(rows[x].iloc[-1]), float(rows[y].iloc[-1]), colour))
    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    for axis, column in ((axes.xaxis, x), (axes.yaxis, y)):
        _plain(axis, df[column], log)
    axes.set_xlabel(_words(xlabel))
    axes.set_ylabel(_words(ylabel))
    axes.grid(color=_GRID)
    if by:
        _name_ends(figure, axes, ends)
    scale = " on logarithmic scales" if log else ""
    said = f"Lines of {ylabel} against {xlabel}{scale}"
    each = f", one for each {by}: {'; '.join(map(str, series))}" if by else ""
    return Picture(figure, alt or f"{title}. {said}{each}.")


def _plain(axis: "Axis", numbers: "pd.Series[float]", log: bool = False) -> None:
    """Ticks as people write numbers: 2,000, no 2 × 10³, and no halves of what comes in ones."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if numbers.dtype.kind not in "iuf":  # times, or names
        return
    if log:
        narrow = numbers.max() < 100 * numbers.min()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
        axis.set_minor_formatter(NullFormatter())
    elif numbers.dtype.kind in "iu":
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    axis.set_major_formatter("{x:,.10g}")


def grid(df: "pd.DataFrame", *, title: str, alt: str = "") -> Picture:
    """The frame as a table in which a row changes its colour where its value does.

    Read a row from left to right: as long as the value stays, so does the colour, and a thick line
    stands where it changes. Values are written as they are; index and columns name the rows and
    columns.

    Raises:
        ValueError: the frame is empty, or has more cells than are legible (12 columns, 40 rows).
    """
    if df.empty or df.shape[0] > 40 or df.shape[1] > 12:
        raise ValueError(f"A grid of {df.shape[0]} × {df.shape[1]} cells cannot be read.")
    figure, axes = _figure(0.7 + 0.36 * len(df), title)
    for row, values in enumerate(df.itertuples(index=False, name=None)):
        turns = 0
        for column, value in enumerate(values):
            changed = column > 0 and value != values[column - 1]
            turns += changed
            colour = FILLS[turns % len(FILLS)]
            axes.barh(row, 1, left=column, height=0.9, color=colour, alpha=0.25)
            if changed:
                axes.plot([column] * 2, [row - 0.45, row + 0.45], color=_INK, linewidth=2)
            axes.text(column + 0.5, row, _words(value), ha="center", va="center", color=_INK)
    axes.set_xlim(0, df.shape[1])
    axes.set_xticks([column + 0.5 for column in range(df.shape[1])], list(map(_words, df.columns)))
    axes.set_yticks(range(len(df)), list(map(_words, df.index)))
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(_words(title), loc="left", color=_INK, pad=24)
    said = f"A table with a row for each of {', '.join(map(str, df.index))}"
    return Picture(figure, alt or f"{title}. {said}; a row changes colour where its value does.")


def flame(
    df: "pd.DataFrame",
    stack: str,
    value: str,
    *,
    title: str,
    unit: str,
    mark: str = " [k]",
    alt: str = "",
) -> Picture:
    """A flame graph: a box a function, as wide as the sum of ``value`` of the stacks through it.

    Each row's ``stack`` is a sequence of names, the outermost first, which is drawn lowest; a
    function stands on its caller. Order from left to right is that of the alphabet, and means
    nothing. Names that end with ``mark``, those of the kernel, have another colour and hatching.
    A function of less than 1 in 400 is left out: nobody would see it.

    Raises:
        KeyError: the frame has no such column.
        ValueError: the frame is empty, or all its values are zero.

    Source: Gregg, "The Flame Graph", CACM 59(6), 2016.
    """
    from matplotlib.patches import Rectangle

    _check(df, [stack, value])
    widths: dict[tuple[str, ...], float] = {}
    for names, number in zip(df[stack], df[value], strict=True):
        for depth in range(len(names) + 1):
            path = tuple(names[:depth])
            widths[path] = widths.get(path, 0) + number
    total = widths.pop(())
    if not total:
        raise ValueError(f"The column {value!r} holds nothing but zeros: there is nothing to draw.")
    rows = max((len(path) for path, wide in widths.items() if wide >= total / 400), default=0)
    figure, axes = _figure(1.0 + 0.27 * rows, title)
    ends: dict[tuple[str, ...], float] = {(): 0}  # how far what stands on a function reaches
    for path in sorted(widths):
        left, wide, height = ends[path[:-1]], widths[path], len(path) - 1
        ends[path], ends[path[:-1]] = left, left + wide
        if wide < total / 400:
            continue
        box = Rectangle((left, height), wide, 1, edgecolor=_INK, linewidth=0.5)
        box.set_facecolor(COLOURS[4])
        if path[-1].endswith(mark):
            box.set(facecolor=COLOURS[1], hatch="..")
        box.set_label(_words(path[-1]))
        axes.add_patch(box)
        letters = int(wide / total * 95)  # about 95 of them fill a row
        if letters >= 4:
            name = path[-1] if len(path[-1]) <= letters else path[-1][: letters - 1] + "…"
            place = left + wide / 2, height + 0.47
            text = axes.text(*place, _words(name), ha="center", va="center")
            text.set(fontsize=8, color=_INK)
            text.set_bbox({"facecolor": box.get_facecolor(), "edgecolor": "none", "pad": 0.5})
    axes.set(xlim=(0, total), ylim=(0, rows), xlabel=_words(_with_unit(value, unit)))
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    said = "A flame graph: each box is a function, on top of the one that called it"
    return Picture(figure, alt or f"{title}. {said}; its width is {_with_unit(value, unit)}.")


def layout(what: Any, *more: Any) -> Picture:
    """The bytes of C types, 8 a row (16 from 128 bytes on): members coloured, padding hatched.

    Takes one or more layouts of ``helpers.btf``, or maps, which show their key above their value.
    Members that share their bytes, as in a union, share their box.

    Raises:
        ValueError: a type of more than 512 bytes, which nobody could read.
    """
    types: list[tuple[str, Layout]] = []
    for one in (what, *more):
        is_map = hasattr(one, "key") and hasattr(one, "value")
        types += [("key: ", one.key), ("value: ", one.value)] if is_map else [("", one)]
    widths = []
    for _, one in types:
        if one.size > _MOST_BYTES:
            raise ValueError(f"{one.name} has {one.size} bytes; at most {_MOST_BYTES} are drawn.")
        widths.append(8 if one.size < 128 else 16)
    heights = [max(1, -(-one.size // width)) for (_, one), width in zip(types, widths, strict=True)]
    figure = _empty_figure(0.4 * sum(heights) + 0.75 * len(types))
    grid = figure.subplots(len(types), 1, squeeze=False, height_ratios=heights)
    said = []
    for axes, (role, one), rows, width in zip(grid[:, 0], types, heights, widths, strict=True):
        title = f"{role}{one.name}, {one.size} bytes"
        axes.set_title(_words(title), loc="left", color=_INK, fontsize=10)
        parts = _parts(one)
        _draw_bytes(axes, parts, rows, width)
        said.append(f"{title}: " + ", ".join(f"{name} {_span(at, n)}" for name, at, n, _ in parts))
    return Picture(figure, ". ".join(said) + ".")


class End(NamedTuple):
    """The right end of a line."""

    name: str
    x: float
    y: float
    colour: str


Part = tuple[str, int, int, bool]  # name, offset, bytes, is it padding


def _parts(one: Layout) -> list[Part]:
    """Cut a type into runs of bytes that belong to the same members, in order."""
    owners: list[list[str]] = [[] for _ in range(one.size)]
    for name, offset, size in one.fields:
        for byte in owners[offset : offset + size]:
            byte.append(name)
    hidden: set[int] = set()
    for offset, size in one.padding:
        hidden.update(range(offset, offset + size))
    parts: list[Part] = []
    for at, names in enumerate(owners):
        is_padding = at in hidden
        name = "padding" if is_padding else " or ".join(names)
        if parts and parts[-1][0] == name and parts[-1][3] == is_padding:
            parts[-1] = (name, parts[-1][1], parts[-1][2] + 1, is_padding)
        else:
            parts.append((name, at, 1, is_padding))
    return parts


def _span(offset: int, size: int) -> str:
    return f"at byte {offset}" if size == 1 else f"at bytes {offset} to {offset + size - 1}"


def _draw_bytes(axes: "Axes", parts: list[Part], rows: int, width: int) -> None:
    """Draw each part as one box a row, with as much of its name as fits."""
    from matplotlib.patches import Rectangle

    coloured = 0
    for name, offset, size, is_padding in parts:
        fill = "white" if is_padding else FILLS[coloured % len(FILLS)]
        coloured += not is_padding
        for row in range(offset // width, (offset + size - 1) // width + 1):
            start = max(offset - row * width, 0)
            stop = min(offset + size - row * width, width)
            box = Rectangle((start, row), stop - start, 1, edgecolor=_INK, linewidth=0.8)
            box.set(facecolor=fill, alpha=1.0 if is_padding else 0.45)
            if is_padding:
                box.set(hatch="////", edgecolor="#999999")
            axes.add_patch(box)
            letters = (stop - start) * 72 // width  # about 72 of them fill a row
            text = name if len(name) <= letters else name[: letters - 1] + "…"
            label = axes.text((start + stop) / 2, row + 0.5, _words(text), ha="center", va="center")
            label.set(fontsize=9, color=_INK)
            if is_padding:
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.set(xlim=(0, width), ylim=(rows, 0), ylabel="byte")
    axes.set_xticks([n + 0.5 for n in range(width)], [f"+{n}" for n in range(width)])
    axes.set_yticks([n + 0.5 for n in range(rows)], [str(n * width) for n in range(rows)])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _empty_figure(height: float) -> "Figure":
    # Not through pyplot, which would keep the figure and show it a second time.
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), facecolor="white", layout="constrained")


def _figure(height: float, title: str) -> "tuple[Figure, Axes]":
    figure = _empty_figure(height)
    axes = figure.subplots()
    axes.set_title(_words(title), loc="left", color=_INK)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _name_ends(figure: "Figure", axes: "Axes", ends: "list[End]") -> None:
    """Write each line's name beside its right end, with a thread to it where names make room."""
    figure.draw_without_rendering()  # fixes the scales, so that places are known
    points = 72 / figure.dpi
    ends = sorted(ends, key=lambda end: end.y)
    heights = [float(axes.transData.transform((end.x, end.y))[1]) * points for end in ends]
    for end, height, place in zip(ends, heights, _spread(heights, gap=13), strict=True):
        axes.annotate(
            end.name,
            (end.x, end.y),
            xytext=(16, place - height),
            textcoords="offset points",
            va="center",
            color=_INK,
            arrowprops={"arrowstyle": "-", "color": end.colour, "shrinkA": 0, "shrinkB": 4},
        )


def _spread(heights: list[float], gap: float) -> list[float]:
    """Move ascending heights as little as will keep them ``gap`` apart.

    Where they are too close they share their mean: isotonic regression, by pooling neighbours.
    """
    pools: list[tuple[float, int]] = []  # mean height less the gaps below, and how many
    for below, height in enumerate(heights):
        mean, count = height - below * gap, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean = (mean * count + other * more) / (count + more)
            count += more
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [mean + below * gap for below, mean in enumerate(flat)]


def _check(df: "pd.DataFrame", columns: list[str]) -> None:
    for column in columns:
        if column not in df.columns:
            has = ", ".join(map(str, df.columns))
            raise KeyError(f"The frame has no column {column!r}. It has: {has}.")
    if df.empty:
        raise ValueError("The frame is empty: there is nothing to draw.")


def _label(values: tuple[Any, ...]) -> str:
    words = [str(value) for value in values]
    if len(words) == 4:
        return f"{words[0]}:{words[2]} → {words[1]}:{words[3]}"
    return (" → " if len(words) == 2 else ", ").join(words)


def _words(said: object) -> str:
    """What is written into a picture: one line that has an end, in which a dollar is a dollar, and
    begins no formula."""
    line = " ".join(printable(str(said)).split())
    line = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return line.replace("$", r"\$")


def _number(number: float) -> str:
    return f"{number:,.0f}" if number % 1 == 0 else f"{number:,.3g}"


def _with_unit(value: str, unit: str) -> str:
    return value if value == unit else f"{value} ({unit})"
