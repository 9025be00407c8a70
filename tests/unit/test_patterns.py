"""Chapter 12: exact counters, settings switched live, streams of execve and TCP connections."""

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import kernel, load, sandbox
from helpers.errors import LayoutError, Unsupported
from helpers.program import Program

PATTERNS = ["patterns.bpf.c", "patterns.bcc.c"]
ACTIVITY = ["activity.bpf.c", "activity.bcc.c"]
HOOKS = {
    "on_fork": "sched:sched_process_fork",
    "exec_tried": "syscalls:sys_enter_execve",
    "exec_done": "sched:sched_process_exec",
    "on_state": "sock:inet_sock_set_state",
}
LAYOUTS = dict[str, Any]()
KPROBES = ["activity_kprobe.bpf.c", "activity_kprobe.bcc.c"]
# What BCC's get_syscall_fnname("execve") says, and libbpf's ksyscall/execve finds
EXECVE = {"x86_64": "__x64_sys_execve", "aarch64": "__arm64_sys_execve"}[platform.machine()]
BOOK = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("kprobe/sys_execve") int trace_exec(void *ctx) { return 0; }
SEC("kprobe/tcp_connect") int trace_connect(void *ctx) { return 0; }
char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""


@pytest.fixture
def net() -> Iterator[sandbox.Pair]:
    with sandbox.pair() as pair:
        yield pair


@pytest.fixture(params=ACTIVITY)
def activity(request: pytest.FixtureRequest) -> Iterator[Program]:
    """Either twin, attached, watching this process and its children."""
    with load(request.param) as program:
        for name, hook in HOOKS.items():
            program.attach(name, hook if program.dialect == "bcc" else None)
        program["watched"][os.getpid()] = 1
        yield program


def layout(record: str) -> Any:
    """BCC keeps no type of an event: it is libbpf's twin that describes it."""
    if record not in LAYOUTS:
        with load(ACTIVITY[0]) as program:
            LAYOUTS[record] = program.events(f"{record}s", record=record, lost=None).layout
    return LAYOUTS[record]


def totals(program: Program) -> list[int]:
    return [sum(program["counted"][slot]) for slot in (0, 1)]


def wait(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("name", PATTERNS)
def test_which_counters_are_exact(name: str) -> None:
    cpus = (kernel.online_cpus() * 2)[:2]
    with load(name) as prog:
        for way in ("atomic", "per_cpu", "plain"):
            for _ in range(20):  # one race may go well
                prog[way][0] = [0] * kernel.cpus() if way == "per_cpu" else 0
                sandbox.on_cpus(cpus, lambda w=way: prog.run(f"count_{w}", repeat=500_000))
                arrived = sum(prog[way][0]) if way == "per_cpu" else prog[way][0]
                if arrived != 1_000_000:
                    break
            exact = way != "plain" or len(set(cpus)) == 1
            assert (arrived == 1_000_000) == exact, way


def test_the_twins_judge_alike() -> None:
    frames = []
    for name in PATTERNS:
        with load(name) as prog:
            for setting in ((80, 0), (80, 1), (443, 1), (443, 0)):
                prog["config"][0] = setting
                for port in (80, 443):
                    verdict = 1 if setting == (port, 1) else 2
                    assert prog.run("filter", data=sandbox.tcp(dport=port)).retval == verdict
                    assert prog.run("filter", data=sandbox.udp(dport=port)).retval == 2
            assert prog.run("filter", data=bytes(14)).retval == 2
            frames.append(prog["verdicts"].frame().groupby("key").value.sum().to_dict())
            with pytest.raises(LayoutError, match="config"):
                prog["config"][0] = (80, 1, 1)
    assert frames[0] == frames[1] == {0: 0, 1: 2, 2: 15}


def test_the_setting_is_switched_while_packets_flow(net: sandbox.Pair) -> None:
    sent, stop = list[int](), threading.Event()

    def flow() -> None:
        while not stop.is_set():
            sent.append(net.send([sandbox.tcp(dport=80)] * 64))

    with load(PATTERNS[0]) as prog:
        prog.attach("filter", net.server)
        thread = threading.Thread(target=flow)
        thread.start()
        try:
            for enabled in (1, 0, 1, 0):
                prog["config"][0] = (80, enabled)
                time.sleep(0.02)
                start = [sum(prog["verdicts"][verdict]) for verdict in (1, 2)]
                moves, stays = (0, 1) if enabled else (1, 0)
                wait(lambda m=moves, s=start: sum(prog["verdicts"][m + 1]) > s[m])
                assert sum(prog["verdicts"][stays + 1]) == start[stays]
        finally:
            stop.set()
            thread.join()
        assert sum(sum(prog["verdicts"][verdict]) for verdict in (1, 2)) == sum(sent)


def test_execve_of_ours_and_of_nobody_else(activity: Program) -> None:
    execs = activity.events("execs", record=layout("exec"), lost="execs_lost")
    command = ["/bin/sh", "-c", "/bin/true; /no/such"]
    subprocess.run(command, stderr=subprocess.DEVNULL)
    df = execs.frame()
    me = Path("/proc/thread-self/comm").read_text().strip()
    assert df[["done", "comm", "file"]].values.tolist() == [
        [0, me, "/bin/sh"],
        [1, "sh", "/bin/sh"],
        [0, "sh", "/bin/true"],
        [1, "true", "/bin/true"],
        [0, "sh", "/no/such"],
    ]
    assert df.ns.is_monotonic_increasing and (df.attrs["delivered"], df.attrs["lost"]) == (5, 0)
    activity["watched"].clear()
    subprocess.run(command, stderr=subprocess.DEVNULL)
    assert len(execs.frame(timeout=0.1)) == 0


def test_the_upper_half_is_the_process(activity: Program) -> None:
    execs = activity.events("execs", record=layout("exec"), lost="execs_lost")
    script = (
        "import os, threading\n"
        "def run():\n"
        "    print(os.getpid(), threading.get_native_id(), flush=True)\n"
        "    os.execv('/bin/true', ['true'])\n"
        "threading.Thread(target=run).start()\n"
    )
    told = subprocess.run([sys.executable, "-ISc", script], capture_output=True, text=True)
    pid, thread = map(int, told.stdout.split())
    (tried,) = [one for one in execs.read() if (one.file, one.done) == ("/bin/true", 0)]
    assert (tried.pid, tried.thread) == (pid, thread) and pid != thread


def test_connections_are_counted_streamed_and_remembered(
    activity: Program, net: sandbox.Pair
) -> None:
    stream = activity.events("connections", record=layout("connection"), lost="connections_lost")
    sandbox.tcp_talk(net, connections=2)
    wait(lambda: totals(activity) == [2, 2])
    assert stream.read() == [] and len(activity["open"]) == 0

    activity["settings"][0] = (7, 1)
    seven = sandbox.workload(net, connections=3, rounds=None, pause=0.02)
    eight = sandbox.workload(net, connections=2, rounds=None, pause=0.02, port=8)
    flows = [*seven.start(), *eight.start()]
    assert totals(activity) == [7, 2]
    opened = stream.frame()
    assert set(opened.what) == {0} and set(opened.dst_port) == {7}
    assert set(opened.pid) == {seven.client_pid}
    live = activity["open"].frame()
    assert sorted(zip(live.src_port, live.dst_port, strict=True)) == sorted(
        (flow.sport, flow.dport) for flow in flows
    )
    assert set(live.src_ip) == {0x0A000001} and set(live.dst_ip) == {0x0A000002}

    activity["settings"][0] = (0, 1)
    eight.close()
    seven.close()
    wait(lambda: totals(activity) == [7, 7])
    closed = stream.frame()
    assert set(closed.what) == {1} and sorted(closed.dst_port) == [7, 7, 7, 8, 8]
    assert set(closed.pid) == {seven.client_pid, eight.client_pid}
    assert len(activity["open"]) == 0 and stream.lost == 0


def probe(program: Program, name: str, function: str) -> None:
    """Attach a kprobe; where there are none, the error says so, and the test ends as skipped."""
    target = function if program.dialect == "bcc" else None
    if kernel.has_kprobes():
        program.attach(name, target)
        return
    with pytest.raises(Unsupported, match="needs a kernel with the hook k(probe|syscall)/"):
        program.attach(name, target)
    pytest.skip("needs kprobes (CONFIG_KPROBES): tests/vm/test_what_is_lacking_here.py runs it")


@pytest.mark.parametrize("name", KPROBES)
def test_the_kprobe_form_streams_the_same(name: str, net: sandbox.Pair) -> None:
    with load(KPROBES[0]) as twin:
        event = twin.events("events").layout
    assert event
    with load(name) as prog:
        assert set(prog.kinds.values()) == {"kprobe"}
        probe(prog, "trace_exec", EXECVE)
        probe(prog, "trace_connect", "tcp_connect")
        if prog.dialect == "bcc":  # the book's own place, see below for libbpf's dialect
            with pytest.raises(Unsupported, match=r"the hook sys_execve\b"):
                prog.attach("trace_exec", "sys_execve")
        events = prog.events("events", record=event)
        asks = subprocess.Popen(["/bin/sh"], stdin=subprocess.PIPE, text=True)
        prog["watched"][asks.pid] = 1
        asks.communicate("exec /bin/true\n")
        with sandbox.workload(net, connections=3) as talk:
            prog["watched"][talk.client_pid] = 1
            flows = talk.start()
            talk.wait()
        assert [(one.pid, one.dst_port) for one in events.read(timeout=5)] == [
            (asks.pid, 0),
            *((talk.client_pid, flow.dport) for flow in flows),
        ]


def test_the_books_kprobe_has_no_function() -> None:
    with load(text=BOOK, name="book.bpf.c") as prog:
        with pytest.raises(Unsupported, match=r"the hook kprobe/sys_execve\b"):
            prog.attach("trace_exec")
        probe(prog, "trace_connect", "tcp_connect")  # it is the name that was wrong
