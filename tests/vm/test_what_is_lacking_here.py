"""What needs what this machine's kernel may lack, on Debian's 6.1: there a skip fails."""

import subprocess

import pytest

from helpers.kernel import ROOT
from helpers.vm.fetch import Kernel

pytestmark = pytest.mark.timeout(1500)
PATTERNS = "tests/unit/test_patterns.py"
# One guest for all of them. systemd would hand memory down there, but a guest has none.
IN_ONE = """
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
BPF_COURSE_LANE=6.1 .venv/bin/python -m pytest -q -o timeout=600 "$@"
"""


def passes(*args: str) -> None:
    done = subprocess.run([ROOT / "course", *args], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_notebook_passes_on_a_kernel_with_kprobes(linux: Kernel) -> None:
    passes("test", "--kernel", linux.name, "-q", "notebooks/12_patterns.ipynb")


def test_kprobes_and_no_memory_in_a_control_group_of_version_2(linux: Kernel) -> None:
    tests = [
        f"{PATTERNS}::test_the_kprobe_form_streams_the_same",
        f"{PATTERNS}::test_the_books_kprobe_has_no_function",
        "tests/faults/test_resources.py::test_no_memory_for_maps",
    ]
    passes("kernels", "run", linux.name, "sh", "-ec", IN_ONE, "sh", *tests)
