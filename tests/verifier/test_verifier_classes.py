"""One program for each rule, on the kernel at hand: the rule, the line, the line that led to it."""

import functools
import platform

import pytest

from helpers import verifier, walk
from helpers.rules import RULES, Rule, Told, recognise
from tests.unit.test_verifier import OTHER_KERNELS, log_of
from tests.verifier.programs import Expected, expected, names, verdict

MET = list[Rule]()  # several rules may share a name


def noted(walked: walk.Walk) -> tuple[Rule, Told] | None:
    found = recognise(walked)
    MET.extend(found[:1] if found else [])
    return found


@functools.cache
def told(name: str) -> tuple[Expected, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "recognise", noted)
        return verdict(name)


@pytest.mark.parametrize("name", names())
def test_a_program_is_told_what_is_wrong(name: str) -> None:
    said, text = told(name)
    assert said == expected(name, platform.release()), text
    if said.verdict != "accepted":
        assert "\nhelp: " in text and "{" not in text.split("help: ")[1].split("\n")[0].replace(
            "{}", ""
        )


def test_every_rule_has_a_program_or_a_log() -> None:
    """A rule that nothing was ever refused by is a guess."""
    for name in names(compiled=True):
        told(name)
    for rule, words in OTHER_KERNELS:
        noted(walk.read(log_of(rule, words)))
    assert not [(one.name, one.says) for one in RULES if one not in MET]
