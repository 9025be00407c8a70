"""A fault as a picture: which expression a column means, text and HTML, and nothing unescaped."""

import pickle
import re
from dataclasses import replace

import pytest

from helpers.diagnostics import CUT, FOLD, Diagnostic, Mark, argument, code, expression, word
from helpers.errors import VerifierError


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("\t*slot «+=» 1; /* here */", "*slot"),
        ("\tall->slots[slot]«++»; // more", "all->slots[slot]++"),
        ("\tif (eth->«h_proto» == 8)", "eth->h_proto"),
        ("\tif (data > end «-» 14)", "end - 14"),
        ("\treturn «*»address;", "*address"),
        ("\t«return» answer;", "return answer"),
        ("\tevent[at + 1].size «=» f(x);", "event[at + 1].size"),
        ("\tx = «bpf_map_lookup_elem»(&seen, &key);", "bpf_map_lookup_elem(&seen, &key)"),
        ("\t«if» (a && (b || c)) {", "if (a && (b || c))"),
        ("\tsum += «(»__u64)*at;", "(__u64)*at"),
        ("\tf(a «*» b->c[1], 2);", "a * b->c[1]"),
        ("\t«++»count;", "++count"),
        ("\tint *p «=» &x;", "p"),
        ("\treturn «-»1;", "-1"),
        ("\ta = \"(\" «+» 'x';", "\"(\" + 'x'"),
        ("«}» /* the end */", "}"),
        ("\tx = lookup(«a», (", "a"),
        ("\treturn f(a,« ", "return f(a,"),
    ],
)
def test_a_column_means_an_expression(text: str, meant: str) -> None:
    at = text.index("«")
    plain = text.replace("«", "").replace("»", "")
    start, end = expression(plain, at)
    assert plain[start:end] == meant


@pytest.mark.parametrize("text", ["", " ", "(((", ")))", "a[", "->", "*", "= =", "/* */", "»"])
def test_no_text_is_too_odd(text: str) -> None:
    for at in range(len(text) + 2):
        start, end = expression(text, at)
        assert 0 <= start <= end <= max(len(text), 1)


def test_one_argument_of_a_call() -> None:
    text = "\tx = f(&seen, (void *)key, g(1, 2));"
    found = [argument(text, text.index("f("), number) for number in range(1, 5)]
    assert [one and text[slice(*one)] for one in found] == ["&seen", "(void *)key", "g(1, 2)", None]
    assert argument("\tf(a,", 1, 1) is None  # it goes on in the next line
    assert argument("\ta = b;", 1, 1) is None


def test_words_and_code() -> None:
    assert word("return XDP_PAS;", 7) == (7, 14)
    assert word("return x", 8) == (8, 9)
    assert code("\tx = 1; // one") == (1, 7)


HERE = Mark("x.c", 4, "\t\t*v = 1;", 2, 4, "needs a check")
CAUSE = Mark("x.c", 2, "\tv = lookup();", 5, 13, "may be <NULL>")
FOUND = Diagnostic("it is NULL", "x.c", HERE, CAUSE, "write a < b", "R0 <bad>", log="a\n<b>\n")


def test_the_text_form() -> None:
    assert str(FOUND) == (
        "it is NULL\n"
        " --> x.c:4\n"
        "  |\n"
        "2 | v = lookup();\n"
        "  |     -------- may be <NULL>\n"
        "4 |         *v = 1;\n"
        "  |         ^^ needs a check\n"
        "  |\n"
        "help: write a < b\n"
        "(the kernel said: R0 <bad>)"
    )


def test_the_html_form_says_the_same_and_escapes_it() -> None:
    html = FOUND._repr_html_()
    assert re.findall(r"<(/?\w+)", html).count("details") == 1
    bare = re.sub(r"<[^>]*>", "", html).replace("&lt;", "<").replace("&gt;", ">")
    for line in str(FOUND).splitlines():
        assert line in bare
    assert "<b>\n" not in html and "<NULL>" not in html and "<bad>" not in html
    assert "var(--jp-error-color1" in html
    assert "a\n&lt;b&gt;" in html


def test_a_long_log_is_cut_in_front() -> None:
    long = replace(FOUND, log="x" * (FOLD + 5) + "end")
    html = long._repr_html_()
    assert f">{CUT}xx" in html and "end</pre>" in html
    assert len(long.fold) == FOLD
    assert replace(long, log=long.fold).fold == long.fold


def test_a_cause_in_the_same_line_or_in_another_file() -> None:
    same = replace(FOUND, cause=replace(HERE, start=7, end=8))
    assert str(same).count("*v = 1;") == 1
    other = str(replace(FOUND, cause=replace(CAUSE, file="y.h")))
    assert "2 | v = lookup();  (y.h)" in other


def test_a_cause_below_stands_below() -> None:
    rows = str(replace(FOUND, cause=replace(CAUSE, number=9))).splitlines()
    assert rows.index("4 |         *v = 1;") < rows.index("9 | v = lookup();")


def test_a_place_without_a_number() -> None:
    text = str(replace(FOUND, here=replace(HERE, number=None), cause=None))
    assert "--> x.c\n" in text and "| *v = 1;" in text
    assert str(replace(FOUND, here=None)).startswith("it is NULL\nhelp: ")


class Notebook:
    kernel, execution_count = object(), 3


def test_a_notebook_shows_the_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list[object]()
    monkeypatch.setattr("IPython.get_ipython", Notebook)
    monkeypatch.setattr("IPython.display.display", shown.append)
    error = VerifierError(FOUND, "count")
    assert error._render_traceback_() == ["VerifierError: it is NULL"]
    assert error._render_traceback_() == ["VerifierError: it is NULL"]
    assert shown == [FOUND]
    assert str(error) == str(FOUND)
    assert pickle.loads(pickle.dumps(error)).diagnostic == FOUND


def test_a_terminal_shows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.get_ipython", object)
    assert VerifierError(FOUND, "count")._render_traceback_() == [f"VerifierError: {FOUND}"]
