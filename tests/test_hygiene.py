"""What nbval does not look at: the form of the committed notebooks, and of the house itself."""

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
        for target in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])):
            if cell["cell_type"] == "markdown" and "://" not in target:
                assert (path.parent / target).exists(), target


def test_imports_go_one_way() -> None:
    """A module of helpers/ imports its own floor or those below, at the top of the file or not."""
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
        for names in re.findall(
            r"^\s*from helpers(?:\.(\w+))? import ([\w, ]+)", path.read_text(), re.MULTILINE
        ):
            for name in [names[0]] if names[0] else re.findall(r"\w+", names[1]):
                if home in floor and name in floor:
                    assert floor[name] <= floor[home], f"{path.name} imports {name}"


def test_guests_rest_on_the_lowest_floor_alone() -> None:
    for path in (ROOT / "helpers/vm").glob("*.py"):
        imports = re.findall(
            r"^\s*from helpers[. ](?:import )?(\w+)", path.read_text(), re.MULTILINE
        )
        assert set(imports) <= {"kernel", "errors", "vm"}, path


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
