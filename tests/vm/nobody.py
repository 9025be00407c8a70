"""A person without any rights picks a Linux in JupyterLab, in a real browser, and works in it.

    ./course test tests/vm/nobody.py

It takes some minutes where processors are emulated, so the plain ./course test leaves it out.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Page

from helpers import kernel
from helpers.vm.fetch import Kernel
from tests.browser.test_notebooks import CELLS, IDLE, browser, opened, run_all, served  # noqa: F401
from tests.vm.conftest import qemus, until

pytestmark = pytest.mark.timeout(900)
# JupyterLab asks a kernel that restarts for its debugger, and gives up when it connects again: a
# guest takes long enough for that. The debugger is asked below.
RESTARTED = "Could not restore the debugger state: Canceled future"
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
NOBODY = pwd.getpwnam("nobody")


def as_nobody(*command: str | Path) -> list[str]:
    ids = (f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}")
    return ["setpriv", *ids, "--clear-groups", "--no-new-privs", *map(str, command)]


@pytest.fixture(scope="module")
def checkout(linux: Kernel) -> Iterator[Path]:
    """A checkout of nobody's own, with its .venv, and the fetched kernel in nobody's cache."""
    with TemporaryDirectory(prefix="course-", dir="/opt") as home:  # a guest has its own /tmp
        yield checked_out(Path(home))


def checked_out(home: Path) -> Path:
    root = home / "course"
    # Not by git: what was downloaded as an archive, or copied into a VM, is no repository.
    aside = shutil.ignore_patterns(".git", ".*_cache", "work")
    shutil.copytree(kernel.ROOT, root, symlinks=True, ignore=aside)
    [site] = (root / ".venv/lib").glob("python3*/site-packages")
    (site / "course.pth").write_text(f"{root}\n")
    stamp = root / ".venv/.course-stamp"
    stamp.write_text(stamp.read_text().replace(str(kernel.ROOT), str(root)))
    ours, theirs = kernel.cache_dir(), home / "cache/bpf-maps-measured"
    for part in ("headers", "vm/kernels/6.1"):
        if (ours / part).exists():
            shutil.copytree(ours / part, theirs / part, symlinks=True)
    theirs.chmod(0o700)
    subprocess.run(["chown", "-R", f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", home], check=True)
    return root


@pytest.fixture(scope="module")
def lab(checkout: Path) -> Iterator[str]:
    """The course as nobody serves it, with no sudo on PATH."""
    home, bin = checkout.parent, checkout.parent / "bin"
    bin.mkdir()
    for name in os.listdir("/usr/bin"):
        if name != "sudo":
            (bin / name).symlink_to(f"/usr/bin/{name}")
    config = home / "jupyter"
    config.mkdir()
    os.chown(config, NOBODY.pw_uid, NOBODY.pw_gid)
    command = as_nobody(checkout / "course")
    env = {"PATH": f"{bin}:/usr/sbin:/sbin", "HOME": str(home), "XDG_CACHE_HOME": f"{home}/cache"}
    # That of root, if there is one, leads into root's own cache.
    command = ["env", "--unset=BCC_KERNEL_SOURCE", *command]
    with served(config, *command, **env) as url:
        yield url


def pick(page: Page, title: str) -> None:
    """Choose a kernel by JupyterLab's own dialog, as a person does."""
    page.get_by_role("button", name="Python 3 (ipykernel)").first.click()
    dialog = page.locator(".jp-Dialog")
    dialog.locator("select").select_option(label=title)
    dialog.get_by_role("button", name="Select").click()


def test_nobody_runs_chapters_on_another_linux(
    checkout: Path,
    lab: str,
    browser,  # noqa: F811
    linux: Kernel,
) -> None:
    for name in ("02_hash_maps", "12_patterns"):
        path = checkout / f"notebooks/{name}.ipynb"
        with opened(path, lab, browser, checkout, (RESTARTED,)) as page:
            page.set_default_timeout(400_000)
            pick(page, "Python on Linux 6.1")
            page.wait_for_function(f"() => {KERNEL}?.name === 'linux-6.1'")
            page.wait_for_function(IDLE)
            run_all(page)
            said = str(page.evaluate(CELLS))
            assert "there is no such thing here" not in said
            if name == "12_patterns":
                interrupt_and_restart(page)
        until(lambda: not qemus(), 30)


def interrupt_and_restart(page: Page) -> None:
    page.evaluate(f"() => {{ {KERNEL}.requestExecute({{code: 'import time; time.sleep(1000)'}}) }}")
    page.wait_for_function(f'() => {KERNEL}.status === "busy"')
    page.evaluate(f"() => {KERNEL}.interrupt()")
    page.wait_for_function(IDLE)
    [qemu] = qemus()
    page.evaluate(f"() => {KERNEL}.restart()")
    until(lambda: qemu not in qemus(), 60)
    page.wait_for_function(IDLE)
    assert len(qemus()) == 1
    asked = "{command: 'debugInfo', type: 'request', seq: 1, arguments: {}}"
    answer = page.evaluate(f"async () => (await {KERNEL}.requestDebug({asked}).done).content")
    assert answer["success"], answer
