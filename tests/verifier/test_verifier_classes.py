"""One program for each rule, on the kernel at hand: the rule, the line, the line that led to it."""

import platform
import re

import pytest

from helpers.rules import RULES
from tests.verifier.programs import FOLDER, expected, names, verdict

NAMES = names()


@pytest.mark.parametrize("name", NAMES)
def test_a_program_is_told_what_is_wrong(name: str) -> None:
    said, text = verdict(name)
    assert said == expected(name, platform.release()), text
    if said.verdict != "accepted":
        assert "\nhelp: " in text and "{" not in text.split("help: ")[1].split("\n")[0].replace(
            "{}", ""
        )


def test_every_rule_has_a_program_or_a_log() -> None:
    """A rule that nothing was ever refused by is a guess."""
    met = {word for name in NAMES for word in re.findall(r": ([\w-]+) \*/", _head(name))}
    logs = (FOLDER.parent / "unit/test_verifier.py").read_text()
    for rule in RULES:
        assert rule.name in met or f'"{rule.name}"' in logs, rule.name


def _head(name: str) -> str:
    return "".join((FOLDER / name).read_text().splitlines(keepends=True)[:6])
