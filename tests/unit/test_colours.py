"""What colours tell apart, colour-blind readers tell apart too, in the light and the dark theme.

Sight without one kind of cone is simulated by the matrices of Machado, Oliveira and Fernandes,
"A Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1.0.
Distances are those of CIE 1976 in L*a*b*, in which some 2.3 is just to be seen.
"""

import re
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from helpers import plots
from helpers.kernel import ROOT
from tests.bench.measure import BAD, GOOD, NEUTRAL
from tests.unit.test_plots import conn

SIGHT = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
# JupyterLab's --jp-layout-color0, and 1 where that is another.
PAPER = {"light": "#ffffff", "dark": "#111111", "dark, a cell": "#212121"}
LEAST = 10.0
# sRGB in linear light to XYZ, over the white point D65: IEC 61966-2-1.
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
) / np.array([[0.95047], [1.0], [1.08883]])


def lab(colour: str | tuple[float, ...], paper: str, sight: np.ndarray) -> np.ndarray:
    """A colour, which may be translucent, on paper, as it is seen."""
    *rgb, alpha = to_rgba(colour)
    mixed = alpha * np.array(rgb) + (1 - alpha) * np.array(to_rgba(paper)[:3])
    light = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
    x, y, z = (XYZ @ np.clip(sight @ light, 0, 1)).tolist()
    f = [t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def too_close(
    pairs: list[tuple[str | tuple[float, ...], str | tuple[float, ...]]], paper: str
) -> list[str]:
    found = []
    for name, sight in SIGHT.items():
        for one, other in pairs:
            apart = float(np.linalg.norm(lab(one, paper, sight) - lab(other, paper, sight)))
            if apart < LEAST:
                found.append(f"{one} and {other} are {apart:.1f} apart by {name} on {paper}")
    return found


def test_the_measure_knows_what_people_mix_up() -> None:
    assert lab("#ffffff", "#000000", SIGHT["all cones"]) == pytest.approx([100, 0, 0], abs=0.1)
    assert lab("#ff0000", "#000000", SIGHT["all cones"]) == pytest.approx([53.2, 80.1, 67.2], abs=1)
    red_and_green = [("#d62728", "#6b7a1e")]
    said = too_close(red_and_green, "#ffffff")
    assert said and all("protanopia" in one or "deuteranopia" in one for one in said), said


def test_lines_of_a_plot() -> None:
    assert too_close(list(combinations(plots.COLOURS, 2)), "#ffffff") == []


def test_bars_of_the_bench() -> None:
    assert too_close(list(combinations([GOOD, BAD, NEUTRAL], 2)), "#ffffff") == []


def test_neighbours_among_the_members_of_a_struct() -> None:
    (axes,) = plots.layout(conn()).axes
    faces = [patch.get_facecolor() for patch in axes.patches if not patch.get_hatch()]
    assert len(faces) > 2
    assert too_close([p for p in pairwise(faces) if p[0] != p[1]], "#ffffff") == []


def test_neighbours_among_values_that_change() -> None:
    shown = plots.grid(pd.DataFrame([[*range(8)]]), title="x").axes[0]
    faces = [patch.get_facecolor() for patch in shown.patches]
    assert too_close(list(pairwise(faces)), "#ffffff") == []


@pytest.mark.parametrize("theme", PAPER)
def test_neighbours_among_bytes_and_boxes(theme: str) -> None:
    css = (ROOT / "helpers/widgets/view.css").read_text()
    fills = dict(
        re.findall(r"^\.course-view ([^{]*) \{\s*(?:background|fill): (#\w+);", css, re.MULTILINE)
    )
    kinds = [fills[f".kind{number}"] for number in range(4)]
    boxes = [fills[f"svg .box{kind}"] for kind in ("", ".other", ".found")]
    pairs = [*pairwise([*kinds, kinds[0]]), *combinations([PAPER[theme], *boxes], 2)]
    assert too_close(pairs, PAPER[theme]) == []
