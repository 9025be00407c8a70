"""Text from who knows where runs in no page, and gives no terminal orders.

Names of maps, programs and functions, ``comm``, keys and values: all that shows itself is made of
the same hostile text. A class that shows itself and is not here fails the first test.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from matplotlib import cbook
from matplotlib.text import Text

import helpers
from helpers import attach, btf, cards, compiler, errors, kernel, lab, load, open_map, plots
from helpers import widgets as w
from helpers.diagnostics import Diagnostic, Mark
from helpers.events import Events
from helpers.maps import BpfMap
from helpers.program import Program
from helpers.widgets.bytes import BytesView
from helpers.widgets.dashboard import Dashboard
from helpers.widgets.explorer import Explorer, LruExplorer
from helpers.widgets.flame import Flame
from helpers.widgets.predict import Prediction, Reveal
from helpers.widgets.ring import RingView
from helpers.widgets.table import MapTable
from helpers.widgets.tail_calls import TailCalls

EVIL = "<img src=x onerror=alert(1)>\"'`><script>&lt;</td>$\\frac$ \x1b[2J\x07\u202e\r"
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct name { char text[80]; };
struct thing { char text[80]; __u64 count; char comm[16]; };
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct name);
	__type(value, struct thing);
} things SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
SEC("xdp") int pass(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""


class Page(HTMLParser):
    """What a page would make of HTML: the elements, their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.names, self.texts = set[str](), set[str](), list[str]()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.texts += [value for _, value in attrs if value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def harmless(html: str) -> None:
    page = Page(html)
    assert not page.tags & {"img", "script"} and not any(n.startswith("on") for n in page.names)
    whole = "".join(page.texts)
    assert "onerror=alert(1)" in whole  # it stands there as text


def quiet(text: str) -> None:
    assert all(one.isprintable() or one in "\n\t" for one in text), text
    assert "<img" in text


@pytest.fixture(scope="module")
def prog() -> Iterator[Program]:
    with load(text=SOURCE, name="shown.bpf.c") as loaded:
        loaded["things"][(EVIL,)] = (EVIL, 7, EVIL[:16])
        loaded.name = EVIL
        for one in loaded.maps.values():
            one.name = EVIL
        loaded._functions[EVIL] = loaded._functions.pop("pass")
        loaded.maps[EVIL] = loaded["things"]
        yield loaded


@pytest.fixture(scope="module")
def tails() -> Iterator[Program]:
    with load("tail_calls.bpf.c") as loaded:
        yield loaded


MARK = Mark(EVIL, 1, EVIL, 0, 5, EVIL)
STACKS = pd.DataFrame({"stack": [(EVIL, EVIL + " [k]")], "samples": [3]})
CARDS = [cards.Card, cards.NotAttempted, cards.Wrong, cards.Right, cards.NotChecked]
TYPED = "row leaf value key slot op flags side program path flow".split()
Make = Callable[[Program, Program], Any]


def a_view(view: Any) -> Any:
    """A view of the course's own map, under a hostile name."""
    view.map.name = EVIL
    return view


def tail_calls(_: Program, tails: Program) -> Any:
    tails["protocols"][0] = tails.function("count_tcp")
    tails["protocols"].name = EVIL
    return w.tail_calls(tails, tails["protocols"], tails["counts"], {"count_tcp": "tcp"})


def searched() -> Flame:
    view = w.flame(STACKS.rename(columns={"samples": EVIL}), "stack", EVIL)
    view.do("search", {"value": EVIL})
    return view


SHOWN: dict[type, Make] = {
    **{kind: lambda *_, kind=kind: kind(EVIL, EVIL, EVIL, EVIL) for kind in CARDS},
    Diagnostic: lambda *_: Diagnostic(EVIL, EVIL, MARK, MARK, EVIL, EVIL, EVIL, EVIL, log=EVIL),
    kernel.Report: lambda *_: kernel.Report([kernel.Finding(EVIL, False, EVIL, EVIL)]),
    lab.Progress: lambda *_: lab.Progress([(EVIL, EVIL, EVIL)]),
    Reveal: lambda *_: Reveal(EVIL, EVIL, EVIL, EVIL),
    Prediction: lambda *_: w.predict(EVIL, [EVIL, EVIL[1:]]),
    BpfMap: lambda prog, _: prog["things"],
    Program: lambda prog, _: prog,
    Events: lambda prog, _: prog.events("ring"),
    attach.Link: lambda *_: attach.Link(EVIL, lambda: None),
    btf.Layout: lambda *_: btf.Bytes(3, EVIL),
    compiler.Source: lambda *_: compiler.Source(EVIL),
    plots.Picture: lambda *_: plots.flame(STACKS, "stack", "samples", title=EVIL, unit=EVIL),
    BytesView: lambda prog, _: w.bytes_of(prog["things"]),
    Dashboard: lambda prog, _: w.dashboard(prog["things"], "count"),
    MapTable: lambda prog, _: w.table(prog["things"]),
    RingView: lambda prog, _: w.ring(prog["ring"]),
    Explorer: lambda *_: a_view(w.explore("hash")),
    LruExplorer: lambda *_: a_view(w.explore_lru()),
    TailCalls: tail_calls,
    Flame: lambda *_: searched(),
}
# They show nothing but what the course itself has named and counted.
OWN = {"Race", "Interface", "Pair", "View", "Lab", "BpfError", "Flow"}


def test_everything_that_shows_itself_is_tried_here() -> None:
    found = set[str]()
    for one in pkgutil.walk_packages(helpers.__path__, "helpers."):
        if not one.name.startswith("helpers.vm"):
            for kind in vars(importlib.import_module(one.name)).values():
                shows = {"__repr__", "__str__", "_repr_html_", "_repr_mimebundle_", "body"}
                own = isinstance(kind, type) and kind.__module__.startswith("helpers")
                if own and shows & {name for name in vars(kind) if not _made(kind, name)}:
                    found.add(kind.__name__)
    assert found >= OWN and found - OWN <= {kind.__name__ for kind in SHOWN}, found


def _made(kind: type, name: str) -> bool:
    """Did a dataclass or a namedtuple write it, which puts all text into quotes?"""
    params = getattr(kind, "__dataclass_params__", None)
    return name == "__repr__" and (hasattr(kind, "_fields") or bool(params and params.repr))


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_it_shows_hostile_text_as_text(kind: type, prog: Program, tails: Program) -> None:
    one = SHOWN[kind](prog, tails)
    try:
        quiet(repr(one))
        if hasattr(one, "_repr_html_"):
            harmless(one._repr_html_())
        if isinstance(one, w.View):
            harmless(one.body())
            for action in ("edit", "delete", "step", "fill", "zoom", "window", "search"):
                one.do(action, dict.fromkeys(TYPED, EVIL))
                harmless(one.draw())
    finally:
        if hasattr(one, "close") and one not in (prog, prog["things"]):
            one.close()


# --- pictures -------------------------------------------------------------------------------

ROWS = pd.DataFrame({EVIL: [EVIL, "$x$"], "n": [1, 2], "by": [EVIL, "$$"]}, index=[EVIL, "\\$"])
NAMED = {"title": EVIL, "alt": ""}
PICTURES: dict[str, Callable[[], plots.Picture]] = {
    "bars": lambda: plots.bars(ROWS, EVIL, "n", unit=EVIL, **NAMED),
    "four words": lambda: plots.bars(ROWS, [EVIL, "by", "by", "n"], "n", unit=EVIL, **NAMED),
    "lines": lambda: plots.lines(
        ROWS, "n", "n", "by", xlabel=EVIL, ylabel=EVIL, log=False, **NAMED
    ),
    "grid": lambda: plots.grid(ROWS, **NAMED),
    "flame": lambda: plots.flame(STACKS, "stack", "samples", unit=EVIL, **NAMED),
    "layout": lambda: plots.layout(btf.Bytes(3, EVIL), btf.Text(1 << 8)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_with_any_words(name: str) -> None:
    """A pair of dollars begins a formula in matplotlib, and one that is none ends in an error."""
    picture = PICTURES[name]()
    assert picture.png().startswith(b"\x89PNG")
    quiet(repr(picture))
    found = [text.get_text() for axes in picture.axes for text in axes.findobj(Text)]
    assert any("onerror" in text for text in found)
    assert all(cbook.is_math_text(text) is False for text in found), found


# --- errors ---------------------------------------------------------------------------------


def bad_c() -> None:
    load(text=f"#error {EVIL}", name="bad.bpf.c")


def refused_c() -> None:
    body = f"int *n = 0; return *n; /* {EVIL[:-1]} */"
    head = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
    load(text=f'{head}SEC("xdp") int f(void *c) {{ {body} }}')


FAILS: dict[str, Callable[[Program], object]] = {
    "missing key": lambda prog: prog["things"][("x" + EVIL,)],
    "full": lambda prog: prog["things"].update({("x" + EVIL,): (EVIL, 1, "")}),
    "wrong field": lambda prog: prog["things"].value.encode({EVIL: 1}),
    "too long": lambda prog: prog["things"].key.encode((EVIL * 2,)),
    "wrong flag": lambda prog: prog["things"].update_elem((EVIL,), (EVIL, 1, ""), flags=EVIL),
    "no map": lambda prog: prog[f"{EVIL}!"],
    "no program": lambda prog: prog.run(f"{EVIL}!"),
    "no interface": lambda prog: prog.attach(EVIL, EVIL),
    "no ring": lambda prog: prog.events("things"),
    "no map of that name": lambda _: open_map(name=EVIL),
    "no pin": lambda _: open_map(pin=EVIL),
    "pin elsewhere": lambda prog: prog["things"].pin(f"/tmp/{EVIL}"),
    "no unpin": lambda prog: prog["things"].unpin(EVIL.replace(".", "_")),
    "no file": lambda _: load(EVIL),
    "no name": lambda _: load(text="int x;", name=EVIL),
    "no lab": lambda _: lab.open(EVIL),
    "clang": lambda _: bad_c(),
    "verifier": lambda _: refused_c(),
}


@pytest.mark.parametrize("name", FAILS)
def test_an_error_says_it_quietly(name: str, prog: Program) -> None:
    with pytest.raises(errors.BpfError) as caught:
        FAILS[name](prog)
    error = caught.value
    assert "onerror" in str(error)
    quiet(f"<img {error} {error.args} {error._render_traceback_()}")
    if error.diagnostic:
        quiet(repr(error.diagnostic))
        harmless(error.diagnostic._repr_html_())
