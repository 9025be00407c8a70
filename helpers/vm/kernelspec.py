"""One kernelspec for each kernel in the cache, so that JupyterLab's picker shows them."""

import json
import os
import shutil
from pathlib import Path

from helpers import kernel
from helpers.vm import fetch

PREFIX = "linux-"


def name(of: str) -> str:
    """The kernelspec's name for a kernel's: "linux-6.1"."""
    return PREFIX + of


def offer() -> None:
    """Let the Jupyter of this process, and of those that it starts, find the kernels.

    A server that runs already looks into the same folder; its page asks about once a minute.
    """
    folder = kernel.cache_dir("vm", "jupyter")
    _write(folder / "kernels")
    paths = os.environ.get("JUPYTER_PATH", "").split(os.pathsep)
    if str(folder) not in paths:
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), *paths]))


def _write(folder: Path) -> None:
    there = {name(one.name): one for one in fetch.kernels()}
    for path in folder.glob(f"{PREFIX}*"):
        if path.name not in there:
            shutil.rmtree(path)
    for title, one in there.items():
        (folder / title).mkdir(parents=True, exist_ok=True)
        spec = {
            "argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": one.title,
            "language": "python",
            "interrupt_mode": "message",
            "metadata": {
                "debugger": True,
                "supported_encryption": "curve",
                "kernel_provisioner": {
                    "provisioner_name": "course-guest",
                    "config": {"linux": one.name},
                },
            },
        }
        text = json.dumps(spec, indent=1) + "\n"
        kernel.write_atomically(folder / title / "kernel.json", text.encode())
