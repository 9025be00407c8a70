"""What needs kprobes, which this machine's kernel may lack, on Debian's 6.1: there a skip fails."""

import subprocess

import pytest

from helpers.kernel import ROOT
from helpers.vm import fetch

NEEDS = ["notebooks/12_patterns.ipynb"]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", NEEDS)
def test_it_passes_on_a_kernel_with_kprobes(path: str) -> None:
    if not fetch.present("6.1"):
        fetch.add("6.1")
    done = subprocess.run(
        [ROOT / "course", "test", "--kernel", "6.1", "-q", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout
