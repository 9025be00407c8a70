"""A few of the broken programs of fuzz.py; all of them: ``python -m tests.verifier.fuzz``."""

import pytest

from helpers.lineinfo import Function, LineInfo, Place
from tests.verifier.fuzz import Broken, judge, run
from tests.verifier.programs import FOLDER


def test_no_line_is_wrong_and_nothing_is_raised() -> None:
    tally = run(25, seed=1)
    assert not tally.wrong
    assert tally.refused == 25 and tally.named >= 12
    assert "raised" not in tally.kinds


def test_a_wrong_line_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    sick = Broken(FOLDER / "01_null_check.bpf.c", (FOLDER / "01_null_check.bpf.c").read_text())
    right = judge(sick)
    assert right.named and not right.wrong
    place = LineInfo.place

    def one_too_low(self: LineInfo, function: Function, at: int) -> Place | None:
        found = place(self, function, at)
        return found and found._replace(line=found.line + 1)

    monkeypatch.setattr(LineInfo, "place", one_too_low)
    assert "it names ('01_null_check.bpf.c', 21)" in judge(sick).wrong
