"""One script against several tables, and figures that other work on the machine disturbs.

A table is anything with ``table[key]``: a dict, a ``BpfMap``.
"""

import time
from collections.abc import Callable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


class _Step(NamedTuple):
    line: str
    code: CodeType
    has_value: bool

    def outcome(self, scope: dict[str, Any]) -> str:
        try:
            value = eval(self.code, scope)
        except Exception as error:  # whatever it is, it is the outcome
            return type(error).__name__
        return repr(value) if self.has_value else "done"


def run(script: str, tables: Mapping[str, Any], **names: Any) -> "pd.DataFrame":
    """Run the lines of ``script`` against each table, which they call ``t``.

    A line is one whole statement or expression; empty lines and comments are left out. Lines see
    ``names``, and what lines before them assigned, for each table apart.

    One row a line, one column a table: the ``repr`` of an expression's value, "done" after a
    statement, the type of the exception that the line raised. ``same`` says whether all agree.

    Raises:
        SyntaxError: a line is not Python; nothing has run.
    """
    import pandas as pd

    lines = [line.strip() for line in script.splitlines()]
    steps = [_compile(line) for line in lines if line and not line.startswith("#")]
    outcomes = {}
    for title, table in tables.items():
        scope = {"t": table, **names}
        outcomes[title] = [step.outcome(scope) for step in steps]
    df = pd.DataFrame(outcomes, index=[step.line for step in steps])
    df["same"] = df.nunique(axis=1) <= 1
    return df


def _compile(line: str) -> _Step:
    try:
        return _Step(line, compile(line, "<script>", "eval"), True)
    except SyntaxError:
        return _Step(line, compile(line, "<script>", "exec"), False)


def until(measure: Callable[[], T], holds: Callable[[T], bool], tries: int = 10) -> T:
    """What the first ``measure()`` gave of which ``holds`` is true, else what the last one gave.

    Other work on the machine can hide a difference between two costs. It seldom makes one up.
    """
    for _ in range(tries):
        figures = measure()
        if holds(figures):
            break
    return figures


def ns(work: Callable[..., object], *args: Any) -> int:
    """Nanoseconds of the fastest, and so least disturbed, of several calls ``work(*args)``.

    It is called three times, or as often as fits into a fiftieth of a second.
    """
    times: list[int] = []
    while len(times) < 3 or sum(times) < 20_000_000:
        start = time.perf_counter_ns()
        work(*args)
        times.append(time.perf_counter_ns() - start)
    return min(times)
