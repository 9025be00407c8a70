"""Program arrays: the dispatcher and its twin, empty slots, the limit, and what is refused."""

import os
import threading
from collections.abc import Callable, Iterator

import pandas as pd
import pytest

from helpers import compare, kernel, load, sandbox, source
from helpers.errors import BpfError, LayoutError, MissingKey, VerifierError
from helpers.program import Function, Program

TWINS = ["tail_calls.bpf.c", "tail_calls.bcc.c"]
XDP_DROP, XDP_PASS = 1, 2
SLOTS = {1: "count_icmp", 6: "count_tcp", 17: "count_udp"}


@pytest.fixture(scope="module", params=TWINS)
def shared(request: pytest.FixtureRequest) -> Iterator[Program]:
    with load(request.param) as loaded:
        yield loaded


@pytest.fixture
def prog(shared: Program) -> Program:
    """Either twin, its slots filled and its counters at zero."""
    for slot, name in SLOTS.items():
        shared["protocols"][slot] = shared.function(name)
    shared["counts"][0], shared["steps"][0] = (0, 0, 0, 0, 0), (0, 0)
    return shared


def test_the_twins_count_the_same_packets() -> None:
    frames = [sandbox.tcp()] * 5 + [sandbox.udp()] * 9 + [sandbox.icmp()] * 2
    found = []
    for name in TWINS:
        with load(name) as prog, sandbox.pair() as net:
            protocols = prog["protocols"]
            protocols.update({slot: prog.function(title) for slot, title in SLOTS.items()})
            prog["loop"][0] = prog.function("again")
            prog.attach("dispatch", net.server)
            net.send(frames)
            del protocols[6]
            net.send(frames)
            prog.run("again")
            counts, steps = (prog[m].frame().drop(columns="key") for m in ("counts", "steps"))
            found.append(pd.concat([counts, steps.add_prefix("again.")], axis=1))
    assert found[0].equals(found[1])
    assert found[0].iloc[0].to_dict() == {
        "tcp": 5,
        "udp": 18,
        "udp_new": 0,
        "icmp": 4,
        "fell_through": 5,
        "again.entered": 34,
        "again.fell_through": 1,
    }


def test_a_tail_call_does_not_come_back(prog: Program) -> None:
    assert prog.run("dispatch", data=sandbox.icmp()).retval == XDP_DROP  # count_icmp's verdict
    assert prog.run("dispatch", data=sandbox.tcp()).retval == XDP_PASS
    assert prog["counts"][0] == (1, 0, 0, 1, 0)
    assert prog.run("count_icmp").retval == XDP_DROP  # a program as any other


def test_an_empty_slot_falls_through(prog: Program) -> None:
    del prog["protocols"][1]
    assert prog.run("dispatch", data=sandbox.icmp()).retval == XDP_PASS
    assert prog["counts"][0] == (0, 0, 0, 0, 1)
    prog["protocols"].clear()
    assert len(prog["protocols"]) == 0
    prog.run("dispatch", data=sandbox.udp(), repeat=10)
    assert prog["counts"][0] == (0, 0, 0, 0, 11)


def test_33_tail_calls_and_no_more(prog: Program) -> None:
    prog.run("again")
    assert prog["steps"][0] == (1, 1)  # its slot is empty
    prog["loop"][0] = prog.function("again")
    prog.run("again", repeat=100)
    assert prog["steps"][0] == (1 + 100 * (1 + 33), 1 + 100)
    prog["loop"].clear()


def test_a_slot_takes_a_descriptor_and_gives_an_id(prog: Program) -> None:
    df = prog["protocols"].frame()
    loaded = kernel.objects("prog")
    assert {slot: loaded[i] for slot, i in zip(df.key, df.value, strict=True)} == SLOTS
    assert prog["protocols"][6] != prog.function("count_tcp").fileno()


def exchange(prog: Program, change: Callable[[Function], None]) -> tuple[int, ...]:
    """Count who saw 10,000 datagrams while slot 17 was changed."""
    prog["counts"][0] = (0, 0, 0, 0, 0)
    with sandbox.pair() as net:
        prog.attach("dispatch", net.server)
        sender = threading.Thread(target=net.send, args=([sandbox.udp()] * 10_000,))
        sender.start()
        while sender.is_alive():
            change(prog.function("count_udp_new"))
            change(prog.function("count_udp"))
    return tuple(prog["counts"][0])


def test_replacing_loses_no_packet(prog: Program) -> None:
    def write_over(program: Function) -> None:
        prog["protocols"][17] = program

    def seen() -> tuple[int, ...]:
        _, old, new, _, missed = exchange(prog, write_over)
        assert (old + new, missed) == (10_000, 0)
        return old, new

    # A busy machine may send them all before the first exchange.
    assert all(compare.until(seen, all))


def test_emptying_first_loses_packets(prog: Program) -> None:
    def empty_first(program: Function) -> None:
        del prog["protocols"][17]
        prog["protocols"][17] = program

    def seen() -> tuple[int, ...]:
        _, old, new, _, missed = exchange(prog, empty_first)
        assert old + new + missed == 10_000
        return old, new, missed

    assert all(compare.until(seen, all))


def test_a_program_of_another_type_is_refused(prog: Program) -> None:
    protocols, before = prog["protocols"], dict(prog["protocols"])
    other = prog.function("other_type")
    for act in (
        lambda: protocols.__setitem__(6, other),
        lambda: protocols.update_elem(6, other),
        lambda: protocols.update({6: other}),
    ):
        with pytest.raises(LayoutError, match="type xdp, and other_type is .* sched_cls") as error:
            act()
        assert error.value.errno_name == "EINVAL"
        assert "give sched_cls programs an array of their own" in str(error.value)
    assert dict(protocols) == before


def test_what_is_no_program_is_refused(prog: Program) -> None:
    protocols = prog["protocols"]
    for value, name in ((prog["counts"], "EINVAL"), (0, "EINVAL"), (1 << 20, "EBADF")):
        with pytest.raises(LayoutError, match="not the file descriptor of a program") as error:
            protocols[6] = value
        assert error.value.errno_name == name
        assert "prog.function(name)" in str(error.value)
    read, write = os.pipe()
    with pytest.raises(LayoutError, match="not the file descriptor"):
        protocols[6] = read
    os.close(read)
    os.close(write)


def test_slots_have_bounds_and_may_be_empty(prog: Program) -> None:
    protocols, program = prog["protocols"], prog.function("count_tcp")
    with pytest.raises(MissingKey, match="indexes 0 to 255 .errno E2BIG"):
        protocols[256] = program
    for act in (protocols.__getitem__, protocols.__delitem__):
        with pytest.raises(MissingKey, match="indexes 0 to 255"):
            act(256)
        with pytest.raises(MissingKey, match="no key 255 .errno ENOENT"):
            act(255)
    assert (255 in protocols, 256 in protocols, protocols.get(255)) == (False, False, None)
    for flags in ("noexist", "exist"):  # the kernel takes "any" alone, and blames no program
        with pytest.raises(BpfError, match="would not update 6 in protocols .errno EINVAL"):
            protocols.update_elem(6, program, flags=flags)


def test_an_array_that_two_types_share_does_not_load() -> None:
    body = "int other_type(struct __sk_buff *skb)\n{\n"
    text = source("tail_calls.bpf.c")
    mixed = text.replace(body, f"{body}\tbpf_tail_call(skb, &protocols, 0);\n")
    assert mixed != text
    with pytest.raises(LayoutError, match="would not load other_type, .* sched_cls") as error:
        load(text=mixed)
    assert error.value.errno_name == "EINVAL"
    assert "does other_type share protocols" in str(error.value)
    # What the verifier itself refuses stays the verifier's.
    wrong = text.replace("bpf_tail_call(ctx, &loop, 0);", "return *(int *)(long)zero;")
    assert wrong != text
    with pytest.raises(VerifierError):
        load(text=wrong)


def test_programs_cannot_read_the_array_and_its_cells_have_four_bytes() -> None:
    text, jump = source("tail_calls.bpf.c"), "bpf_tail_call(ctx, &protocols, ip->protocol);"
    with pytest.raises(VerifierError, match="cannot pass map_type 3"):
        load(text=text.replace(jump, "bpf_map_lookup_elem(&protocols, &zero);"))
    for cell in ("key", "value"):
        four = "__type(key, __u32);\n\t__type(value, __u32);\n} protocols"
        eight = four.replace(f"{cell}, __u32", f"{cell}, __u64")
        with pytest.raises(BpfError, match="EINVAL"):
            load(text=text.replace(four, eight))
