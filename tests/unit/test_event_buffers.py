"""Chapter 06: what ring and perf buffers hold, lose, cost, and in which order they deliver."""

import ctypes
import errno
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import kernel, load, rings, sandbox, source
from helpers.errors import BpfError, NotFound, VerifierError
from helpers.libbpf import lib
from helpers.program import Program, Run

TWINS = ["event_buffers.bpf.c", "event_buffers.bcc.c"]
FIRST, SECOND = (kernel.online_cpus() * 2)[:2]


def on(cpu: int, program: Program, name: str, **more: Any) -> Run:
    return sandbox.on_cpus([cpu], lambda: program.run(name, **more))[0]


@pytest.fixture
def prog() -> Iterator[Program]:
    with load(TWINS[0]) as loaded:
        yield loaded


def test_the_twins_deliver_and_lose_the_same(prog: Program) -> None:
    event = prog.events("ring").layout
    line = prog.events("perf", record="line").layout
    assert event and line
    frames = []
    for name in TWINS:
        with load(name) as twin:
            ring = twin.events("ring", record=event, lost="ring_lost")
            perf = twin.events("perf", record=line, lost="perf_lost", pages=1)
            for one in ("to_ring", "quietly", "loudly", "copy_to_ring", "only_even", "crossed"):
                on(FIRST, twin, one, repeat=40)
            on(FIRST, twin, "line_to_perf", data=bytes(14) + b"variable", repeat=300)
            frames.append((ring.frame().drop(columns="ns"), perf.frame()))
            assert sum(twin["ring_lost"][0]) == ring.lost == 5 * 40 - 4095 // 24
            assert sum(twin["perf_lost"][0]) == perf.lost == 300 - 4095 // 24
            assert twin["ring"].max_entries == 4096
    (ring_of_libbpf, perf_of_libbpf), (ring_of_bcc, perf_of_bcc) = frames
    assert ring_of_libbpf.equals(ring_of_bcc) and perf_of_libbpf.equals(perf_of_bcc)
    assert set(perf_of_bcc.text) == {"variable"}


def test_two_readers_take_each_others_records(prog: Program) -> None:
    """Why the course allows one; the kernel does not mind."""

    def taken(reader: Any) -> int:
        return sum(map(len, reader.take()))

    first = rings.reader(prog["ring"], 8)
    second = rings.reader(prog["ring"], 8)
    on(FIRST, prog, "to_ring", repeat=10)
    assert (taken(second), taken(first)) == (10, 0)
    on(FIRST, prog, "to_ring", repeat=10)
    assert (taken(first), taken(second)) == (10, 0)

    first = rings.reader(prog["perf"], 8)
    on(FIRST, prog, "to_perf", repeat=5)
    second = rings.reader(prog["perf"], 8)  # puts its own events into the slots
    on(FIRST, prog, "to_perf", repeat=10)
    assert (taken(first), taken(second)) == (5, 10)
    on(FIRST, prog, "to_perf", repeat=10)
    assert (taken(first), taken(second)) == (0, 10)


def test_a_slot_of_a_perf_buffer_holds_an_event_and_not_a_number(prog: Program) -> None:
    perf, key, value = prog["perf"], ctypes.c_uint32(0), ctypes.c_uint32(7)
    for cpu in [*kernel.online_cpus(), kernel.cpus()]:
        key.value = cpu
        slot = ctypes.byref(key), ctypes.byref(value)
        assert lib().bpf_map_lookup_elem(perf.fd, *slot) < 0 and value.value == 7
    assert lib().bpf_map_update_elem(perf.fd, *slot, 0) == -errno.E2BIG  # one slot a CPU
    key.value, value.value = 0, perf.fd
    assert lib().bpf_map_update_elem(perf.fd, *slot, 0) == -errno.EBADF  # a map's


@pytest.mark.parametrize("size", [4, 5, 8, 9, 13, 16, 100, 128])
def test_how_many_records_fit(size: int) -> None:
    for name, takes in (("ring", 8 + (size + 7) // 8 * 8), ("perf", (12 + size + 7) // 8 * 8)):
        with load(TWINS[0]) as prog:
            events = prog.events(name, record="line", lost=f"{name}_lost", pages=1)
            on(FIRST, prog, f"line_to_{name}", data=bytes(14 + size - 4), repeat=600)
            raw = events.raw()
            assert (len(raw), events.lost) == (4095 // takes, 600 - 4095 // takes)
            assert len(raw[0]) == (size if name == "ring" else takes - 12)


def test_what_is_sent_before_there_is_a_reader(prog: Program) -> None:
    prog.run("to_ring", repeat=3)
    prog.run("to_perf", repeat=3)
    assert len(prog.events("ring").read()) == 3
    assert len(prog.events("perf").read()) == 0
    assert sum(prog["perf_lost"][0]) == 3


def test_order_between_cpus_and_by_reservation(prog: Program) -> None:
    if FIRST == SECOND:
        pytest.skip("this machine has one CPU: run it on one with two")
    ring, perf = prog.events("ring"), prog.events("perf")
    for cpu in (FIRST, SECOND) * 3:
        on(cpu, prog, "to_ring")
        on(cpu, prog, "to_perf")
    assert [one.cpu for one in ring.read()] == [FIRST, SECOND] * 3
    delivered = perf.read()
    assert [one.cpu for one in delivered] == [FIRST] * 3 + [SECOND] * 3
    assert [one.cpu for one in sorted(delivered, key=lambda one: one.number)] == [FIRST, SECOND] * 3
    prog.run("crossed")
    first, second = ring.read()
    assert first.number > second.number and first.ns > second.ns


def test_the_kernel_tells_of_perf_losses_with_a_later_record(prog: Program) -> None:
    perf = prog.events("perf", lost=None, pages=1)
    on(FIRST, prog, "to_perf", repeat=1000)
    df = perf.frame()
    assert (df.attrs["delivered"], df.attrs["lost"]) == (127, 0)
    on(FIRST, prog, "to_perf")
    df = perf.frame()
    assert (df.attrs["delivered"], df.attrs["lost"]) == (128, 873)
    ring = prog.events("ring", lost=None)
    prog.run("to_ring", repeat=1000)
    assert len(ring.read()) == 170 and ring.lost is None
    with pytest.raises(NotFound, match="no map 'nowhere'"):
        prog.events("ring", lost="nowhere")


@pytest.mark.parametrize("name", ["ring", "perf"])
def test_nothing_goes_uncounted_under_overload(prog: Program, name: str) -> None:
    events = prog.events(name, lost=f"{name}_lost", pages=1)
    work = threading.Thread(
        target=sandbox.on_cpus,
        args=([FIRST, SECOND], lambda: prog.run(f"to_{name}", repeat=20_000)),
    )
    work.start()
    numbers = list[int]()
    while work.is_alive():
        numbers += [one.number for one in events.read(timeout=0.01)]
    work.join()
    numbers += [one.number for one in events.read()]
    assert len(set(numbers)) == len(numbers) == events.delivered < 40_000
    assert events.lost is not None and events.delivered + events.lost == prog["produced"][0]
    assert prog["produced"][0] == 40_000


def test_discarded_records_take_room_and_are_never_seen(prog: Program) -> None:
    ring = prog.events("ring", lost="ring_lost")
    prog.run("only_even", repeat=400)
    assert [one.number for one in ring.read()] == list(range(0, 170, 2))
    assert ring.lost == 230
    prog.run("only_even", repeat=2)  # read on: there is room again
    assert len(ring.read()) == 1


def test_who_is_woken(prog: Program) -> None:
    ring = prog.events("ring")
    with select.epoll() as sleeper:
        sleeper.register(prog["ring"].fileno(), select.EPOLLIN)
        for name, wakes in (("quietly", False), ("to_ring", False), ("loudly", True)):
            prog.run(name)
            assert bool(sleeper.poll(2 if wakes else 0.1)) == wakes, name
        assert len(ring.read()) == 3
        prog.run("to_ring")
        assert sleeper.poll(2)


def test_a_record_that_wakes_nobody_is_read_all_the_same(prog: Program) -> None:
    ring = prog.events("ring")
    ring.read()
    later = threading.Timer(0.1, lambda: prog.run("quietly"))
    later.start()
    start = time.monotonic()
    assert len(ring.read(timeout=30)) == 1
    assert time.monotonic() - start < 15
    later.join()


def test_a_wake_up_costs_more_than_a_record() -> None:
    with load(TWINS[0], defines={"RING_BYTES": 65536}) as prog:
        ring, perf = prog.events("ring"), prog.events("perf")

        def cost(name: str) -> int:
            best = []
            for _ in range(9):
                best.append(on(FIRST, prog, name, repeat=1000).duration_ns)
                ring.raw(), perf.raw()
            return min(best)

        quiet = cost("quietly")
        assert cost("loudly") > 3 * quiet
        assert cost("to_perf") > 3 * quiet


def test_mistakes_with_a_ring_are_explained() -> None:
    text = source(TWINS[0])
    leak = text.replace("\t\tbpf_ringbuf_discard(event, 0);", "\t\t;")
    with pytest.raises(VerifierError, match="submit or discard a reservation on every path"):
        load(text=leak, name=TWINS[0])
    unknown = text.replace("&ring, sizeof(*event), 0", "&ring, number, 0", 1)
    with pytest.raises(VerifierError, match="help: reserve the largest size, or"):
        load(text=unknown, name=TWINS[0])
    with pytest.raises(BpfError, match=r"(?s)make the map ring .*EINVAL.*power of two") as caught:
        load(TWINS[1], defines={"RING_BYTES": 3 * 4096})
    assert caught.value.errno == errno.EINVAL
    with load(TWINS[0], defines={"RING_BYTES": 3 * 4096}) as rounded:
        assert rounded["ring"].max_entries == 4 * 4096


def test_a_perf_buffer_opened_twice(prog: Program) -> None:
    first = prog.events("perf", lost="perf_lost")
    with pytest.raises(
        BpfError, match=r"(?s)perf has a reader already .*EBUSY.*close\(\) it first"
    ):
        prog.events("perf", lost="perf_lost")
    first.close()
    prog.events("perf", lost="perf_lost")
