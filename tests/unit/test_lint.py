"""The style of all that is ours, as the tools see it. Each test fails with the tool's own words."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, f"{command[0]} says:\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    check(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_python_is_formatted() -> None:
    check(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", "--diff", ".")


def test_types_hold(tmp_path: Path) -> None:
    check(sys.executable, "-m", "mypy", f"--cache-dir={tmp_path}")


def test_c_is_formatted() -> None:
    files = [path for part in ("bpf", "labs") for path in (ROOT / part).rglob("*.[ch]")]
    assert files, "no C found: this test looks in the wrong place"
    # A lab's wrong answer that is no C has no format either.
    files = [path for path in files if "does_not_compile" not in path.name]
    tool = Path(sys.executable).with_name("clang-format")
    check(tool, "--dry-run", "-Werror", *files)


def test_shell_is_clean() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here: ./course test installs it")
    check("shellcheck", "course", ".ci/run", "helpers/vm/provision.sh")
