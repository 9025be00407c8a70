"""How long one waits for a kernel in a guest. By the clock: it is others that work meanwhile."""

import sys
import time

from jupyter_client.manager import KernelManager

from helpers.errors import NotFound, Unsupported
from helpers.vm import fetch, kernelspec, machine
from tests.bench.measure import Row


def guest(quick: bool) -> list[Row]:
    """From its start to the first cell's answer, beside a boot to a shell script and no further.

    Where QEMU or the kernel is not here, there is no row: nobody asked to fetch them.
    """
    try:
        machine.qemu()
        of = fetch.get("6.1")
    except (Unsupported, NotFound) as error:
        print(f"left out: {error}", file=sys.stderr)
        return []
    kernelspec.offer()
    _answered(of)  # the first one saves the state that the others begin with
    bare, ours = [], []
    for _ in range(1 if quick else 3):
        bare.append(machine.bare_boot(of))
        ours.append(_answered(of))
    what = f"kernel ready, Linux {of.name}"
    return [Row(what, min(ours), "a bare boot", min(bare), 3, "9p, and ipykernel's own start")]


def _answered(of: fetch.Kernel) -> float:
    manager, start = KernelManager(kernel_name=kernelspec.name(of.name)), time.monotonic()
    manager.start_kernel()
    try:
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=180)
        client.execute_interactive("1 + 1", timeout=60, output_hook=lambda _: None)
        taken = time.monotonic() - start
        client.stop_channels()
    finally:
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    return taken


WORKS = [guest]
