"""Every lab's check, proved: the starter, each solution and each wrong program get their due."""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers import lab, load
from tests.labs.often import first_line, identify, is_due, judge, programs

LABS = lab.folders()
SOLUTIONS = [path for folder in LABS for path in programs(folder, "solutions")]
WRONG = [path for folder in LABS for path in programs(folder, "wrong")]
verdicts: dict[Path, Future[lab.Result]] = {}


@pytest.fixture(scope="module", autouse=True)
def two_at_a_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check all programs that this run asks for, two at a time: each check is its own process."""
    with ThreadPoolExecutor(2) as pool:
        for item in request.session.items:
            path = getattr(item, "callspec", None) and item.callspec.params.get("path")
            if item.path == Path(__file__) and path:
                verdicts[path] = pool.submit(judge, path)
        yield
        pool.shutdown(cancel_futures=True)


def verdict(path: Path) -> lab.Result:
    return verdicts[path].result() if path in verdicts else judge(path)


@pytest.mark.parametrize("folder", LABS, ids=identify)
def test_a_lab_is_whole(folder: Path) -> None:
    ex = lab.open(folder.name)
    assert (folder / "lab.ipynb").is_file()
    assert ex.title and len(ex.hints) == 3 and all(ex.hints)
    assert len(ex.solutions()) >= 3 and len(ex.wrongs()) >= 8
    assert all(first_line(path, "solution") for path in ex.solutions())


@pytest.mark.parametrize("folder", LABS, ids=identify)
def test_the_starter_compiles_and_counts_as_not_attempted(folder: Path) -> None:
    for path in programs(folder, "starters"):
        load(path).close() if path.suffix == ".c" else compile(path.read_text(), path, "exec")
        assert is_due(path, judge(path))


@pytest.mark.parametrize("path", SOLUTIONS, ids=identify)
def test_a_solution_is_right(path: Path) -> None:
    result = verdict(path)
    assert is_due(path, result), result


@pytest.mark.parametrize("path", WRONG, ids=identify)
def test_a_wrong_program_is_told_what_is_wrong(path: Path) -> None:
    result = verdict(path)
    assert is_due(path, result), result


@pytest.mark.parametrize("folder", LABS, ids=identify)
def test_no_two_wrong_programs_are_told_the_same(folder: Path) -> None:
    """Numbers, names of files and protocols aside: they differ from run to run."""
    told: dict[str, Path] = {}
    for path in lab.open(folder.name).wrongs():
        text = repr(verdict(path))
        plain = re.sub(r"0x[0-9a-f]+|[\d.,:]+|TCP|UDP", "#", text.replace(path.name, ""))
        assert plain not in told, f"{path.name} and {told[plain].name} are both told: {text}"
        told[plain] = path
