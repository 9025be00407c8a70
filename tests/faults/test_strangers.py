"""What the chapters' tracing programs show of a user who works hard beside you: nothing."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from helpers import load, sandbox
from helpers.program import Program
from tests.unit.test_patterns import ACTIVITY, HOOKS, layout, totals, wait
from tests.unit.test_stack_traces import TWINS, watch

NOBODY = 65534
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
# Runs programs, connects, asks for its parent and forks, as fast as it can, until it is told to
# stop; then it says whom it started. On "fork" it forks once.
STRANGER = """
import json, os, select, socket, subprocess, sys
pids, parents = [os.getpid()], 0
listener = socket.create_server(("127.0.0.1", 0))
print("ready", flush=True)
while True:
    for line in iter(lambda: select.select([0], [], [], 0)[0] and os.read(0, 100), []):
        if not line:
            print(json.dumps([pids, parents]), flush=True)
            sys.exit()
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        print(child.pid, flush=True)
    if WORKS:
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        pids.append(child.pid)
        with socket.create_connection(listener.getsockname()):
            listener.accept()[0].close()
        for _ in range(100):
            os.getppid()
        parents += 100
    else:
        select.select([0], [], [])
"""


@contextlib.contextmanager
def stranger(works: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process of another user, in a network of its own. Those watched have to come later."""
    with sandbox.pair() as net, net.client.inside():
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", STRANGER.replace("WORKS", str(works))],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def told(process: subprocess.Popen[str]) -> set[int]:
    """The pids of a stranger and its children, who all did a lot."""
    assert process.stdin and process.stdout
    process.stdin.close()
    pids, parents = json.loads(process.stdout.readline())
    assert len(pids) > 5 and parents > 500
    return set(pids)


def watched(name: str) -> Program:
    """One of the twins of chapter 12, which watches this process and those that it starts."""
    program = load(name)
    for function, hook in HOOKS.items():
        program.attach(function, hook if program.dialect == "bcc" else None)
    program["watched"][os.getpid()] = 1
    program["settings"][0] = (0, 1)
    return program


@pytest.mark.parametrize("name", ACTIVITY)
def test_what_strangers_run_and_whom_they_connect_to_is_not_shown(name: str) -> None:
    with stranger() as other, watched(name) as program:
        execs, connections = (
            program.events(f"{what}s", record=layout(what), lost=f"{what}s_lost")
            for what in ("exec", "connection")
        )
        end = time.monotonic() + 1.5
        ours, shown = set[int](), set[int]()
        while time.monotonic() < end:
            with subprocess.Popen(["/bin/true"]) as child:
                ours |= {child.pid}
            shown |= set(execs.frame(timeout=0).pid)
        assert shown == ours and execs.lost == 0
        assert len(connections.frame(timeout=0)) == len(program["open"]) == 0
        assert totals(program) == [0, 0]
        # Nothing but the filter keeps them out.
        program["watched"][other.pid] = 1
        wait(lambda: other.pid in set(connections.frame(timeout=0.1).pid))
        assert not ours & told(other)


@pytest.mark.parametrize("name", ACTIVITY)
def test_a_stranger_with_the_pid_of_a_child_of_ours_is_not_shown(name: str) -> None:
    if not LAST_PID.exists():
        pytest.skip("this kernel lets nobody say which pid comes next: CONFIG_CHECKPOINT_RESTORE")
    with stranger(works=False) as other, watched(name) as program:
        execs = program.events("execs", record=layout("exec"), lost="execs_lost")
        child = subprocess.Popen(["/bin/true"])
        child.wait()
        assert len(execs.frame()) and child.pid in program["watched"]
        assert other.stdin and other.stdout
        for _ in range(200):  # others on this machine start processes, too
            LAST_PID.write_text(str(child.pid - 1))
            print("fork", file=other.stdin, flush=True)
            if int(other.stdout.readline()) == child.pid:
                break
        else:
            pytest.fail("the stranger never got that pid")
        assert len(execs.frame(timeout=0.2)) == 0


@pytest.mark.parametrize("name", TWINS)
def test_stacks_are_those_of_one_process(name: str) -> None:
    with stranger() as other, load(name) as prog:
        watch(prog, os.getpid())
        for _ in range(1000):
            os.getppid()
        time.sleep(0.5)
        assert prog["seen"].frame()["value"].sum() == 1000
        prog["watched"][0] = other.pid
        wait(lambda: prog["seen"].frame()["value"].sum() > 1000)
        told(other)


@pytest.mark.parametrize("name", TWINS)
def test_a_profile_is_of_one_process(name: str) -> None:
    """One that sleeps, while a stranger keeps a CPU busy."""
    with stranger() as other, load(name) as prog, subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            wait(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_SLEEPING)
            prog.attach("sample", sleeper.pid, frequency=999)
            time.sleep(1)
            assert len(prog["seen"]) == 0
            prog.attach("sample", other.pid, frequency=999)
            wait(lambda: len(prog["seen"]) > 0)
            told(other)
        finally:
            sleeper.kill()


def test_the_first_program_counts_one_thread() -> None:
    me = threading.get_native_id()
    with stranger() as other, load("first.bpf.c", defines={"ONLY": me}) as prog:
        prog.attach("count_call")
        for _ in range(1000):
            os.getppid()
        time.sleep(0.5)
        assert dict(prog["calls"].items()) == {me: 1000}
        told(other)
