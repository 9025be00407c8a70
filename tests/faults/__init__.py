"""Harm done on purpose, and what must hold after it.

A module of this folder with a ``PART`` does one kind of harm in rounds, and round 7 is the same
whenever it is done. ``./course test`` does the first rounds of each part, ``./course test --soak``
all of them.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One kind of harm.

    ``one(number)`` does a round and raises AssertionError when something does not hold; ``rounds``
    is their number in a soak, ``short`` in the plain tests. ``unit`` says what a round is. In a
    soak, ``at_once`` of them run side by side, each in a process of its own.
    """

    one: Callable[[int], object]
    rounds: int
    short: int
    unit: str
    at_once: int = 1


def parts() -> dict[str, Part]:
    """The parts by the names of their modules."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        if not path.name.startswith("test_") and path.stem != "soak":
            module = importlib.import_module(f"{__name__}.{path.stem}")
            if hasattr(module, "PART"):
                found[path.stem] = module.PART
    return found
