"""BPF maps on a live kernel, for Python: load C, poke the maps, see them as DataFrames."""

import importlib
import sys
from typing import Any

_HOME = {
    "load": "program",
    "source": "compiler",
    "build": "userside",
    "open_map": "maps",
    "doctor": "kernel",
    "everywhere": "vm.everywhere",
}
_MODULES = {"compare", "errors", "kernel", "lab", "plots", "sandbox", "symbols", "widgets"}

__all__ = [*_HOME, *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    # What a notebook does not use, it does not wait for.
    if name == "load" and "IPython" in sys.modules:
        importlib.import_module("helpers.completion").bring()
    if name in _HOME:
        return getattr(importlib.import_module(f"helpers.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"helpers.{name}")
    raise AttributeError(f"helpers has no {name!r}. It has: {', '.join(__all__)}.")


def __dir__() -> list[str]:
    return __all__
