"""A few of the broken programs of fuzz.py; all of them: ``python -m tests.verifier.fuzz``."""

from pathlib import Path

from tests.verifier.fuzz import Broken, judge, run


def test_no_line_is_wrong_and_nothing_is_raised() -> None:
    tally = run(10, seed=1)
    assert not tally.wrong
    assert tally.refused == 10 and tally.named >= 5
    assert "raised" not in tally.kinds


def test_a_wrong_line_would_be_seen(monkeypatch: object) -> None:
    text = (Path(__file__).parent / "01_null_check.bpf.c").read_text()
    right = judge(Broken(Path("01_null_check.bpf.c"), text))
    assert right.named and not right.wrong
