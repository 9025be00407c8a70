"""Pictures: what their axes hold, what their words say, how large they are."""

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from matplotlib.text import Text
from PIL import Image

from helpers import load, plots

CONNECTIONS = pd.DataFrame(
    {
        "saddr": ["10.0.0.1", "10.0.0.1", "10.0.0.3"],
        "daddr": ["10.0.0.2"] * 3,
        "sport": [4000, 4001, 4000],
        "dport": [80, 80, 443],
        "packets": [12, 3_400, 7],
        "share": [0.25, 0.5, 0.125],
    }
)
COSTS = pd.DataFrame(
    {
        "entries": [1000, 10, 100, 10, 100, 1000],
        "way": ["dict", "dict", "dict", "map", "map", "map"],
        "ns": [40.0, 30.0, 35.0, 900.0, 910.0, 950.0],
    }
)


def conn(size: int = 24) -> SimpleNamespace:
    """struct conn: two members that share their bytes, and two gaps."""
    fields = [("saddr", 0, 4), ("daddr", 0, 4), ("proto", 4, 1), ("bytes", 8, 8), ("ok", 16, 1)]
    return SimpleNamespace(
        name="struct conn", size=size, fields=fields, padding=[(5, 3), (17, size - 17)]
    )


def texts(picture: plots.Picture) -> list[str]:
    return [text.get_text() for axes in picture.axes for text in axes.texts]


def test_bars_draw_each_row_with_its_label_and_value() -> None:
    label = ["saddr", "daddr", "sport", "dport"]
    picture = plots.bars(CONNECTIONS, label, "packets", title="Per connection", unit="packets")
    (axes,) = picture.axes
    assert [bar.get_width() for bar in axes.patches] == [12, 3400, 7]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "10.0.0.1:4000 → 10.0.0.2:80",
        "10.0.0.1:4001 → 10.0.0.2:80",
        "10.0.0.3:4000 → 10.0.0.2:443",
    ]
    assert axes.yaxis_inverted()  # the first row is at the top, as in the frame
    assert texts(picture) == ["12", "3,400", "7"]
    assert axes.get_title(loc="left") == "Per connection"
    assert axes.get_xlabel() == "packets"


def test_bars_take_one_or_two_columns_and_fractions() -> None:
    picture = plots.bars(CONNECTIONS, "sport", "share", title="Share", unit="of all")
    assert picture.axes[0].get_xlabel() == "share (of all)"
    assert texts(picture) == ["0.25", "0.5", "0.125"]
    two = plots.bars(CONNECTIONS, ["saddr", "daddr"], "packets", title="T", unit="packets")
    assert two.axes[0].get_yticklabels()[0].get_text() == "10.0.0.1 → 10.0.0.2"


def test_lines_draw_one_sorted_line_a_series_named_at_its_end() -> None:
    picture = plots.lines(
        COSTS, "entries", "ns", "way", title="Cost", xlabel="entries", ylabel="ns per lookup"
    )
    (axes,) = picture.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert drawn == {
        "dict": [[10, 30], [100, 35], [1000, 40]],
        "map": [[10, 900], [100, 910], [1000, 950]],
    }
    assert len({line.get_marker() for line in axes.lines}) == 2
    assert len({line.get_color() for line in axes.lines}) == 2
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("entries", "ns per lookup")
    assert sorted(texts(picture)) == ["dict", "map"]


def test_names_at_line_ends_do_not_touch() -> None:
    crowd = pd.DataFrame({"x": [1, 2] * 5, "y": [1, 1.0] * 5, "by": list("aabbccddee")})
    picture = plots.lines(crowd, "x", "y", "by", title="T", xlabel="x", ylabel="y", log=False)
    picture.png()
    # An annotation's own extent includes the thread to its line.
    extents = [Text.get_window_extent(text) for text in picture.axes[0].texts]
    boxes = sorted((extent.y0, extent.y1) for extent in extents)
    assert len(boxes) == 5
    for lower, upper in pairwise(boxes):
        assert lower[1] <= upper[0] + 1  # pixels


def test_spread_moves_as_little_as_it_must() -> None:
    assert plots._spread([0, 100], gap=10) == [0, 100]
    assert plots._spread([50, 50, 50], gap=10) == [40, 50, 60]
    assert plots._spread([0, 50, 52, 200], gap=10) == [0, 46, 56, 200]


def test_layout_covers_every_byte_once() -> None:
    picture = plots.layout(conn())
    (axes,) = picture.axes
    boxes = {
        (int(box.get_y()) * 8 + int(box.get_x()), int(box.get_width()), bool(box.get_hatch()))
        for box in axes.patches
    }
    assert boxes == {
        (0, 4, False),
        (4, 1, False),
        (5, 3, True),
        (8, 8, False),
        (16, 1, False),
        (17, 7, True),
    }
    assert texts(picture) == ["saddr or daddr", "proto", "padding", "bytes", "ok", "padding"]
    assert repr(picture) == (
        "struct conn, 24 bytes: saddr or daddr at bytes 0 to 3, proto at byte 4, "
        "padding at bytes 5 to 7, bytes at bytes 8 to 15, ok at byte 16, "
        "padding at bytes 17 to 23."
    )


def test_layout_of_a_map_on_this_kernel_shows_key_and_value() -> None:
    text = """
    #include <linux/bpf.h>
    #include <bpf/bpf_helpers.h>
    struct who { __u32 addr; __u8 proto; };
    struct seen { __u64 packets; char name[16]; };
    struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, 1);
        __type(key, struct who);
        __type(value, struct seen);
    } table SEC(".maps");
    char _license[] SEC("license") = "GPL";
    """
    with load(text=text) as prog:
        picture = plots.layout(prog["table"])
    assert [axes.get_title(loc="left") for axes in picture.axes] == [
        "key: struct who, 8 bytes",
        "value: struct seen, 24 bytes",
    ]
    assert "proto at byte 4, padding at bytes 5 to 7" in picture.alt
    assert "name at bytes 8 to 23" in picture.alt


def test_a_large_type_has_wide_rows_and_a_huge_one_is_refused() -> None:
    big = conn(130)
    axes = plots.layout(big).axes[0]
    assert {int(box.get_y()) for box in axes.patches} == set(range(9))  # 9 rows of 16
    assert axes.get_xlim() == (0, 16)
    with pytest.raises(ValueError, match="513 bytes; at most 512"):
        plots.layout(conn(513))


def test_a_picture_is_small_white_and_always_the_same() -> None:
    def make() -> plots.Picture:
        return plots.bars(CONNECTIONS, "sport", "packets", title="T", unit="packets")

    png = make().png()
    assert png == make().png()
    assert len(png) < 30_000
    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.width == 630
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_a_cell_gets_one_png_and_the_words() -> None:
    picture = plots.bars(CONNECTIONS, "sport", "packets", title="T", unit="packets")
    content, metadata = picture._repr_mimebundle_()
    assert set(content) == {"image/png", "text/plain"}
    assert content["text/plain"] == repr(picture) == metadata["image/png"]["alt"]
    assert repr(picture) == "T. 3 horizontal bars, one a row of sport; the length is packets."


def test_words_name_the_series_and_no_measured_number() -> None:
    labels = {"title": "Cost", "xlabel": "entries", "ylabel": "ns"}
    picture = plots.lines(COSTS, "entries", "ns", "way", **labels)
    assert repr(picture) == (
        "Cost. Lines of ns against entries on logarithmic scales, one for each way: dict; map."
    )
    assert repr(plots.lines(COSTS, "entries", "ns", "way", **labels, alt="Mine.")) == "Mine."


def test_wrong_frames_are_named() -> None:
    with pytest.raises(KeyError, match=r"no column 'port'. It has: saddr, daddr"):
        plots.bars(CONNECTIONS, ["port"], "packets", title="T", unit="packets")
    with pytest.raises(ValueError, match="empty"):
        plots.bars(CONNECTIONS[:0], "sport", "packets", title="T", unit="packets")
    with pytest.raises(ValueError, match="41 bars"):
        many = pd.concat([CONNECTIONS] * 14)[:41]
        plots.bars(many, "sport", "packets", title="T", unit="packets")
    labels = {"title": "T", "xlabel": "x", "ylabel": "y"}
    with pytest.raises(ValueError, match="log=False"):
        plots.lines(COSTS.assign(ns=0), "entries", "ns", "way", **labels)
    with pytest.raises(ValueError, match="8 lines"):
        eight = pd.DataFrame({"x": range(1, 9), "y": 1, "by": list("abcdefgh")})
        plots.lines(eight, "x", "y", "by", **labels)


def test_colours_differ_for_colour_blind_eyes_and_stay_off_pyplot() -> None:
    assert len(set(plots.COLOURS)) == len(set(plots.MARKERS)) == 7
    text = (
        "import sys; from helpers import plots; print('matplotlib' in sys.modules)\n"
        "import pandas; frame = pandas.DataFrame({'a': [1], 'b': [2]})\n"
        "plots.bars(frame, 'a', 'b', title='T', unit='b').png()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    home = Path(plots.__file__).parents[1]
    said = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, cwd=home, check=True
    )
    assert said.stdout.split() == ["False", "False"]


STACKS = pd.DataFrame(
    {
        "path": [("main", "a", "x [k]"), ("main", "b"), ("main", "a"), ("main", "b", "rare")],
        "samples": [20, 970, 9, 1],
    }
)


def test_flame_draws_each_function_on_its_caller() -> None:
    picture = plots.flame(STACKS, "path", "samples", title="Time", unit="samples")
    (axes,) = picture.axes
    boxes = {
        box.get_label(): (box.get_x(), box.get_y(), box.get_width(), bool(box.get_hatch()))
        for box in axes.patches
    }
    assert boxes == {  # "rare" is too narrow to be seen
        "main": (0, 0, 1000, False),
        "a": (0, 1, 29, False),
        "x [k]": (0, 2, 20, True),
        "b": (29, 1, 971, False),
    }
    assert texts(picture) == ["main", "b"]  # what has room for its name
    assert (axes.get_xlabel(), axes.get_ylim()) == ("samples", (0, 3))
    assert axes.get_title(loc="left") == "Time"
    assert "box is a function" in picture.alt
    assert len(picture.png()) < 12_000


def test_flame_cuts_long_names_and_refuses_nothing() -> None:
    long = pd.DataFrame({"path": [("f" * 300,)], "n": [1]})
    (name,) = texts(plots.flame(long, "path", "n", title="T", unit="samples"))
    assert name.endswith("f…")
    with pytest.raises(ValueError, match="nothing but zeros"):
        plots.flame(long.assign(n=0), "path", "n", title="T", unit="samples")
    with pytest.raises(KeyError, match="no column 'stack'"):
        plots.flame(long, "stack", "n", title="T", unit="samples")


def test_a_grid_marks_where_a_row_changes() -> None:
    df = pd.DataFrame(
        {"5.10": [5, "refused"], "6.1": [5, "taken"], "6.12": [9, "taken"]}, index=["left", "loop"]
    )
    picture = plots.grid(df, title="Kernels")
    [axes] = picture.axes
    assert [text.get_text() for text in axes.texts] == [
        *("5", "5", "9"),
        *("refused", "taken", "taken"),
    ]
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert [colours[i] == colours[i + 1] for i in (0, 1, 3, 4)] == [True, False, False, True]
    assert [list(line.get_xdata()) for line in axes.lines] == [[2, 2], [1, 1]]
    assert "left, loop" in repr(picture)
    with pytest.raises(ValueError, match="0 × 3 cells"):
        plots.grid(df[:0], title="None")
