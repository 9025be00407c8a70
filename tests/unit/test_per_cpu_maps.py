"""Per-CPU maps: what chapter 04 tells of them, and that its C twins agree."""

import ctypes
import threading
from collections.abc import Iterator

import pandas as pd
import pytest

from helpers import kernel, load, open_map, sandbox, source
from helpers.errors import LayoutError
from helpers.libbpf import lib
from helpers.maps import BpfMap
from helpers.program import Program

TWINS = ["per_cpu.bpf.c", "per_cpu.bcc.c"]
ROUNDS = 1_000_000
MAP = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_%s);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[%d]);
} large SEC(".maps");
"""


@pytest.fixture(scope="module", params=TWINS)
def prog(request: pytest.FixtureRequest) -> Iterator[Program]:
    with load(request.param) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def two() -> list[int]:
    return kernel.online_cpus()[:2]


def total(counter: BpfMap) -> int:
    return int(pd.Series(counter[0]).sum())


def test_what_python_writes_while_a_program_counts_may_be_gone_at_once(two: list[int]) -> None:
    """The program had read the slot before, and writes its own sum after."""
    if len(two) < 2:
        pytest.skip("needs two CPUs: give the machine another")
    far = 1 << 40  # never counted up to
    with load("per_cpu.bpf.c", defines={"ADDS": 1000}) as prog:
        counter, done = prog["per_cpu"], threading.Event()
        written = gone = 0

        def work(cpu: int) -> None:
            nonlocal written, gone
            while cpu == two[0] and not gone and written < 1_000_000:
                prog.run("add_per_cpu", repeat=20_000)
            done.set()

        def write(cpu: int) -> None:
            nonlocal written, gone
            while not done.is_set():
                counter[0] = [far] * kernel.cpus()
                gone += counter[0][two[0]] < far
                counter[0] = [0] * kernel.cpus()
                written += 1

        sandbox.on_cpus(two, lambda cpu: (work if cpu == two[0] else write)(cpu))
        assert gone, f"none of {written:,}"


def arrived(prog: Program, program: str, counter: BpfMap, cpus: list[int]) -> int:
    before = total(counter)
    sandbox.on_cpus(cpus, lambda: prog.run(program, repeat=ROUNDS))
    return total(counter) - before


def test_only_plain_additions_to_a_shared_slot_get_lost(prog: Program, two: list[int]) -> None:
    shared, per_cpu = prog["shared"], prog["per_cpu"]
    plain = [arrived(prog, "add_plain", shared, two) for _ in range(5)]
    assert 0 < min(plain) < len(two) * ROUNDS
    for _ in range(3):
        assert arrived(prog, "add_atomic", shared, two) == len(two) * ROUNDS
        assert arrived(prog, "add_per_cpu", per_cpu, two) == len(two) * ROUNDS


def test_one_cpu_alone_loses_nothing(prog: Program, two: list[int]) -> None:
    assert arrived(prog, "add_plain", prog["shared"], two[:1]) == ROUNDS


def test_hashes_count_as_arrays_do(prog: Program, two: list[int]) -> None:
    prog["shared_hash"][0] = 0
    prog["per_cpu_hash"][0] = [0] * kernel.cpus()
    for program, name in (("add_hash_atomic", "shared_hash"), ("add_hash_per_cpu", "per_cpu_hash")):
        assert arrived(prog, program, prog[name], two) == len(two) * ROUNDS


def test_a_program_sees_the_copy_of_its_own_cpu(prog: Program, two: list[int]) -> None:
    counter = prog["per_cpu"]
    counter[0] = [10 + cpu for cpu in range(kernel.cpus())]
    assert sandbox.on_cpus(two, lambda: prog.run("mine").retval) == [10 + cpu for cpu in two]


def test_a_value_is_rounded_up_to_8_bytes_for_each_possible_cpu(prog: Program) -> None:
    longest = prog["longest"]
    longest[0] = [0x01020304] * kernel.cpus()
    room = 8 * kernel.cpus()
    buffer = (ctypes.c_uint8 * (room + 8))(*[0xAA] * (room + 8))
    assert lib().bpf_map_lookup_elem(longest.fd, bytes(4), buffer) == 0
    # Past the four bytes for each CPU that a C program might have made room for, and no further.
    assert bytes(buffer) == b"\4\3\2\1\0\0\0\0" * kernel.cpus() + b"\xaa" * 8
    assert longest.raw()[1].shape == (1, room)


def test_a_key_that_comes_again_starts_from_zero_on_every_cpu(two: list[int]) -> None:
    with load("per_cpu.bpf.c") as prog:
        table, packet = prog["by_protocol"], sandbox.udp()
        sandbox.on_cpus(two[1:], lambda: prog.run("count_packets", data=packet, repeat=7))
        del table[17]
        sandbox.on_cpus(two[:1], lambda: prog.run("count_packets", data=packet))
        df = table.frame().set_index("cpu")
        assert df.packets[two[0]] == 1
        assert df.packets.drop(two[0]).sum() == 0


def test_the_twins_agree(two: list[int]) -> None:
    frames = {
        two[0]: [sandbox.tcp(), sandbox.udp(payload=b"x" * 90), sandbox.tcp(payload=b"y")],
        two[1]: [sandbox.udp(), sandbox.icmp(), b"\0" * 64],
    }

    def counted(name: str) -> tuple[pd.DataFrame, list[int]]:
        with load(name) as prog, sandbox.pair() as net:
            prog.attach("count_packets", net.server)
            for cpu, some in frames.items():
                net.send(some, cpu=cpu)
            by_protocol = prog["by_protocol"].frame().sort_values(["key", "cpu"])
            return by_protocol.reset_index(drop=True), prog["longest"][0]

    libbpf, bcc = (counted(name) for name in TWINS)
    pd.testing.assert_frame_equal(libbpf[0], bcc[0])
    assert libbpf[1] == bcc[1]
    sums = libbpf[0].groupby("key")[["packets", "bytes"]].sum()
    udp = len(frames[two[0]][1]) + len(frames[two[1]][0])
    assert sums.packets.to_dict() == {1: 1, 6: 2, 17: 2}
    assert sums.bytes[17] == udp
    assert [libbpf[1][cpu] for cpu in two] == [132, 64]


def test_the_twins_add_as_often_as_they_are_told() -> None:
    """A run of ADDS=64 counts 64."""
    for name in TWINS:
        with load(name, defines={"ADDS": 64}) as prog:
            for program, counter in (("add_atomic", "shared"), ("add_per_cpu", "per_cpu")):
                before = total(prog[counter])
                prog.run(program, repeat=10)
                assert total(prog[counter]) - before == 640


def test_values_of_bcc_is_one_array_a_key() -> None:
    module = kernel.import_bcc().BPF(text=source("per_cpu.bcc.c").encode(), cflags=["-w"])
    try:
        table = module[b"by_protocol"]
        with open_map(fd=table.map_fd) as same_map:
            for key in (6, 17):
                same_map[key] = [(cpu, 0) for cpu in range(kernel.cpus())]
        found = table.values()
        assert len(found) == 2
        assert [[one.packets for one in each] for each in found] == [[*range(kernel.cpus())]] * 2
        counter = module[b"per_cpu"]
        with pytest.raises(TypeError):
            sum(counter.values())
        assert sum(counter.values()[0]) == counter.sum(0).value == 0
    finally:
        kernel.free_bcc(module)


@pytest.mark.parametrize("value", [5, [], [1] * (kernel.cpus() + 1), [-1] * kernel.cpus()])
def test_a_value_that_is_no_number_for_each_cpu_is_refused(prog: Program, value: object) -> None:
    before = prog["per_cpu"][0]
    with pytest.raises(LayoutError, match="per_cpu"):
        prog["per_cpu"][0] = value
    assert prog["per_cpu"][0] == before


@pytest.mark.parametrize("kind", ["PERCPU_ARRAY", "PERCPU_HASH"])
def test_a_copy_has_at_most_32_kib(kind: str) -> None:
    with load(text=MAP % (kind, 32768)) as prog:
        assert prog["large"].value.size == 32768
    with pytest.raises(LayoutError, match=r"large in cell.bpf.c:5(.|\n)*32,768 bytes(.|\n)*Cut"):
        load(text=MAP % (kind, 32769))
    with load(text=MAP % (kind.removeprefix("PERCPU_"), 32769)) as prog:
        assert prog["large"].value.size == 32769


def test_a_refusal_is_explained_after_bcc_was_loaded_too() -> None:
    """BCC shares libbpf, and takes over where its messages go."""
    load("per_cpu.bcc.c").close()
    with pytest.raises(LayoutError, match="Cut the value up"):
        load(text=MAP % ("PERCPU_ARRAY", 40000))
