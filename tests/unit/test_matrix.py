"""The table of notebooks by kernel, and what excuses a cell that does not run."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import cli, kernel
from helpers.vm import fetch
from tests import plugin


def report(cell: int, outcome: str, why: str = "") -> SimpleNamespace:
    return SimpleNamespace(
        nodeid=f"notebooks/06_x.ipynb::Cell {cell}",
        failed=outcome == "failed",
        skipped=outcome == "skipped",
        longrepr=("plugin.py", 1, f"Skipped: {why}"),
    )


def rows(tmp_path: Path, reports: list[SimpleNamespace], exitstatus: int = 0) -> dict[str, str]:
    tally = cli._Tally(tmp_path / "rows")
    for one in [*reports, SimpleNamespace(nodeid="tests/plugin.py::left", failed=0, skipped=0)]:
        tally.pytest_runtest_logreport(one)
    tally.pytest_sessionfinish(exitstatus)
    return json.loads((tmp_path / "rows").read_text())


def test_a_row_says_passed_or_what_was_missing_or_how_many_failed(tmp_path: Path) -> None:
    passed, failed = report(1, "passed"), report(5, "failed")
    lacking = [report(cell, "skipped", "needs wings: Linux 9.9 brings it") for cell in (3, 4)]
    assert rows(tmp_path, [passed]) == {"notebooks/06_x.ipynb": "passed"}
    assert rows(tmp_path, [passed, *lacking]) == {
        "notebooks/06_x.ipynb": "passed, but for 2 cells: needs wings: Linux 9.9 brings it"
    }
    assert rows(tmp_path, [passed, *lacking, failed]) == {"notebooks/06_x.ipynb": "1 failed"}


COURSE = """\
import json, os, signal, sys, time
from pathlib import Path
name = sys.argv[sys.argv.index("--kernel") + 1]
print("pytest on", name)
Path(os.environ["BPF_COURSE_TALLY"]).write_text(json.dumps({"notebooks/06_x.ipynb": name}))
if name == "6.12":
    time.sleep(100)
raise SystemExit(name == "latest")
"""


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A matrix as it is, but for what runs on each kernel, which is COURSE."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch, "present", lambda name: True)
    monkeypatch.setattr(fetch, "get", lambda name: SimpleNamespace(release=f"{name}.0"))
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{COURSE}")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in before:
        signal.signal(number, handler)


def test_a_matrix_ends_with_a_table_and_where_to_look(
    kernels: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SUITES", {"5.10": "", "6.1": "", "latest": ""})
    assert cli._test_everywhere([]) == 1
    *_, path, one, two, three, last = capsys.readouterr().out.splitlines()
    assert path == "notebooks/06_x.ipynb"
    said = [f"  {name}.0{'':{22 - len(name)}} {name}" for name in ("5.10", "6.1", "latest")]
    assert [one, two, three] == said
    assert last.startswith("latest.0 ended with 1: see ")
    assert Path(last.split()[-1]).read_text() == "pytest on latest\n"


def test_a_matrix_that_is_interrupted_ends_with_the_table_of_what_was_done(
    kernels: None, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT))
    stop.start()
    begun = time.monotonic()
    try:
        assert cli._test_everywhere([]) != 0
    finally:
        stop.cancel()
    assert time.monotonic() - begun < 20
    told = capsys.readouterr().out
    assert "6.12.0 ended with -2: see" in told
    assert told.index("\nnotebooks/06_x.ipynb\n") < told.index("  6.1.0  ")


def test_what_only_a_lane_installs_is_tested_in_it(
    kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def main(args: list[str]) -> int:
        asked.extend(args)
        return 0

    monkeypatch.setattr(pytest, "main", main)
    monkeypatch.setenv("BPF_COURSE_LANE", "")  # put back, like the folder and the signals
    monkeypatch.chdir(kernel.ROOT)
    assert cli.test(["--vagrant"]) == 0
    assert os.environ["BPF_COURSE_LANE"] == "--vagrant"
    paths = [arg for arg in asked if Path(arg).exists()]
    assert paths == ["tests/unit/test_vagrantfile.py", "tests/vagrant"]


class Cell:
    """As nbval collects it, as far as the plugin looks."""

    def __init__(self, tags: list[str], lane: str) -> None:
        self.cell = SimpleNamespace(metadata={"tags": tags})
        metadata = {"course": {"needs": ["atomic-fetch"]}}
        self.parent = SimpleNamespace(nb=SimpleNamespace(metadata=metadata))
        self.config = SimpleNamespace(option=SimpleNamespace(nbval_kernel_name=lane))
        self.path = SimpleNamespace(name="06_x.ipynb")
        self.stash: dict[object, bool] = {}
        self.reasons: list[str] = []

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.reasons.append(mark.kwargs["reason"])


@pytest.mark.parametrize(
    ("lane", "release", "reasons"),
    [
        ("", "6.18.0", ["needs kprobes (CONFIG_KPROBES): ./course test --kernel 6.1 06_x.ipynb"]),
        # A guest's kernel that is too old is excused, and one that is not runs the cell, and fails.
        ("linux-5.10", "4.0.1-amd64", ["needs kprobes (CONFIG_KPROBES): Linux 4.1 brings it"]),
        ("linux-5.10", "5.10.0-32-amd64", []),
    ],
)
def test_only_a_version_that_is_too_old_excuses_a_guest(
    lane: str, release: str, reasons: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BPF_COURSE_LANE", raising=False)
    monkeypatch.setattr(plugin, "_missing", lambda config: (release, {"kprobe"}))
    cell = Cell(["needs-kprobe"], lane)
    session = SimpleNamespace(config=cell.config)
    monkeypatch.setattr(
        plugin.NothingLeft, "from_parent", lambda parent, name, nodeid, look: SimpleNamespace()
    )
    plugin.pytest_collection_modifyitems(session, [cell])  # type: ignore[list-item, arg-type]
    assert cell.reasons == reasons
    assert bool(cell.stash) == bool(reasons and lane)


def test_what_a_notebook_and_its_cells_need_is_known() -> None:
    assert plugin._needed(Cell(["needs-kprobe", "raises-exception"], "")) == {  # type: ignore[arg-type]
        *("kprobe", "atomic-fetch")
    }
    assert {"kprobe", "atomic-fetch"} <= set(kernel.FEATURES)
