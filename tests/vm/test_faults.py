"""What goes wrong with guests: each ends in words, what comes after works, and nothing is left."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from helpers import kernel
from helpers.errors import BpfError, Unsupported
from helpers.vm import boot, fetch, kernelspec, machine
from helpers.vm.boot import Guest
from helpers.vm.fetch import Kernel
from tests.plugin import WITH_US
from tests.vm.conftest import folders, qemus, until

pytestmark = pytest.mark.timeout(400)
COURSE = kernel.ROOT / "course"


# --- under a running cell


@pytest.fixture
def jupyter(linux: Kernel) -> Iterator[KernelManager]:
    kernelspec.offer()
    manager = KernelManager(kernel_name=kernelspec.name("6.1"))
    manager.start_kernel()
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def client_of(manager: KernelManager) -> Any:
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=100)
    return client


def heard(client: Any, code: str) -> str:
    said = []
    client.execute_interactive(
        code, timeout=100, output_hook=lambda message: said.append(message["content"].get("text"))
    )
    return "".join(filter(None, said))


# What ends it, and what its last words must tell.
ENDS = {
    "killed": "",
    "panics": "sysrq: Trigger a crash",
    "powers off": "reboot: Power down",
}
CODE = {
    "killed": "import time; time.sleep(1000)",
    "panics": "open('/proc/sysrq-trigger', 'w').write('c')",
    "powers off": "open('/proc/sysrq-trigger', 'w').write('o')",
}


@pytest.mark.parametrize("how", ENDS)
def test_a_guest_that_ends_under_a_cell_is_told_of_in_the_next(
    how: str, jupyter: KernelManager, linux: Kernel
) -> None:
    client = client_of(jupyter)
    client.execute(CODE[how])
    if how == "killed":
        [qemu] = qemus()
        os.kill(qemu, signal.SIGKILL)
    until(lambda: not jupyter.is_alive(), 60)
    jupyter.restart_kernel(now=True)  # as JupyterLab does by itself
    client.wait_for_ready(timeout=100)
    said = heard(client, "print('works')")
    assert f"The guest with Linux {linux.release} ended by itself. It said last:" in said
    assert ENDS[how] in said and "works\n" in said
    assert heard(client, "print('again')") == "again\n"
    client.stop_channels()


def test_a_guest_that_hangs_is_restarted(jupyter: KernelManager) -> None:
    client = client_of(jupyter)
    [qemu] = qemus()
    os.kill(qemu, signal.SIGSTOP)
    jupyter.restart_kernel(now=True)
    assert qemu not in qemus()
    client.wait_for_ready(timeout=100)
    assert heard(client, "print('works')") == "works\n"
    client.stop_channels()


def test_a_server_that_is_killed_takes_its_guests_along(linux: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*WITH_US, COURSE, "lab", "--no-browser", "--port", str(port)],
        env=os.environ | {"JUPYTER_TOKEN": "of-this-test"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        assert any(line.startswith("JupyterLab is at") for line in server.stdout)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/kernels",
            data=json.dumps({"name": kernelspec.name("6.1")}).encode(),
            headers={"Authorization": "token of-this-test"},
        )
        with urllib.request.urlopen(request, timeout=100) as answer:
            assert answer.status == 201
        assert len(qemus()) == 1
    finally:
        server.kill()
        server.wait()
    until(lambda: not qemus(), 10)
    # Its folder goes with it, too: see nothing_left for those of this process.
    until(lambda: not [*kernel.cache_dir("vm", "guests").glob(f"{server.pid}-*")], 10)


# --- before there is a guest


def test_without_qemu(linux: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name, **_: None)
    with pytest.raises(Unsupported, match=r"QEMU(.|\n)*\./course kernels add 6.1  installs it"):
        Guest(linux, ["true"])


def test_a_host_without_memory_for_it(linux: Kernel) -> None:
    with pytest.raises(BpfError, match=r"MB of free memory(.|\n)*Shut down other programs"):
        Guest(linux, ["true"], memory=1 << 30)


def test_a_guest_without_btf_is_told_what_it_lacks(linux: Kernel) -> None:
    hide = "mount -t tmpfs none /sys/kernel/btf"
    doctor = f"{sys.executable} -m helpers.cli doctor"
    with Guest(linux, ["/bin/sh", "-c", f"{hide} && {doctor}"]) as guest:
        assert guest.wait(120) == 1
        said = (guest.folder / "out").read_text()
    assert re.search(r"^\w+ +BTF +Linux 6.1\S+ without /sys/kernel/btf/vmlinux", said, re.MULTILINE)
    assert "use one of their kernels" in said and said.endswith("Not ready: BTF.\n")


# --- fetching


def test_without_a_network_nothing_is_fetched_and_nothing_lost(linux: Kernel) -> None:
    done = subprocess.run(
        ["unshare", "--net", COURSE, "kernels", "add", "6.1"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "apt-get update failed. It says:" in done.stderr
    assert "Mend the network" in done.stderr and "Traceback" not in done.stderr
    assert fetch.get("6.1") == linux


def descriptors() -> dict[str, str]:
    """What this process has open."""
    folder = Path("/proc/self/fd")
    found = {}
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):  # that of the list itself
            found[name] = os.readlink(folder / name)
    return found


def test_a_download_that_cannot_begin_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    apt, before = fetch._Apt("6.1"), descriptors()
    monkeypatch.setenv("PATH", str(tmp_path))  # where there is no apt-get
    with pytest.raises(FileNotFoundError, match="apt-get") as raised:
        apt.download([], tmp_path, print)
    assert descriptors() == before, raised


def test_a_guest_that_cannot_begin_leaves_nothing(linux: Kernel) -> None:
    with Guest(linux, ["/bin/true"]) as guest:  # from here on there is a state to begin with
        assert guest.wait(240) == 0
    before = descriptors()
    with pytest.raises(FileNotFoundError, match="no/such") as raised:
        Guest(linux, ["/bin/true"], files={"no/such": ""})
    assert descriptors() == before, raised
    assert not folders()


def test_a_download_that_was_cut_off_is_begun_anew(linux: Kernel) -> None:
    folder = fetch.home() / "kernels"
    adding = subprocess.Popen(
        [COURSE, "kernels", "add", "6.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def halves() -> list[Path]:
        return [*folder.glob("6.1.new-*/*.deb"), *folder.glob("6.1.new-*/partial/*")]

    until(lambda: halves() or adding.poll() is not None, 100)
    assert adding.poll() is None
    adding.kill()
    adding.wait()
    assert fetch.get("6.1") == linux  # the one from before
    [left] = folder.glob("6.1.new-*")
    fetch.add("6.1")
    assert not left.exists()
    assert fetch.get("6.1").image.exists()


@pytest.mark.parametrize(
    ("console", "begun", "boots"),
    [("Kernel panic - not syncing", False, 3), ("Kernel panic", True, 1), ("power down", False, 1)],
)
def test_only_a_panic_before_the_command_boots_again(
    console: str, begun: bool, boots: int, tmp_path: Path
) -> None:
    """The keeper for real, and a shell in QEMU's place: no kernel panics when it is asked to."""
    (tmp_path / "wake").touch()
    if begun:
        (tmp_path / "out").touch()
    script = f"echo '{console}' >{tmp_path}/console; echo boot >>{tmp_path}/boots; exit 1"
    keeper = Path(boot.__file__).with_name("keeper.py")
    command = [sys.executable, "-I", "-S", keeper, tmp_path, "/bin/sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as kept:  # held open, as by an owner
        assert kept.wait(20) == 1
    assert (tmp_path / "boots").read_text() == "boot\n" * boots
