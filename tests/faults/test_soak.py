"""The runner of ./course test --soak tells of every round, and stops when it is told to."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests import plugin
from tests.faults import Part, soak


def test_every_round_is_told(tmp_path: Path) -> None:
    def one(number: int) -> None:
        assert number != 1, "wrong on purpose"
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    state = {"it": soak.Rounds(done=[], failed={}, seconds=0.0, begun=[3])}
    part = Part(one, rounds=5, short=0, unit="nothing", at_once=2)
    soak._run("it", part, state, tmp_path / "state")
    assert sorted(state["it"]["done"]) == [0, 1, 2, 3, 4]
    said = state["it"]["failed"]
    assert "wrong on purpose" in said.pop("1")
    assert said == {"2": "the round's process died", "3": "the whole run died in this round"}


def test_it_stops_after_the_rounds_that_run_and_goes_on_later(tmp_path: Path) -> None:
    def one(number: int) -> None:
        if number == 0:
            os.kill(os.getppid(), signal.SIGINT)
        time.sleep(0.2)
        (tmp_path / str(number)).touch()

    state: dict[str, soak.Rounds] = {}
    part = Part(one, rounds=4, short=0, unit="nothing", at_once=2)
    with pytest.raises(KeyboardInterrupt):
        soak._run("it", part, state, tmp_path / "state")
    done = state["it"]["done"]
    assert 0 < len(done) < 4 and not state["it"]["begun"] and not state["it"]["failed"]
    assert {path.name for path in tmp_path.glob("[0-9]")} == {*map(str, done)}
    soak._run("it", part, state, tmp_path / "state")
    assert sorted(state["it"]["done"]) == [0, 1, 2, 3]


def test_what_is_known_is_never_half_written(tmp_path: Path) -> None:
    """Who is killed while it is written has what was there before."""
    path = tmp_path / "state"
    path.write_text("before")
    with path.open() as before:
        soak._run("it", Part(lambda _: None, rounds=1, short=0, unit="nothing"), {}, path)
        assert before.read() == "before"
    assert '"done": [0]' in path.read_text()


def test_only_the_parts_that_were_chosen_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def one(number: int) -> None:
        raise AssertionError("wrong on purpose")

    part = Part(lambda _: None, rounds=1, short=0, unit="nothing")
    monkeypatch.setattr(soak, "parts", lambda: {"good": part, "bad": replace(part, one=one)})
    monkeypatch.setattr(plugin, "_left", dict)
    monkeypatch.setattr(plugin, "still_there", lambda before: before)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        assert [soak.main([name]) for name in ("good", "bad", "good")] == [0, 1, 0]
    finally:
        for number, handler in before:
            signal.signal(number, handler)
