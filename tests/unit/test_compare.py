"""helpers.compare: one script, several tables, one row a line."""

import time

import pytest

from helpers import compare


def test_an_outcome_is_a_value_done_or_the_type_of_an_exception() -> None:
    script = """
        t[1] = "one"
        t[1]
        t.get(2)
        t[2]
    """
    df = compare.run(script, {"dict": {}})
    assert list(df.index) == ['t[1] = "one"', "t[1]", "t.get(2)", "t[2]"]
    assert list(df["dict"]) == ["done", "'one'", "None", "KeyError"]


def test_same_is_true_where_all_tables_agree() -> None:
    df = compare.run("t[0]\nlen(t)", {"list": [7, 8], "dict": {0: 7}, "other": {0: 7}})
    assert list(df["same"]) == [True, False]


def test_lines_see_names_and_earlier_lines_of_their_own_table_only() -> None:
    df = compare.run("mine = t[0] + extra\nmine", {"a": [1], "b": [2]}, extra=10)
    assert list(df.loc["mine"][["a", "b"]]) == ["11", "12"]


def test_a_loop_on_one_line_is_a_statement_and_stops_at_its_exception() -> None:
    table = {1: 1, 2: 2}
    df = compare.run("for k in t: del t[k]", {"dict": table})
    assert df["dict"].item() == "RuntimeError"
    assert table == {2: 2}


def test_comments_and_empty_lines_are_left_out_and_lines_may_repeat() -> None:
    df = compare.run("# hello\n\nlen(t)\n\nlen(t)", {"dict": {}})
    assert list(df.index) == ["len(t)", "len(t)"]


def test_an_empty_script_gives_an_empty_table() -> None:
    assert compare.run("", {"dict": {}}).empty


def test_a_line_that_is_not_python_runs_nothing() -> None:
    table: dict[int, int] = {}
    with pytest.raises(SyntaxError):
        compare.run("t[1] = 1\nt[", {"dict": table})
    assert not table


def clock(monkeypatch: pytest.MonkeyPatch, *milliseconds: int) -> None:
    """Let the calls that ``ns`` measures take so long, one after the other."""
    readings = [at for ms in milliseconds for at in (0, ms * 1_000_000)]
    monkeypatch.setattr(time, "perf_counter_ns", lambda: readings.pop(0))


def test_ns_is_the_fastest_of_three_long_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 300, 200, 400)
    assert compare.ns(lambda: None) == 200_000_000


def test_ns_calls_a_short_one_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 5, 5, 5, 3, 5)
    seen: list[tuple[int, int]] = []
    assert compare.ns(lambda *args: seen.append(args), 1, 2) == 3_000_000
    assert seen == [(1, 2)] * 5
