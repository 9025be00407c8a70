"""What needs what this machine's kernel may lack, on Debian's 6.1: there a skip fails."""

import subprocess

import pytest

from helpers.kernel import ROOT
from helpers.vm.fetch import Kernel

KPROBES = ["notebooks/12_patterns.ipynb"]


def passes(*args: str) -> None:
    done = subprocess.run([ROOT / "course", *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", KPROBES)
def test_it_passes_on_a_kernel_with_kprobes(linux: Kernel, path: str) -> None:
    passes("test", "--kernel", "6.1", "-q", path)


# systemd would hand memory down, but a guest has none.
VERSION_2 = """
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
BPF_COURSE_LANE=6.1 .venv/bin/python -m pytest -q -o timeout=600 "$@"
"""


@pytest.mark.timeout(1500)
def test_no_memory_for_maps_in_a_control_group_of_version_2(linux: Kernel) -> None:
    test = "tests/faults/test_resources.py::test_no_memory_for_maps"
    passes("kernels", "run", linux.name, "sh", "-ec", VERSION_2, "sh", test)
