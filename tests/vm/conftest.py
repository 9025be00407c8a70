"""What the tests of guests share: a kernel, QEMU's processes, and that nothing of them is left."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import kernel
from helpers.vm import fetch
from helpers.vm.fetch import Kernel
from tests.plugin import MARK


@pytest.fixture(scope="session")
def linux() -> Kernel:
    return fetch.present("6.1") or fetch.add("6.1")


def copied(of: Kernel, folder: Path) -> Kernel:
    """The same kernel in a folder of its own, where no state of it is."""
    shutil.copytree(of.folder, folder, ignore=shutil.ignore_patterns("state*"))
    return Kernel(of.name, of.release, folder)


@pytest.fixture
def unsaved(linux: Kernel, tmp_path: Path) -> Kernel:
    return copied(linux, tmp_path / "kernel")


def qemus() -> set[int]:
    """The QEMU processes that this run of the tests has started, directly or not."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = MARK.encode() in (path / "environ").read_bytes()
            if ours and "qemu-system" in os.readlink(path / "exe"):
                found.add(int(path.name))
    return found


def folders() -> set[Path]:
    """The folders of this process's guests."""
    return {*kernel.cache_dir("vm", "guests").glob(f"{os.getpid()}-*")}


def until(done: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "that never happened"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    until(lambda: not qemus() and not folders(), 10)
