"""What chapter 03 says about arrays, in both dialects."""

import errno
import select
import socket
from collections.abc import Iterator

import pandas as pd
import pytest

from helpers import load, sandbox, source
from helpers.errors import (
    BpfError,
    KeyExists,
    LayoutError,
    MissingKey,
    PermissionNeeded,
    VerifierError,
)
from helpers.program import Program

DIALECTS = ("array.bpf.c", "array.bcc.c")
TEXT = source("array.bpf.c")


@pytest.fixture(params=DIALECTS)
def prog(request: pytest.FixtureRequest) -> Iterator[Program]:
    with load(request.param) as loaded:
        yield loaded


def test_both_dialects_count_the_same_packets() -> None:
    frames = [flow.frame(20) for flow in sandbox.random_flows(40, seed=3)]
    frames += [sandbox.icmp()] * 7 + [b"\xff" * 60]  # the last is no IPv4
    found = []
    for name in DIALECTS:
        with load(name) as prog, sandbox.pair() as net:
            prog.attach("count_protocols", net.server)
            net.send(frames)
            assert net.stats().received == 48
            found.append(prog["packets"].frame())
    assert found[0].value.sum() == 47
    assert found[0].value[socket.IPPROTO_ICMP] == 7
    assert found[0].attrs["type"] == found[1].attrs["type"] == "array"
    # BCC's BPF_ARRAY declares its index as int; all else is the same.
    pd.testing.assert_frame_equal(found[0], found[1].astype({"key": "uint32"}))


def test_an_array_is_new_but_never_empty(prog: Program) -> None:
    packets = prog["packets"]
    assert dict(packets) == dict.fromkeys(range(256), 0)
    packets.update((index, index + 1) for index in range(256))
    assert packets.raw()[1].nbytes == 256 * 8


def test_the_steps_that_an_array_refuses(prog: Program) -> None:
    packets = prog["packets"]
    with pytest.raises(MissingKey, match=r"no index 256: .* 0 to 255 \(errno E2BIG(.|\n)*array\.b"):
        packets[256] = 1
    with pytest.raises(MissingKey, match="no index 256: .*ENOENT"):
        packets[256]
    with pytest.raises(BpfError, match="cannot be deleted .*EINVAL(.|\n)*Write zero instead"):
        del packets[0]
    with pytest.raises(BpfError, match="cannot be deleted .*EINVAL"):
        packets.clear()
    with pytest.raises(KeyExists, match="EEXIST"):
        packets.update_elem(0, 1, flags="noexist")
    packets.update_elem(0, 1, flags="exist")
    assert (packets[0], 256 in packets, len(packets)) == (1, False, 256)


def test_a_program_is_refused_the_same_steps(prog: Program) -> None:
    told = {
        step: prog.run(step).retval
        for step in ("look_past_the_end", "write_past_the_end", "delete_first")
    }
    assert told == {
        "look_past_the_end": 1,
        "write_past_the_end": errno.E2BIG,
        "delete_first": errno.EINVAL,
    }


def test_an_index_is_four_bytes_without_a_sign() -> None:
    with load("array.bpf.c") as libbpf, load("array.bcc.c") as bcc:
        with pytest.raises(LayoutError, match="-1 does not fit __u32"):
            libbpf["packets"][-1]
        assert bcc["packets"].key.ctype == "int"
        with pytest.raises(MissingKey, match="no index -1"):
            bcc["packets"][-1]
    with pytest.raises(BpfError, match="packets") as refused:
        load(text=TEXT.replace("__type(key, __u32)", "__type(key, __u64)", 1))
    assert refused.value.errno_name == "EINVAL"


@pytest.mark.parametrize("name", DIALECTS)
def test_a_byte_is_no_proof_that_the_index_is_inside(name: str) -> None:
    text = source(name).replace("\tif (count)\n", "")
    assert text != source(name)
    with pytest.raises(VerifierError, match="may have returned NULL") as refused:
        load(text=text, name=name, dialect="bcc" if ".bcc." in name else "libbpf")
    assert f"--> {name}:" in str(refused.value)
    assert "__sync_fetch_and_add(count, 1);" in str(refused.value)


def test_a_constant_index_needs_its_check_outside_and_on_older_kernels() -> None:
    inside = TEXT.replace("!rule || ", "")
    assert inside != TEXT
    try:
        load(text=inside).close()
    except VerifierError as error:  # before 6.14
        assert "may have returned NULL" in error.message
    with pytest.raises(VerifierError, match="may have returned NULL"):
        load(text=inside.replace("first = 0", "first = 1"))


def test_settings_take_effect_with_the_next_packet(prog: Program) -> None:
    settings = prog["settings"]
    with sandbox.pair() as net:
        with net.server.inside():
            inbox = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            inbox.bind((net.server.ip, 53))

        def arrives() -> bool:
            net.send(sandbox.udp(dport=53, payload=b"hello"))
            got = bool(select.select([inbox], [], [], 0.2)[0])
            return got and inbox.recv(100) == b"hello"

        with inbox:
            link = prog.attach("filter", net.server)
            seen = [arrives()]  # before anybody wrote: zero means off
            for rule in ((53, 1), (53, 0), (54, 1), (53, 1)):
                settings[0] = rule
                seen.append(arrives())
            assert seen == [True, False, True, True, False]
            assert repr(link) == "filter: attached"
    with pytest.raises(LayoutError, match="65536 does not fit"):
        settings[0] = (65536, 1)


def test_global_variables_are_array_maps() -> None:
    with load("globals.bpf.c") as prog:
        assert {name: (m.type, len(m)) for name, m in prog.maps.items()} == dict.fromkeys(
            (".rodata", ".data", ".bss"), ("array", 1)
        )
        assert [prog[name][0]._asdict() for name in (".rodata", ".data", ".bss")] == [
            {"shortest": 100},
            {"verdict": 1},
            {"short_frames": 0},
        ]
        assert [prog.run("guard", data=bytes(n)).retval for n in (60, 99, 100)] == [1, 1, 2]
        prog[".data"][0] = {"verdict": 2}
        prog[".bss"][0] = {"short_frames": 1000}
        assert prog.run("guard", data=bytes(60)).retval == 2
        assert prog[".bss"].frame().short_frames.tolist() == [1001]
        assert repr(prog[".bss"][0]) == "bss(short_frames=1001)"
        with pytest.raises(PermissionNeeded, match=r"frozen(.|\n)*defines=") as refused:
            prog[".rodata"][0] = {"shortest": 1}
        assert refused.value.errno_name == "EPERM"
        assert prog[".rodata"][0].shortest == 100
        with pytest.raises(BpfError, match="EINVAL"):
            del prog[".bss"][0]
    with load("globals.bpf.c", defines={"SHORTEST": 60}) as prog:
        assert prog.run("guard", data=bytes(60)).retval == 2


def test_bcc_has_no_global_variables() -> None:
    with pytest.raises(VerifierError):
        load(text="int n; int f(struct xdp_md *ctx) { return ++n; }", dialect="bcc")


def test_an_index_costs_less_than_a_hash() -> None:
    cost = {}
    for kind in ("ARRAY", "HASH"):
        constants = {"KIND": f"BPF_MAP_TYPE_{kind}", "ENTRIES": 100_000}
        with load("index_cost.bpf.c", defines=constants) as prog:
            prog["entries"].update((index, 2) for index in range(100_000))
            runs = [prog.run("read_one", repeat=20_000) for _ in range(5)]
            assert {run.retval for run in runs} == {2}  # found, each time
            cost[kind] = min(run.duration_ns for run in runs)
    assert cost["ARRAY"] < cost["HASH"]
