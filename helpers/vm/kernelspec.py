"""One kernelspec for each kernel in the cache, so that JupyterLab's picker shows them."""

import json
import shutil
import sys
from pathlib import Path

from helpers import kernel
from helpers.vm import fetch

PREFIX = "linux-"


def name(of: str) -> str:
    """The kernelspec's name for a kernel's: "linux-6.1"."""
    return PREFIX + of


def refresh() -> None:
    """Make the kernelspecs of the .venv those of the kernels in the cache."""
    folder = Path(sys.prefix) / "share/jupyter/kernels"
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
