"""The table of notebooks by kernel, and what excuses a cell that does not run."""

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


def test_a_row_says_passed_or_what_was_missing_or_how_many_failed() -> None:
    tally = cli._Tally()
    tally.pytest_runtest_logreport(SimpleNamespace(nodeid="tests/plugin.py::nothing", failed=True))
    for cell in range(3):
        tally.pytest_runtest_logreport(report(cell, "passed"))
    assert list(tally.failed) == ["notebooks/06_x.ipynb"]
    assert tally.said("notebooks/06_x.ipynb") == "passed"
    for cell in (3, 4):
        tally.pytest_runtest_logreport(report(cell, "skipped", "needs wings: Linux 9.9 brings it"))
    assert tally.said("notebooks/06_x.ipynb") == (
        "passed, but for 2 cells: needs wings: Linux 9.9 brings it"
    )
    tally.pytest_runtest_logreport(report(5, "failed"))
    assert tally.said("notebooks/06_x.ipynb") == "1 failed"


def test_a_matrix_that_is_interrupted_ends_with_the_table_of_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, args: list[str], tally: cli._Tally) -> int:
        one, half = report(1, "passed"), report(2, "passed")
        half.nodeid = "notebooks/07_y.ipynb::Cell 1"
        tally.pytest_runtest_logreport(one)
        if name == "5.10":
            return 0
        tally.pytest_runtest_logreport(half)
        return 2

    monkeypatch.setattr(cli, "_test_in_guests", run)
    monkeypatch.setattr(fetch, "present", lambda name: True)
    monkeypatch.setattr(fetch, "get", lambda name: SimpleNamespace(release=f"{name}.0"))
    assert cli._test_everywhere([]) == 2
    assert capsys.readouterr().out.splitlines() == [
        *("Linux 5.10.0:", "Linux 6.1.0:", "notebooks/06_x.ipynb"),
        *(f"  {release:24} passed" for release in ("5.10.0", "6.1.0")),
    ]


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
        plugin.NothingLeft, "from_parent", lambda parent, name, nodeid: SimpleNamespace()
    )
    plugin.pytest_collection_modifyitems(session, [cell])  # type: ignore[list-item, arg-type]
    assert cell.reasons == reasons
    assert bool(cell.stash) == bool(reasons and lane)


def test_what_a_notebook_and_its_cells_need_is_known() -> None:
    assert plugin._needed(Cell(["needs-kprobe", "raises-exception"], "")) == {  # type: ignore[arg-type]
        *("kprobe", "atomic-fetch")
    }
    assert {"kprobe", "atomic-fetch"} <= set(kernel.FEATURES)
