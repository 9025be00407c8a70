"""What chapter 01 says: what a program cannot do, what a map does, and which types there are."""

import os
import platform
import re

import pandas as pd
import pytest

from helpers import kernel, load, source
from helpers.errors import BpfError, CompileError, NotFound, VerifierError
from helpers.libbpf import lib

TEXT = source("why_maps.bpf.c")
ELEVEN = (
    "hash array percpu_hash percpu_array perf_event_array ringbuf lru_hash "
    "prog_array stack_trace sockmap sockhash"
).split()


@pytest.mark.parametrize("name", ["why_maps.bpf.c", "why_maps.bcc.c"])
def test_a_local_variable_forgets_and_a_map_remembers(name: str) -> None:
    with load(name) as prog:
        assert [prog.run("forget").retval for _ in range(3)] == [1, 1, 1]
        assert [prog.run("remember").retval for _ in range(3)] == [1, 2, 3]
        prog["runs"][0] = 100
        assert prog.run("remember", repeat=5).retval == 105
        assert prog["runs"].frame().value.tolist() == [105]


def test_a_variable_without_a_value_is_refused() -> None:
    with pytest.raises(VerifierError, match="no value yet(.|\n)*why_maps.bpf.c"):
        load(text=TEXT.replace("count = 0;", "count;"), name="why_maps.bpf.c")


def test_a_static_variable_is_a_map() -> None:
    with load(text=TEXT.replace("int count = 0;", "static int count;")) as prog:
        assert [prog.run("forget").retval for _ in range(3)] == [1, 2, 3]
        assert (prog[".bss"].type, len(prog[".bss"])) == ("array", 1)


@pytest.mark.parametrize("name", ["stack.bpf.c", "stack.bcc.c"])
def test_a_frame_of_600_bytes_is_refused_and_python_lives_on(name: str) -> None:
    """BCC's library ends the process here: it may not be ours."""
    for room in (64, 400):
        with load(name, defines={"ROOM": room}) as prog:
            assert prog.run("big_frame").retval == 2
    for _ in range(2):
        with pytest.raises((CompileError, VerifierError), match="512 bytes|stack") as refused:
            load(name, defines={"ROOM": 600})
    assert name in str(refused.value) or "big_frame" in str(refused.value)


def test_the_verifier_adds_up_the_frames_of_a_call() -> None:
    with load("two_frames.bpf.c", defines={"ROOM": 200}) as prog:
        assert prog.run("outer").retval == 2
    with pytest.raises(VerifierError, match="512 bytes of stack(.|\n)*combined stack size"):
        load("two_frames.bpf.c", defines={"ROOM": 300})


def test_functions_of_tracing_programs_have_stacks_of_their_own_since_6_13() -> None:
    """On x86-64: others followed, or will."""
    tracing = {"ROOM": 300, "HOOK": '"tracepoint/syscalls/sys_enter_getppid"'}
    if kernel.version_here() < (6, 13):
        with pytest.raises(VerifierError, match="512 bytes of stack"):
            load("two_frames.bpf.c", defines=tracing)
    elif platform.machine() == "x86_64":
        load("two_frames.bpf.c", defines=tracing).close()


def test_a_map_has_the_room_that_the_stack_lacks() -> None:
    with load("scratch.bpf.c") as prog:
        assert (prog["rooms"].value.size, prog.run("big_value").retval) == (600, 2)


def test_there_is_no_malloc() -> None:
    with pytest.raises(NotFound, match=r"malloc.bpf.c calls malloc\(\)(.|\n)*no C library"):
        load("malloc.bpf.c")


def test_one_object_of_a_known_type_can_be_had_and_must_be_given_back() -> None:
    if kernel.version_here() < (6, 2):
        with pytest.raises(BpfError):
            load("allocate.bpf.c")
        return
    with load("allocate.bpf.c") as prog:
        assert prog.run("allocate").retval == 42
    kept = source("allocate.bpf.c").replace("\tbpf_obj_drop_impl(note, NULL);\n", "")
    with pytest.raises(VerifierError, match="keeps what it reserved"):
        load(text=kept)


def test_memory_is_taken_at_once_or_by_need() -> None:
    with load("memory.bpf.c") as prog:
        grown = {}
        for name in ("at_once", "by_need"):
            new = prog[name].memory
            prog[name].update((key, key) for key in range(10_000))
            assert len(prog[name]) == 10_000
            grown[name] = prog[name].memory - new
        assert grown["at_once"] == 0
        assert grown["by_need"] >= 0
        if kernel.version_here() >= (6, 4):
            assert grown["by_need"] >= 10_000 * 12


def test_more_than_the_machine_has_is_refused_at_once_and_not_by_need() -> None:
    """What ``memory`` says is reckoned by the kernel; this is not."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    room = {"ENTRIES": 2 * machine // 2**16, "TAKEN": 0}
    for kind in ("HASH", "ARRAY", "LRU_HASH"):
        of = {"KIND": f"BPF_MAP_TYPE_{kind}"}
        with pytest.raises(BpfError, match="too_much.bpf.c") as refused:
            load("too_much.bpf.c", defines=room | of)
        assert refused.value.errno_name in ("ENOMEM", "E2BIG")  # that one on 5.10
        fits = room | of | {"ENTRIES": 2**26 // 2**16}  # refused for its size, not for its shape
        load("too_much.bpf.c", defines=fits).close()
    with load("too_much.bpf.c", defines=room | {"TAKEN": "BPF_F_NO_PREALLOC"}) as prog:
        prog["rooms"][1] = bytes(2**16)
        assert len(prog["rooms"]) == 1


def test_the_table_has_every_type_once() -> None:
    types = kernel.map_types()
    known = [one.name for one in types if one.here is not None]
    assert known == kernel.MAP_TYPES[1:]
    assert set(ELEVEN) <= set(known)
    for one in types[: len(known)]:
        assert re.fullmatch(r"\d\.\d+", one.since), one
        assert re.fullmatch(r"[0-9a-f]{12}", one.commit), one
        assert all([one.key, one.value, one.use]), one
    assert pd.DataFrame(types).columns[0] == "name"


def test_no_type_that_this_kernel_should_have_is_missing() -> None:
    """Not hidden: on a kernel that is new enough, a refusal fails here, with the type's name."""
    assert [one.name for one in kernel.map_types() if one.missing] == []
    assert [name for name in ELEVEN if not kernel.has_map_type(name)] == []


def test_what_this_kernel_names_it_also_makes() -> None:
    """Its own enum bpf_map_type, from its BTF, is a second witness against a wrong probe."""
    text = (kernel.vmlinux_header() / "vmlinux.h").read_text()
    enum = re.search(r"enum bpf_map_type \{(.*?)\}", text, re.DOTALL)
    assert enum
    pairs = re.findall(r"\bBPF_MAP_TYPE_(\w+) = (\d+)", enum[1])
    named = {int(number) for name, number in pairs if name != "UNSPEC"}
    here = {kernel.MAP_TYPES.index(one.name) for one in kernel.map_types() if one.here}
    assert here == {number for number in named if number < len(kernel.MAP_TYPES)}


def test_a_refusal_is_reported_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "has_map_type", lambda name: name not in ("xskmap", "insn_array"))
    monkeypatch.setattr(platform, "release", lambda: "5.10.0-28-amd64")
    types = {one.name: one for one in kernel.map_types()}
    assert types["xskmap"].missing
    assert not types["insn_array"].missing  # of 6.19: nobody promised it
    assert not types["hash"].missing


def test_a_type_that_only_this_kernel_knows_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    enum = "enum bpf_map_type {\n\tBPF_MAP_TYPE_HASH = 1,\n\tBPF_MAP_TYPE_NEXT = 99,\n};"
    monkeypatch.setattr(kernel, "_vmlinux_text", lambda: enum)
    last = kernel.map_types()[-1]
    assert (last.name, last.here, last.missing) == ("next", None, False)


def test_a_type_that_libbpf_is_too_old_to_probe_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    here = kernel.has_map_type("arena")
    assert here == (kernel.version_here() >= (6, 9))
    monkeypatch.setattr(lib(), "libbpf_probe_bpf_map_type", lambda number, opts: -95)
    assert kernel.has_map_type("arena") == here


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(NotFound, match="no map type 'hsah'.\nThere are: hash, array"):
        kernel.has_map_type("hsah")
