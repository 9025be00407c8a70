"""Pins and lifetimes: who holds a map, who may use it again, and where a pin can be."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from helpers import kernel, load, open_map, sandbox, source
from helpers.errors import BpfError, LayoutError, NotFound, Unsupported
from helpers.libbpf import lib
from helpers.program import Program

TWINS = ["pinning.bpf.c", "pinning.bcc.c"]
NAME = "test_pinning"
FRAME = sandbox.udp(payload=b"x" * 100)
FIELDS = "__u64 packets;\n\t__u64 bytes;"


@pytest.fixture
def pin() -> Iterator[Path]:
    """Where to pin, in a folder of the course that is gone again afterwards."""
    yield kernel.PINS / NAME
    (kernel.PINS / NAME).unlink(missing_ok=True)
    kernel.drop_pins()
    assert not kernel.PINS.exists()


@pytest.fixture
def prog() -> Iterator[Program]:
    with load("pinning.bpf.c") as loaded:
        yield loaded


def gone(number: int, patience: float = 10.0) -> bool:
    """Is the map freed within ``patience`` seconds? The kernel defers it."""
    deadline = time.monotonic() + patience
    while number in kernel.ids("map") and time.monotonic() < deadline:
        time.sleep(0.01)
    return number not in kernel.ids("map")


def process(code: str, *arguments: object) -> list[int]:
    """The numbers that Python prints for ``code``, in a process of its own, until it exits."""
    command = [sys.executable, "-c", code, FRAME.hex(), *map(str, arguments)]
    done = subprocess.run(command, cwd=kernel.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


FIRST = """
import sys
from helpers import load
prog = load("pinning.bpf.c")
prog.run("count", data=bytes.fromhex(sys.argv[1]), repeat=3)
print(prog["totals"].id, prog["totals"][17].packets)
if sys.argv[2:]:
    prog["totals"].pin(sys.argv[2])
"""
NEXT = """
import sys
from helpers import load, open_map
with open_map(pin=sys.argv[2]) as old, load("pinning.bpf.c", maps={"totals": old}) as prog:
    prog.run("count", data=bytes.fromhex(sys.argv[1]), repeat=3)
    print(prog["totals"].id, prog["totals"][17].packets)
"""


def test_the_twins_count_the_same_packets() -> None:
    frames = [flow.frame(40) for flow in sandbox.random_flows(30, seed=4)] + [sandbox.icmp()] * 3
    found = []
    for name in TWINS:
        with load(name) as prog, sandbox.pair() as net:
            prog.attach("count", net.server)
            net.send(frames)
            found.append(prog["totals"].frame().sort_values("key", ignore_index=True))
    assert found[0].equals(found[1])
    assert found[0].packets.sum() == 33
    assert found[0].bytes.sum() == sum(map(len, frames))


def test_a_map_ends_with_its_process() -> None:
    number, packets = process(FIRST)
    assert packets == 3
    assert gone(number)
    with pytest.raises(NotFound, match=f"Map id {number} is not there"):
        open_map(id=number)


def test_a_pin_outlives_its_process_and_the_next_goes_on(pin: Path) -> None:
    number, packets = process(FIRST, NAME)
    assert packets == 3 and not gone(number, 0.3)
    assert process(NEXT, pin) == [number, 6]
    assert process(NEXT, pin) == [number, 9]
    command = [kernel.bpftool(), "-j", "map", "dump", "pinned", str(pin)]
    (told,) = json.loads(subprocess.check_output(command))
    expected = {"packets": 9, "bytes": 9 * len(FRAME)}
    assert told["formatted"] == {"key": 17, "value": expected}
    with open_map(pin=pin) as it:
        assert it.id == number and it[17]._asdict() == expected
        it.unpin(NAME)
        assert not pin.exists() and it[17].packets == 9  # we still hold it
    assert gone(number)


HOLDERS: dict[str, Callable[[Program], object]] = {
    "descriptor": lambda prog: os.dup(prog["totals"].fd),
    "program": lambda prog: os.dup(prog.function("count").fileno()),
    "pin": lambda prog: prog["totals"].pin(NAME),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS.keys())
def test_each_holder_alone_keeps_a_map(
    name: str, hold: Callable[[Program], object], pin: Path
) -> None:
    with load(name) as prog:
        number, holder = prog["totals"].id, hold(prog)
    assert not gone(number, 0.5)
    if isinstance(holder, int):
        os.close(holder)
    pin.unlink(missing_ok=True)
    assert gone(number)


def test_the_kernel_takes_no_dot_and_no_other_file_system(prog: Program, pin: Path) -> None:
    """The course refuses these by itself, with the kernel's errno; here the kernel is asked."""
    kernel.make_pins(pin)
    descriptor, dotted = prog["totals"].fd, pin.with_name(f"{NAME}.v2")
    assert lib().bpf_obj_pin(descriptor, os.fsencode(dotted)) == -errno.EPERM
    with TemporaryDirectory() as elsewhere:
        assert lib().bpf_obj_pin(descriptor, os.fsencode(f"{elsewhere}/{NAME}")) == -errno.EPERM
        assert not os.listdir(elsewhere)
    assert lib().bpf_obj_pin(descriptor, os.fsencode(pin)) == 0


def test_an_attachment_of_ours_ends_with_its_process_and_so_does_the_map() -> None:
    """It is a link, held by a descriptor like all else; the interface is there for longer."""
    reader, writer = os.pipe()
    with sandbox.pair() as net, open(reader) as told:
        if not (child := os.fork()):
            try:
                prog = load("pinning.bpf.c")
                prog.attach("count", net.server)
                net.send(FRAME)
                os.write(writer, f"{prog['totals'].id} {prog['totals'][17].packets}".encode())
            finally:
                os._exit(0)  # whatever came: no second run of the tests goes on from here
        os.close(writer)
        number, packets = map(int, told.read().split())
        os.waitpid(child, 0)
        assert packets == 1 and gone(number)
        with load("pinning.bpf.c") as prog:  # and the interface is free
            prog.attach("count", net.server)


def test_both_dialects_share_a_pinned_map() -> None:
    path = kernel.PINS / "chapter_11"
    flags = [f'-DPIN="{path}"']
    try:
        with load("pinning.bpf.c") as prog:
            prog.run("count", data=FRAME)
            number = prog["totals"].id
            prog["totals"].pin(path.name)
        with load("pinning.bcc.c", flags=flags) as twin:
            twin.run("count", data=FRAME)
            assert (twin["totals"].id, twin["totals"][17].packets) == (number, 2)
        path.unlink()
        # Nothing there: BCC makes the map and the pin, and u32 and __u32 are one type to us.
        with load("pinning.bcc.c", flags=flags) as twin:
            twin.run("count", data=FRAME)
        with open_map(pin=path) as it, load("pinning.bpf.c", maps={"totals": it}) as prog:
            prog.run("count", data=FRAME)
            assert it.id != number and it[17].packets == 2
    finally:
        path.unlink(missing_ok=True)
        kernel.drop_pins()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("__u64 bytes;\n\t__u64 packets;", "__u64 bytes at 0, __u64 packets at 8"),
        ("__s64 packets;\n\t__u64 bytes;", "__s64 packets at 0, __u64 bytes at 8"),
        ("__u64 packets;\n\t__u32 bytes;", "__u32 bytes at 8"),
        ("__u64 packets;\n\t__u64 bytes, dropped;", "__u64 dropped at 16"),
    ],
)
def test_another_layout_is_refused(prog: Program, fields: str, said: str) -> None:
    text = source("pinning.bpf.c").replace(FIELDS, fields)
    with pytest.raises(LayoutError, match="its value is struct total .*__u64 bytes at 8") as error:
        load(text=text, maps={"totals": prog["totals"]})
    assert said in str(error.value)
    assert "unpin the old map" in str(error.value)


def test_another_size_type_or_key_is_refused(prog: Program) -> None:
    kept = {"totals": prog["totals"]}
    with pytest.raises(LayoutError, match="its max_entries is 256, and pinning.bpf.c declares 64"):
        load("pinning.bpf.c", defines={"PROTOCOLS": 64}, maps=kept)
    text = source("pinning.bpf.c")
    with pytest.raises(LayoutError, match="its type is hash, and cell.bpf.c declares lru_hash"):
        load(text=text.replace("MAP_TYPE_HASH", "MAP_TYPE_LRU_HASH"), maps=kept)
    with pytest.raises(LayoutError, match="its key is __u32 .* declares __u64"):
        load(
            text=text.replace("key, __u32", "key, __u64").replace(
                "__u32 protocol", "__u64 protocol"
            ),
            maps=kept,
        )


def test_other_names_of_the_same_types_are_fine(prog: Program) -> None:
    text = source("pinning.bpf.c").replace(FIELDS, "unsigned long long packets, bytes;")
    text = text.replace("struct total", "struct sum")
    with load(text=text, maps={"totals": prog["totals"]}) as other:
        other.run("count", data=FRAME, repeat=2)
        assert prog["totals"][17].packets == 2


def test_a_pin_that_is_taken(prog: Program, pin: Path) -> None:
    totals = prog["totals"]
    totals.pin(NAME)
    with (
        load("pinning.bpf.c") as other,
        pytest.raises(BpfError, match="There is a pin .* already .errno EEXIST") as error,
    ):
        other["totals"].pin(NAME)
    assert "somebody's data" in str(error.value)
    with open_map(pin=pin) as it:
        assert it.id == totals.id  # it was not replaced
    with pytest.raises(BpfError, match="folder .*test_pinning cannot be made .errno E"):
        totals.pin(f"{NAME}/below")


@pytest.mark.parametrize("name", ["a.b", "a.b/c", "../a", str(kernel.PINS / "a.b")])
def test_a_pin_with_a_dot(prog: Program, pin: Path, name: str) -> None:
    with pytest.raises(BpfError, match="has a dot in it(.|\n)*Use an underscore") as error:
        prog["totals"].pin(name)
    assert error.value.errno_name == "EPERM"
    assert not kernel.PINS.exists() and not (kernel.BPFFS / "a").exists()


def test_a_pin_outside_the_bpf_file_system(prog: Program, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="a path in a BPF file system(.|\n)*which is in none"):
        prog["totals"].pin(tmp_path / "totals")
    with pytest.raises(NotFound, match="no folder /sys/fs/bpf/none_such .errno ENOENT"):
        prog["totals"].pin("/sys/fs/bpf/none_such/totals")
    with pytest.raises(NotFound, match="The pin .* is not there"):
        prog["totals"].unpin("none_such")


def test_folders_of_ours_go_with_their_last_pin(prog: Program, pin: Path) -> None:
    path = prog["totals"].pin("one/two/totals")
    assert path == kernel.PINS / "one/two/totals"
    prog["totals"].pin(NAME)
    prog["totals"].unpin("one/two/totals")
    assert list(kernel.PINS.rglob("*")) == [pin]
    prog["totals"].unpin(NAME)
    assert not kernel.PINS.exists()


def test_a_pinned_program_is_no_map(prog: Program, pin: Path) -> None:
    prog["totals"].pin(NAME)
    programs = {name: number for number, name in kernel.objects("prog").items()}
    path = kernel.PINS / "test_program"
    command = [kernel.bpftool(), "prog", "pin", "id", str(programs["count"]), str(path)]
    subprocess.run(command, check=True)
    try:
        with pytest.raises(NotFound, match="something else than a map"):
            open_map(pin=path)
    finally:
        path.unlink()


def test_a_pin_goes_with_its_file_system(prog: Program) -> None:
    number = prog["totals"].id
    pinned = f"mount -t bpf none /mnt && {kernel.bpftool()} map pin id {number} /mnt/kept"
    command = ["unshare", "--mount", "sh", "-c", f"{pinned} && ls /mnt/kept"]
    assert subprocess.check_output(command, text=True) == "/mnt/kept\n"
    prog.close()
    assert gone(number)


def test_a_program_array_wants_a_holder_in_user_space(pin: Path) -> None:
    def filled(hold: Callable[[Program], object]) -> tuple[int, object]:
        with load("tail_calls.bpf.c") as prog:
            prog["protocols"][6] = prog.function("count_tcp")
            return prog["protocols"].id, hold(prog)

    number, descriptor = filled(lambda prog: os.dup(prog.function("dispatch").fileno()))
    assert isinstance(descriptor, int)
    with open_map(id=number) as slots:  # the program keeps the map, and nobody its contents
        deadline = time.monotonic() + 10
        while len(slots) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(slots) == 0
    os.close(descriptor)
    number, _ = filled(lambda prog: prog["protocols"].pin(NAME))
    time.sleep(0.3)
    with open_map(pin=pin) as slots:
        assert (slots.id, list(slots)) == (number, [6])
        slots.unpin(NAME)
    assert gone(number)
