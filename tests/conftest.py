"""What every test relies on: root, a private cache and work folder, and a kernel left clean."""

import gc
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from helpers import kernel

set_hypothesis_home_dir(kernel.cache_dir("hypothesis"))  # not into the checkout


def _left() -> dict[str, set[str]]:
    """Everything of BPF's and every network namespace that is in this kernel now."""
    spaces = subprocess.run(
        ["lsns", "--type", "net", "--noheadings", "--output", "NS"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    named = Path("/run/netns")
    return {
        "program": {f"{name} (id {i})" for i, name in kernel.objects("prog").items()},
        "map": {f"{name} (id {i})" for i, name in kernel.objects("map").items()},
        "link": {f"id {i}" for i in kernel.ids("link")},
        "pin": {str(path) for path in kernel.BPFFS.rglob("*")},
        "network namespace": {*spaces, *(map(str, named.iterdir()) if named.is_dir() else ())},
    }


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail the run when a program, map, link, pin or namespace of it is still there at its end."""
    if os.geteuid():
        pytest.exit("The tests load programs into the kernel: run them with ./course test", 2)
    before = _left()
    yield
    deadline = time.monotonic() + 5
    while True:  # the kernel frees a program some time after its last holder went
        gc.collect()
        after = _left()
        extra = {kind: sorted(after[kind] - before[kind]) for kind in after}
        if not any(extra.values()):
            return
        if time.monotonic() > deadline:
            found = "\n".join(f"  {kind}: {', '.join(x)}" for kind, x in extra.items() if x)
            pytest.fail(f"The tests left this in the kernel:\n{found}")
        time.sleep(0.1)
