"""What nbval does not look at: the form of the committed notebooks, and of the house itself."""

import ast
import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest

from helpers.kernel import FEATURES, ROOT
from tests.render import normalise

NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("labs/*/*.ipynb")])
TAGS = {"nbval-ignore-output", "raises-exception", *(f"needs-{name}" for name in FEATURES)}


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_a_notebook_is_in_its_committed_form(path: Path) -> None:
    text = path.read_text()
    assert text == nbformat.writes(normalise(nbformat.reads(text, as_version=4))) + "\n"
    assert len(text) < 300_000
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        tags = set(cell["metadata"].get("tags", []))
        source = "".join(cell["source"])
        assert tags <= TAGS, source
        assert len([line for line in source.splitlines() if line.strip()]) <= 12, source
        assert all(len(line) <= 88 for line in source.splitlines()), source  # a page's width
        failed = any(output["output_type"] == "error" for output in cell["outputs"])
        assert failed == ("raises-exception" in tags), source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_a_notebook_prints_nothing_of_one_machine(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if "nbval-ignore-output" in cell["metadata"].get("tags", []):
            continue
        shown = [o for o in cell.get("outputs", []) if o["output_type"] != "error"]
        for output in shown:
            text = json.dumps(output.get("text") or output["data"].get("text/plain", ""))
            assert not re.search(r"0x[0-9a-f]{8}|/root|/home|/tmp|\d\.\d+ ?[mun]?s\b", text), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_an_error_that_is_shown_is_one_message(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        pictured = False
        for output in cell.get("outputs", []):
            pictured |= output["output_type"] == "display_data"
            if output["output_type"] == "error":
                assert len(output["traceback"]) == 1, output["ename"]
                said, line = f"{output['ename']}: {output['evalue']}", output["traceback"][0]
                # What has a picture of its own, above, is not told twice.
                assert line == said or (pictured and said.startswith(f"{line}\n"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_links_lead_somewhere(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "markdown":
            follow("".join(cell["source"]), path)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.md")), ids=identify)
def test_links_of_what_is_read_first_lead_somewhere(path: Path) -> None:
    follow(path.read_text(), path)


def follow(text: str, page: Path) -> None:
    """Fail unless each link to a file leads to one, and to a heading where it names one."""
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        if "://" in target:
            continue
        there = page.parent / target if target else page
        assert there.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)", there.read_text().lower(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles]
            assert heading in anchors, f"{target} has no #{heading}"


def test_a_link_that_leads_nowhere_is_seen() -> None:
    for link in ("no_such.md", "no_such.md#code", "README.md#no-such", "#no-such"):
        with pytest.raises(AssertionError, match="such"):
            follow(f"[code](CONTRIBUTING.md#the-code), [it]({link})", ROOT / "README.md")


def imported(path: Path) -> set[str]:
    """What a module imports of helpers/, at the top of the file or not."""
    found = list[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            found += [f"{node.module}.{one.name}" for one in node.names]
    return {name.split(".")[1] for name in found if name.startswith("helpers.")}


def test_an_import_is_found_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os, helpers.maps\n"
        "from helpers import (\n\tkernel,\n\tbtf as types,\n)\n"
        "def late():\n\tfrom helpers.vm.boot import Guest, GUESTS\n"
    )
    assert imported(path) == {"maps", "kernel", "btf", "vm"}


def test_imports_go_one_way() -> None:
    """A module of helpers/ imports its own floor or those below."""
    floors = [
        {"libbpf", "kernel", "errors", "diagnostics"},
        {"maps", "btf", "rings", "symbols", "compiler", "verifier", "rules", "walk", "lineinfo"},
        {"program", "attach", "dialects", "events", "userside"},
        {"plots", "sandbox", "compare", "cards", "answers"},
        {"lab", "magic", "completion", "widgets"},
        {"cli", "instructor"},
    ]
    floor = {name: number for number, names in enumerate(floors) for name in names}
    for path in [*(ROOT / "helpers").glob("*.py"), *(ROOT / "helpers/widgets").glob("*.py")]:
        home = path.stem if path.parent.name == "helpers" else path.parent.name
        for name in imported(path):
            if home in floor and name in floor:
                assert floor[name] <= floor[home], f"{path.name} imports {name}"


def test_guests_rest_on_the_lowest_floor_alone() -> None:
    for path in (ROOT / "helpers/vm").glob("*.py"):
        assert imported(path) <= {"kernel", "errors", "vm"}, path


def test_importing_helpers_stays_lean() -> None:
    heavy = ["pandas", "matplotlib", "ipywidgets", "scapy", "pyroute2", "bcc", "IPython"]
    code = f"import sys, helpers.program; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [ROOT / ".venv/bin/python", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_every_claimed_license_is_there() -> None:
    for path in [*ROOT.glob("bpf/*.c"), *ROOT.glob("labs/**/*.c")]:
        if ".bpf.c" in path.name:
            assert '"Dual MIT/GPL"' in path.read_text(), path
