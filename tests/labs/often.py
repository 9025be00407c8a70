"""Do the checks of the labs say the same each time? Put every program to them, again and again.

    .venv/bin/python -m tests.labs.often [LAB...] [--rounds N] [--jobs N] [--only KIND]

A starter must come out as not attempted, a solution as right, and a wrong program as wrong, with
the words that its first line expects. What came out otherwise is told as it happens, and counted in
the table at the end; then the exit status is 1.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tqdm import tqdm

from helpers import lab
from helpers.cards import NotAttempted, Result, Right, Wrong
from helpers.kernel import ROOT

KINDS = "starters", "solutions", "wrong"


class Run(NamedTuple):
    """One check of one program."""

    path: Path
    result: Result
    seconds: float


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT / "labs"))


def programs(folder: Path, kind: str) -> list[Path]:
    """The lab's programs of one of the ``KINDS``."""
    ex = lab.open(folder.name)
    starters = sorted(folder.glob("starter.*"))
    return {"starters": starters, "solutions": ex.solutions(), "wrong": ex.wrongs()}[kind]


def judge(path: Path) -> Result:
    """Put one of a lab's own programs to its check."""
    folder = next(folder for folder in lab.folders() if path.is_relative_to(folder))
    return lab.open(folder.name).check_file(path)


def first_line(path: Path, word: str) -> str:
    """What stands behind ``// word: `` in the first line of C, or ``# word: `` of Python."""
    begins = f"{'#' if path.suffix == '.py' else '//'} {word}: "
    first = path.read_text().partition("\n")[0]
    assert first.startswith(begins), f"{path} does not begin with {begins!r}"
    return first.removeprefix(begins)


def is_due(path: Path, result: Result) -> bool:
    """Did the program get what is due to it?"""
    if path.name.startswith("starter."):
        return isinstance(result, NotAttempted)
    if path.parent.name == "solutions":
        return isinstance(result, Right)
    return isinstance(result, Wrong) and first_line(path, "expect") in repr(result)


def timed(path: Path) -> Run:
    began = time.monotonic()
    result = judge(path)
    return Run(path, result, time.monotonic() - began)


def table(runs: dict[Path, list[Run]]) -> str:
    """A row a lab: its runs, those that were not as they should be, its median of seconds.

    Starters are not timed: no process is started for them.
    """
    rows = ["lab                        runs   amiss   median s"]
    seconds = list[float]()
    for folder, its in runs.items():
        took = [run.seconds for run in its if not run.path.name.startswith("starter.")]
        amiss = sum(not is_due(run.path, run.result) for run in its)
        middle = f"{median(took):8.2f}" if took else "       -"
        rows.append(f"{folder.name:24} {len(its):6,} {amiss:7}   {middle}")
        seconds += took
    if seconds:
        rows.append(f"median over all labs: {median(seconds):.2f} s")
    return "\n".join(rows)


def main(args: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.labs.often", description=__doc__)
    parser.add_argument("labs", nargs="*", help="numbers; all labs when there are none")
    parser.add_argument("--rounds", type=int, default=20, help="checks of each program")
    parser.add_argument("--jobs", type=int, default=2, help="checks at once")
    parser.add_argument("--only", choices=KINDS, help="programs of this kind alone")
    given = parser.parse_args([*args] if args is not None else None)
    folders = [lab.open(name).folder for name in given.labs] or lab.folders()
    kinds = [given.only] if given.only else KINDS
    runs = dict[Path, list[Run]]()
    for folder in folders:
        chosen = [path for kind in kinds for path in programs(folder, kind)] * given.rounds
        runs[folder] = []
        with ThreadPoolExecutor(given.jobs) as pool:
            for run in tqdm(pool.map(timed, chosen), folder.name, len(chosen), disable=None):
                runs[folder].append(run)
                if not is_due(run.path, run.result):
                    tqdm.write(f"{identify(run.path)}: {run.result!r}\n")
                    sys.stdout.flush()
    print(table(runs))
    return any(not is_due(run.path, run.result) for its in runs.values() for run in its)


if __name__ == "__main__":
    sys.exit(main())
