"""What takes a whole machine to measure: a CPU that is off, and settings of all the system."""

from pathlib import Path

import pytest

from helpers import kernel, load
from helpers.errors import BpfError
from helpers.vm.boot import in_guest
from helpers.vm.everywhere import ask
from helpers.vm.fetch import Kernel


def a_cpu_is_off() -> dict[str, object]:
    """What a per-CPU array and a perf buffer have then."""
    assert in_guest()
    Path("/sys/devices/system/cpu/cpu1/online").write_text("0")
    with load("per_cpu.bpf.c") as prog:
        prog.run("add_per_cpu", repeat=5)
        values = prog["per_cpu"][0]
    with load("event_buffers.bpf.c") as prog, prog.events("perf") as perf:
        prog.run("to_perf", repeat=3)
        delivered = len(perf.raw())
        mapped = Path("/proc/self/maps").read_text().count("anon_inode:[perf_event]")
    return {"values": values, "online": kernel.online_cpus(), "parts": mapped, "got": delivered}


def shorter_stacks() -> list[str]:
    """What is said of stacks of 100 and 101 frames where the administrator allows 100."""
    assert in_guest()
    Path("/proc/sys/kernel/perf_event_max_stack").write_text("100")
    said = []
    for frames in (100, 101):
        try:
            load("stack_traces.bpf.c", defines={"FRAMES": frames}).close()
            said.append("")
        except BpfError as error:
            said.append(str(error))
    return said


@pytest.mark.timeout(400)
def test_possible_cpus_have_values_and_online_ones_buffers(linux: Kernel) -> None:
    told = ask(linux, a_cpu_is_off, shorter_stacks)
    off = told["a_cpu_is_off"]
    assert off == {"values": [5, 0], "online": [0], "parts": 1, "got": 3}
    fits, too_long = told["shorter_stacks"]
    assert not fits and "A stack has at most 100 frames of 8 bytes here" in too_long
