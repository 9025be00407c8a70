"""Programs that the verifier refuses, one for each rule, and what is expected of it.

``NN_name.bpf.c``, or ``NN_name.bcc.c``, says in its first lines what kernels do with it, the
newest last:

    /* refused: RULE */             or  accepted, or  clang: RULE
    /* accepted from 6.3 */         from that version on

The comment ``here`` stands on the line that is at fault, ``cause`` on the one that led to it.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from helpers import load
from helpers.errors import BpfError

FOLDER = Path(__file__).parent
_EXPECTS = re.compile(r"^/\* (accepted|refused|clang)(?: from (\d+)\.(\d+))?(?:: ([\w-]+))? \*/$")


class Expected(NamedTuple):
    """What a program comes to: who refuses it, by which rule, at which lines (0: none)."""

    verdict: str
    rule: str
    here: int
    cause: int


def names(*, compiled: bool = False) -> list[str]:
    """All programs, or those that clang does not refuse."""
    found = sorted(path.name for path in FOLDER.glob("*.b??.c"))
    return [n for n in found if not compiled or "/* clang:" not in (FOLDER / n).read_text()]


def expected(name: str, release: str) -> Expected:
    """What a kernel of that release is to say."""
    here = tuple(int(number) for number in re.findall(r"\d+", release)[:2])
    lines = (FOLDER / name).read_text().splitlines()
    found = None
    for line in lines:
        says = _EXPECTS.match(line)
        if says and (not says[2] or here >= (int(says[2]), int(says[3]))):
            found = says
    assert found, f"{name} does not say what is expected of it"
    if found[1] == "accepted":
        return Expected("accepted", "", 0, 0)
    return Expected(found[1], found[4], _marked(lines, "here"), _marked(lines, "cause"))


def _marked(lines: list[str], word: str) -> int:
    return next((i for i, line in enumerate(lines, 1) if f"/* {word}" in line), 0)


def verdicts() -> dict[str, Any]:
    """What this kernel says to each program that compiles: ``Expected``, and the whole text."""
    told = {name: verdict(name) for name in names(compiled=True)}
    return {name: [list(said), text] for name, (said, text) in told.items()}


def verdict(name: str) -> tuple[Expected, str]:
    try:
        load(FOLDER / name).close()
    except BpfError as error:
        found = error.diagnostic
        if found is None:
            return Expected(type(error).__name__, "", 0, 0), str(error)
        who = {"the kernel": "refused"}.get(found.who, found.who)
        here = found.here.number if found.here else 0
        cause = found.cause.number if found.cause else 0
        return Expected(who, found.rule, here or 0, cause or 0), str(error)
    return Expected("accepted", "", 0, 0), ""
