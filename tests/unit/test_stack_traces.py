"""Stack maps: exact counts by caller, a profile, missing frames, collisions, and bad input."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pytest

from helpers import build, load, symbols
from helpers.errors import BpfError, LayoutError, MissingKey, NotFound
from helpers.program import Program

TRAIL = ("-fno-omit-frame-pointer", "-fno-optimize-sibling-calls")
REUSE = 1 << 10  # BPF_F_REUSE_STACKID
TWINS = ["stack_traces.bpf.c", "stack_traces.bcc.c"]


@contextmanager
def process(*flags: str) -> Iterator["subprocess.Popen[str]"]:
    program = build("stack_traces.c", flags=flags)
    pipe = subprocess.PIPE
    with subprocess.Popen([program], stdin=pipe, stdout=pipe, text=True) as one:
        yield one
        one.communicate()


def work(one: "subprocess.Popen[str]") -> None:
    assert one.stdin
    assert one.stdout
    print(file=one.stdin, flush=True)
    assert one.stdout.readline() == "done\n"


def watch(prog: Program, pid: int) -> None:
    prog["watched"][0] = pid
    prog.attach("count_callers", "syscalls:sys_enter_getppid" if prog.dialect == "bcc" else None)


def named(prog: Program, pid: int) -> dict[tuple[str, ...], int]:
    names, found = symbols.Symbols(pid), dict[tuple[str, ...], int]()
    for place, times in prog["seen"].items():
        path = names.stack(prog["stacks"], place.user, place.kernel)
        found[path] = found.get(path, 0) + times
    return found


def through(found: dict[tuple[str, ...], int], function: str) -> int:
    return sum(times for path, times in found.items() if function in path)


def test_twins_see_the_same_stacks_under_the_same_numbers() -> None:
    with load(TWINS[0]) as one, load(TWINS[1]) as other, process(*TRAIL) as job:
        for prog in (one, other):
            watch(prog, job.pid)
        work(job)
        for name, by in (("seen", "user"), ("stacks", "key")):
            frames = [p[name].frame().sort_values(by, ignore_index=True) for p in (one, other)]
            assert len(frames[0]) == 3
            pd.testing.assert_frame_equal(*frames)
        assert (named(one, job.pid), one["stacks"].value.size) == (named(other, job.pid), 1016)


@pytest.mark.parametrize("name", TWINS)
def test_each_call_is_counted_by_its_caller(name: str) -> None:
    with load(name) as prog, process(*TRAIL) as job:
        watch(prog, job.pid)
        work(job)
        found = named(prog, job.pid)
    assert through(found, "dear") == 2000
    assert through(found, "cheap") == 1000
    assert through(found, "main") == 3000
    assert all(path.index("main") < path.index(path[-1]) for path in found)


@pytest.mark.parametrize("name", TWINS)
def test_a_profile_shows_where_the_time_goes(name: str) -> None:
    with load(name) as prog, process(*TRAIL) as job:
        prog.attach("sample", job.pid, frequency=999)
        work(job)
        found = named(prog, job.pid)
        sides = {(place.user >= 0, place.kernel) for place in prog["seen"]}
    assert sum(found.values()) > 100
    # Three, give or take: some 75 samples in cheap() make 1.5 a matter of five standard deviations.
    assert 1.5 < through(found, "dear") / through(found, "cheap") < 6
    assert any("getrandom" in path[-1] or path[-1].endswith(symbols.KERNEL) for path in found)
    assert (True, symbols.NOTHING) in sides  # stopped in its own code: no kernel stack
    assert through(found, "main") > 0.9 * sum(found.values())


def test_without_frame_pointers_the_callers_are_gone() -> None:
    with load(TWINS[0]) as prog, process("-fomit-frame-pointer") as job:
        watch(prog, job.pid)
        work(job)
        found = named(prog, job.pid)
    assert sum(found.values()) == 3000
    assert not any({"main", "dear"} <= set(path) for path in found)


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("flags", "error"), [(0, "[EEXIST]"), (REUSE, "[ENOMEM]")])
def test_the_first_stack_keeps_a_single_bucket(name: str, flags: int, error: str) -> None:
    with (
        load(name, defines={"STACKS": 1, "FLAGS": flags}) as prog,
        process(*TRAIL) as job,
    ):
        watch(prog, job.pid)
        work(job)
        found = named(prog, job.pid)
        assert len(prog["stacks"]) == 1
    assert found.pop((error,)) == 2000
    assert through(found, "cheap") == 1000


def test_a_stack_that_is_replaced_leaves_its_number_to_another() -> None:
    plain = load(TWINS[0], defines={"STACKS": 4})
    reuse = load(TWINS[0], defines={"STACKS": 4, "FLAGS": REUSE})
    with plain, reuse:
        for prog in (plain, reuse):
            prog.attach("count_callers")
        for _ in range(60):  # two of three stacks share one of four buckets five times in eight
            with process(*TRAIL, "-DROUNDS=1") as job:
                for prog in (plain, reuse):
                    prog["seen"].clear()
                    prog["stacks"].clear()
                    prog["watched"][0] = job.pid
                work(job)
            if any(place.user < 0 for place in plain["seen"]):
                break
        assert min(place.user for place in plain["seen"]) == -17
        assert min(place.user for place in reuse["seen"]) >= 0
        assert [sum(p["seen"].values()) for p in (plain, reuse)] == [3, 3]
        assert len(reuse["stacks"]) == len(reuse["seen"]) < 3


def test_stacks_are_read_and_deleted_but_not_written() -> None:
    with load(TWINS[0]) as prog, process(*TRAIL, "-DROUNDS=1") as job:
        watch(prog, job.pid)
        work(job)
        stacks = prog["stacks"]
        one, *_ = list(stacks)
        assert len(stacks[one]) == 127 * 8
        del stacks[one]
        assert (one in stacks, len(stacks)) == (False, 2)
        with pytest.raises(MissingKey):
            stacks[one]
        for number in (0, one):
            with pytest.raises(BpfError, match="from the kernel alone .*EINVAL.*\n.*read and del"):
                stacks[number] = bytes(127 * 8)


def test_a_stack_that_is_too_long_for_this_kernel() -> None:
    with pytest.raises(LayoutError, match="at most 127 frames of 8 bytes .* room for 128") as error:
        load(TWINS[0], defines={"FRAMES": 128})
    assert "stack_traces.bpf.c:" in str(error.value)
    assert error.value.errno_name == "EINVAL"
    with load(TWINS[0], defines={"FRAMES": 2}) as prog:
        assert prog["stacks"].value.size == 16


def test_sampling_needs_a_process_that_lives() -> None:
    with load(TWINS[0]) as prog:
        with pytest.raises(LayoutError, match="say which"):
            prog.attach("sample")
        with process(*TRAIL, "-DROUNDS=1") as job:
            pid = job.pid
        with pytest.raises(NotFound, match=f"no process {pid}"):
            prog.attach("sample", pid)
