"""Linux guests for real: booted, used, broken and killed, and nothing of them left."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from helpers import kernel
from helpers.errors import BpfError, NotFound
from helpers.vm import fetch, kernelspec, machine
from helpers.vm.boot import Guest
from helpers.vm.fetch import Kernel
from tests.vm.conftest import qemus, until

pytestmark = pytest.mark.timeout(400)
SLEEP = ["/bin/sleep", "1000"]


def inside(linux: Kernel, *command: str, **options: Any) -> tuple[int, str]:
    with Guest(linux, command, **options) as guest:
        status = guest.wait(240)
        return status, (guest.folder / "out").read_text()


# --- what a guest is


def test_a_command_runs_as_root_of_that_kernel(linux: Kernel) -> None:
    status, out = inside(linux, "/bin/sh", "-c", "uname -r; id -u; exit 7")
    assert (status, out.split()) == (7, [linux.release, "0"])


def test_numpy_sorts_as_it_does_outside(linux: Kernel) -> None:
    """An emulated processor can be wrong where NumPy uses what is special about it."""
    code = """
import numpy as np
shuffled = np.random.permutation(5000)
for kind in ("i8", "u8", "i4", "u4", "f8", "f4"):
    found = shuffled.astype(kind)
    assert found[np.argsort(found)].tolist() == list(range(5000)), kind
"""
    status, out = inside(linux, sys.executable, "-c", code)
    assert (status, out) == (0, "")


def test_what_it_writes_stays_inside_but_for_the_course(linux: Kernel) -> None:
    own, others = kernel.ROOT / f"guest-{os.getpid()}", Path(f"/var/guest-{os.getpid()}")
    try:
        status, out = inside(
            linux, "/bin/sh", "-c", f"echo a >{own}; echo b >{others}; cat {others}"
        )
        assert (status, out) == (0, "b\n")
        assert own.read_text() == "a\n" and not others.exists()
    finally:
        own.unlink(missing_ok=True)


def test_it_has_networks_of_its_own_and_no_way_out(linux: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import socket
from helpers import load, sandbox
for host in ("10.0.2.2", "127.0.0.1", "192.0.2.1"):
    try:
        socket.create_connection((host, {port}), timeout=2)
        print(host, "reached")
    except OSError:
        print(host, "no")
with load("hash.bpf.c") as prog, sandbox.pair() as net:
    prog.attach("count_packets", net.server)
    sandbox.udp_talk(net, connections=2)
    print(len(prog["connections"]))
"""
        status, out = inside(linux, sys.executable, "-c", code)
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert status == 0, out
    assert [line.split()[-1] for line in out.splitlines()] == ["no", "no", "no", "2"]


# --- as a Jupyter kernel


@pytest.fixture
def jupyter(linux: Kernel) -> Iterator[KernelManager]:
    kernelspec.offer()
    manager = KernelManager(kernel_name=kernelspec.name("6.1"))
    manager.start_kernel()
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def said(client: Any, code: str) -> str:
    """Run the code and return what it printed, or the name of what it raised."""
    heard = []

    def hear(message: Any) -> None:
        content = message["content"]
        heard.append(content.get("text") or content.get("ename") or "")

    client.execute_interactive(code, timeout=100, output_hook=hear)
    return "".join(heard)


def test_a_kernel_starts_is_interrupted_restarts_and_ends(
    jupyter: KernelManager, linux: Kernel
) -> None:
    client = jupyter.client()
    client.start_channels()
    client.wait_for_ready(timeout=100)
    assert said(client, "import os; print(os.uname().release, os.getuid())") == (
        f"{linux.release} 0\n"
    )
    assert said(client, "print(get_ipython().history_manager.enabled)") == "False\n"
    client.execute("import time; time.sleep(1000)")
    time.sleep(1)
    jupyter.interrupt_kernel()
    assert client.get_shell_msg(timeout=60)["content"]["ename"] == "KeyboardInterrupt"
    said(client, "x = 5")
    jupyter.restart_kernel()
    client.wait_for_ready(timeout=100)
    assert said(client, "x") == "NameError"
    ports = [value for key, value in jupyter.get_connection_info().items() if "_port" in key]
    client.stop_channels()
    jupyter.shutdown_kernel()
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_the_ports_are_on_this_machine_alone(jupyter: KernelManager) -> None:
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
    for key, port in jupyter.get_connection_info().items():
        if key.endswith("_port"):
            assert re.findall(rf"(\S+):{port}\s", listening) == ["127.0.0.1"]


def test_a_guest_out_of_memory_ends_its_command_alone(linux: Kernel) -> None:
    code = "x = [bytearray(b'x' * (1 << 20)) for _ in range(4000)]"
    status, _ = inside(linux, sys.executable, "-c", code, memory=400)
    assert status in (1, 137)  # MemoryError, or SIGKILL from the guest's kernel


# --- who goes first


def test_nothing_outlives_its_owner(linux: Kernel) -> None:
    code = f"""
import time
from helpers.vm import boot, fetch
guest = boot.Guest(fetch.get("6.1"), {SLEEP})
print("up", flush=True)
time.sleep(1000)
"""
    for _ in range(3):
        owner = subprocess.Popen(
            [sys.executable, "-c", code], cwd=kernel.ROOT, stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout and owner.stdout.readline() == "up\n"
        until(qemus)
        owner.kill()
        owner.wait()
        until(lambda: not qemus(), 10)


def test_nothing_outlives_its_keeper(linux: Kernel) -> None:
    with Guest(linux, SLEEP) as guest:
        until(qemus)
        guest.process.kill()
        until(lambda: not qemus(), 10)
        with pytest.raises(BpfError, match="ended by itself"):
            guest.wait(10)


def test_two_guests_of_one_kernel(linux: Kernel) -> None:
    with Guest(linux, ["/bin/echo", "one"]) as one, Guest(linux, ["/bin/echo", "two"]) as two:
        assert one.wait(100) == two.wait(100) == 0
        assert (one.folder / "out").read_text() == "one\n"
        assert (two.folder / "out").read_text() == "two\n"


# --- what is missing or broken


def test_no_such_kernel() -> None:
    with pytest.raises(NotFound, match="No kernel '3.18' is known. Known are: 5.10, 6.1"):
        fetch.add("3.18")
    with pytest.raises(NotFound, match="./course kernels add 6.1"):
        fetch.get("3.18")


def test_a_port_that_is_taken(linux: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BpfError, match=f"host forwarding rule.*{port}"):
            inside(linux, *SLEEP, ports=[port])


def test_a_kernel_without_9p_says_so(unsaved: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "NEEDED", ["virtio_pci"])
    with pytest.raises(BpfError, match="the kernel mounts no 9p"):
        inside(unsaved, *SLEEP)


def test_a_kvm_that_lies_is_not_believed(
    linux: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever /dev/kvm says: it is used where a guest came up with it, and only there."""
    monkeypatch.setattr(kernel, "cache_dir", lambda *_: tmp_path)
    tried = []

    def lies(of: Kernel, accelerator: str, seconds: float) -> float:
        tried.append(accelerator)
        raise BpfError("it did not boot")

    monkeypatch.setattr(machine, "bare_boot", lies)
    monkeypatch.setattr(os, "access", lambda *_: True)
    assert machine.choose(linux) == machine.choose(linux) == "tcg"
    assert tried == ["kvm"]  # once


def test_a_package_that_was_tampered_with_is_refused(
    linux: Kernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """apt checks the lists' signature: with somebody else's keys, nothing is fetched."""
    keys = tmp_path / "keys.gpg"
    keys.write_bytes(b"")
    monkeypatch.setattr(fetch, "KEYS", keys)
    with pytest.raises(BpfError, match="apt-get update failed"):
        fetch.add("6.1")
    assert fetch.get("6.1") == linux


def test_the_kernelspec_is_what_the_picker_shows(linux: Kernel) -> None:
    kernelspec.offer()
    listed = subprocess.run(
        [sys.executable, "-m", "jupyter", "kernelspec", "list", "--json"],
        capture_output=True,
        text=True,
    )
    spec = json.loads(listed.stdout)["kernelspecs"]["linux-6.1"]["spec"]
    assert spec["display_name"] == "Python on Linux 6.1" and spec["interrupt_mode"] == "message"
