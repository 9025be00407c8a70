"""Run notebooks and write their outputs back in the one form that is committed.

    .venv/bin/python tests/render.py notebooks/02_hash_maps.ipynb …

Twice in a row gives the same bytes, figures and measured numbers apart.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
FOLD = re.compile(r"(<details><summary>.*?</summary>).*?(?=</details>)", re.DOTALL)  # a raw log
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def normalise(notebook: Any) -> Any:
    """Drop what changes from run to run and what only a live kernel can show."""
    course = notebook.metadata.get("course")
    notebook.metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    if course:
        notebook.metadata["course"] = course
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        cell.id = f"cell-{i:02}"
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
            if html := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = FOLD.sub(r"\1", "".join(html))
            if "metadata" in output:
                output.metadata = {}
    return nbformat.from_dict(notebook)


def render(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    path.write_text(nbformat.writes(normalise(notebook)) + "\n")


if __name__ == "__main__":
    work = tempfile.TemporaryDirectory()  # not what you wrote in your own labs
    os.environ["BPF_COURSE_WORK"] = f"{work.name}/work"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for name in sys.argv[1:]:
        print(name, flush=True)
        render(Path(name))
