"""Every notebook as a learner meets it: in JupyterLab, in a real browser, run top to bottom."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from helpers.kernel import ROOT
from tests.plugin import WITH_US
from tests.test_hygiene import NOTEBOOKS, identify

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
IDLE = """() => window.jupyterapp?.shell.currentWidget?.sessionContext
    ?.session?.kernel?.status === "idle" """
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === "code").map(cell => cell.model.toJSON())"""


@contextmanager
def served(config: Path, *course: str | Path, **env: str) -> Iterator[str]:
    """A running ``./course lab`` with its settings in ``config``; gives the URL it printed."""
    settings = {"LabApp": {"expose_app_in_browser": True}}
    (config / "jupyter_lab_config.json").write_text(json.dumps(settings))
    # A run that takes long is saved on the way, and would change the notebook for the tests after.
    manager = config / "lab/user-settings/@jupyterlab/docmanager-extension"
    manager.mkdir(parents=True)
    (manager / "plugin.jupyterlab-settings").write_text(json.dumps({"autosave": False}))
    owner = config.stat()
    for path in config.rglob("*"):  # JupyterLab saves settings, too
        os.chown(path, owner.st_uid, owner.st_gid)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = {"JUPYTER_CONFIG_DIR": str(config), "JUPYTER_DATA_DIR": str(config)}
    server = subprocess.Popen(
        [*WITH_US, *course, "lab", "--no-browser", "--port", str(port)],
        env=os.environ | paths | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout
    said = []
    try:
        for line in server.stdout:
            said.append(line)
            if line.startswith("JupyterLab is at"):
                yield line.split()[3]
                return
        pytest.fail("".join(said))
    finally:
        server.terminate()
        server.communicate(timeout=30)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("jupyter"), ROOT / "course") as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "no Chromium on PATH: ./course test installs it"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextmanager
def opened(
    path: Path, lab: str, browser: Browser, root: Path = ROOT, known: tuple[str, ...] = ()
) -> Iterator[Page]:
    """A notebook in JupyterLab, with a kernel; then no error, no request elsewhere, no change.

    ``known``: the beginnings of errors that are JupyterLab's own and that the test expects.
    """
    before = path.read_bytes()
    page = browser.new_page(viewport={"width": 1200, "height": 7000})
    page.set_default_timeout(180_000)
    errors: list[str] = []
    elsewhere: list[str] = []

    def hear(said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith(known):
            errors.append(said.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: elsewhere.append(request.url))
    try:
        # A fresh workspace: else the notebooks of the tests before open beside this one.
        where = str(path.relative_to(root))
        page.goto(f"{lab.replace('notebooks/00_start_here.ipynb', where)}&reset")
        page.wait_for_function(IDLE)
        yield page
        page.evaluate("() => 0")  # what the page said until here has been heard
    finally:
        # JupyterLab asks a kernel for its debugger, and says so if the kernel ends before it has
        # answered. That end is our doing.
        page.remove_listener("console", hear)
        page.evaluate("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown?.()")
        page.close()
    assert not errors
    assert all(url.startswith(("http://127.0.0.1:", "data:", "blob:")) for url in elsewhere)
    assert path.read_bytes() == before


@contextmanager
def ran(cells: Iterable[str], lab: str, browser: Browser) -> Iterator[Page]:
    """A notebook of these cells, run once."""
    book = nbformat.v4.new_notebook()
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    book.cells = [nbformat.v4.new_code_cell(source.strip()) for source in cells]
    folder = ROOT / f"work/browser_{time.time_ns()}"  # where the server finds it
    folder.mkdir(parents=True)
    path = folder / "cells.ipynb"
    nbformat.write(book, path)
    try:
        with opened(path, lab, browser) as page:
            run_all(page)
            yield page
    finally:
        shutil.rmtree(folder)  # with what JupyterLab puts beside it
        with suppress(OSError):  # a learner's files are there, too
            folder.parent.rmdir()


def run_all(page: Page) -> None:
    """Run all cells: those that should raise do, and no other."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    # The command is done early when a cell raises, as it should here: look for the last count, or
    # for a cell that should not have raised, after which no other runs.
    page.wait_for_function(
        f"""() => {{
            const cells = ({CELLS})();
            return cells.every(cell => cell.execution_count) || cells.some(cell =>
                !cell.metadata.tags?.includes("raises-exception")
                && cell.outputs.some(output => output.output_type === "error"));
        }}"""
    )
    page.wait_for_function(IDLE)
    for cell in page.evaluate(CELLS):
        failed = [o for o in cell["outputs"] if o["output_type"] == "error"]
        tagged = "raises-exception" in cell["metadata"].get("tags", [])
        said = "\n".join(line for error in failed for line in error["traceback"])
        assert bool(failed) == tagged, f"{''.join(cell['source'])}\n{said}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=identify)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, lab: str, browser: Browser, tmp_path: Path
) -> None:
    with opened(path, lab, browser) as page:
        run_all(page)
        page.screenshot(path=tmp_path / f"{path.stem}.png")


def test_cells_that_run_again_replace_what_they_loaded(lab: str, browser: Browser) -> None:
    """As learners do: all of it, and all of it again, in one kernel."""
    with opened(ROOT / "notebooks/02_hash_maps.ipynb", lab, browser) as page:
        run_all(page)
        run_all(page)


def test_c_in_a_cell_is_coloured_as_c(lab: str, browser: Browser) -> None:
    kinds = """window.jupyterapp.shell.currentWidget.content.widgets
        .filter(cell => cell.model.type === "code")
        .map(cell => [cell.model.sharedModel.getSource().startsWith("%%bpf"), cell.model.mimeType])
    """
    first = """text => window.jupyterapp.shell.currentWidget.content.widgets
        .find(cell => cell.model.type === "code").model.sharedModel.setSource(text)"""
    with opened(ROOT / "labs/02_connection_table/lab.ipynb", lab, browser) as page:
        found = page.evaluate(f"() => {kinds}")
        assert any(is_c for is_c, _ in found)
        assert all((kind == "text/x-csrc") == is_c for is_c, kind in found)
        code = page.locator(".jp-CodeCell", has_text="%%bpf").first
        expect(code.locator(".cm-line span").nth(10)).to_be_attached()  # words with a colour
        for text, kind in (("%%bpf prog\nint x;", "text/x-csrc"), ("x = 1", "text/x-ipython")):
            page.evaluate(first, text)
            page.wait_for_function(f"() => {kinds}[0][1] === '{kind}'")
