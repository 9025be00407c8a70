"""What runs out, or goes away, ends in one message of ours, and the learner's files stay.

Each fault strikes a process that the test has started, in a mount namespace of its own.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from helpers import kernel, load, sandbox, source
from helpers.attach import XDP, Function
from helpers.errors import BpfError, Closed
from helpers.kernel import ROOT
from helpers.maps import open_map
from helpers.program import Program
from tests.faults.kills import Notebook, end, files, fill
from tests.vm.conftest import until
from tests.vm.kills import below

PRELUDE = """
import json, os, resource, subprocess, sys
from pathlib import Path
from helpers import kernel, lab, load, open_map, sandbox
from helpers.errors import BpfError

lab.SECONDS = 200  # the machine may be busy

def told(work):
    '''What an error of ours says. Any other ends this process with its traceback.'''
    try:
        return f"done: {work()!r}"
    except BpfError as error:
        return f"{type(error).__name__}: {error}"
"""


def child(code: str, **env: str) -> dict[str, str]:
    """Run Python where its mounts are its own; the JSON that it prints last."""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", PRELUDE + code],
        env=os.environ | env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    said: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A learner's files, which must be the same afterwards."""
    path = tmp_path / "work"
    fill(path)
    monkeypatch.setenv("BPF_COURSE_WORK", str(path))
    before = files(path)
    yield path
    assert files(path) == before


# --- a full disk ----------------------------------------------------------------------------

FULL = """
disk = Path(os.environ["TMPDIR"])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", disk], check=True)
ex = lab.open("02")
right = ex.solutions()[0].read_text()
assert "Saved." in repr(ex.submit(right))
assert "Right." in repr(ex.check())

def files():
    return {path: path.read_bytes() for path in ex.file.parent.rglob("*") if path.is_file()}

def fill(left):
    with (disk / "filler").open("ab", 0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            filler.truncate(filler.tell() // 4096 * 4096 - left)

before, said = files(), {}
for left in (0, 1, 3, 5):
    fill(4096 * left)
    new = {"NEW": left}
    for name, work in {
        "libbpf": lambda: load("hash.bpf.c", defines=new).close(),
        "bcc": lambda: load("hash.bcc.c", defines=new).close(),
        "submit": lambda: ex.submit("// longer\\n" * 5000 + right),
        "reset": ex.reset,
        "check": ex.check,
    }.items():
        if name == "reset" and left:
            continue  # it would do
        said[f"{name} {left}"] = told(work)
        assert before.items() <= files().items(), name  # a copy in history/ may be new
(disk / "filler").unlink()
assert "Saved." in repr(ex.submit(right + "// and on"))
load("hash.bpf.c", defines=new).close()
print(json.dumps(said))
"""


def test_a_full_disk(tmp_path: Path) -> None:
    env = {
        "TMPDIR": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "BPF_COURSE_WORK": str(tmp_path / "work"),
        "BCC_KERNEL_SOURCE": str(kernel.find_headers()),
    }
    said = child(FULL, **env)
    for what, words in said.items():
        if what.startswith("check"):  # it needs a little room, to remember that it was right
            assert "The disk is full. What was there before is unchanged." in words or (
                "Right." in words
            )
        else:
            if what.startswith("bcc") and words == "done: None":
                continue  # the little that it keeps had room
            assert words.startswith("Exhausted: Cannot "), (what, words)
            assert '(errno ENOSPC, "No space left on device")' in words
            assert "The disk is full. What was there before is unchanged." in words
            assert "./course clean  removes what was compiled." in words


def test_the_compiler_is_killed() -> None:
    """As the kernel does when memory runs short."""
    said = list[str]()
    for number in range(20):
        with ThreadPoolExecutor(1) as pool:
            text = f"int n{number}_{time.monotonic_ns()};\n{source('hash.bpf.c')}"
            loading = pool.submit(load, text=text)
            while not loading.done():
                for pid, name in below(os.getpid()).items():
                    if "clang" in name:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
            try:
                loading.result().close()  # it was done before we saw it
            except BpfError as error:
                said.append(f"{type(error).__name__}: {error}")
                break
    assert said == [
        "BpfError: clang was killed while it compiled cell.bpf.c (SIGKILL).\n"
        "The kernel kills when memory runs short, and people do.\nRun it again."
    ]


# --- what is not mounted --------------------------------------------------------------------

UNMOUNTED = """
subprocess.run(sys.argv[1].split(), check=True)
ex = lab.open("05")
with load("pinning.bpf.c") as prog:
    said = {
        "pin": told(prog["totals"].pin),
        "elsewhere": told(lambda: prog["totals"].pin("/sys/fs/bpf/elsewhere")),
        "open": told(lambda: open_map(pin=kernel.PINS / "totals")),
        "sweep": told(kernel.sweep),
        "check": told(ex.check),
    }
print(json.dumps(said))
"""


@pytest.mark.parametrize("command", ["umount", "mount -t tmpfs none"], ids=["gone", "hidden"])
def test_no_bpf_file_system(command: str, work: Path) -> None:
    said = child(UNMOUNTED.replace("sys.argv[1]", repr(f"{command} {kernel.BPFFS}")))
    for what in ("pin", "elsewhere"):
        assert said[what].startswith("Unsupported: This needs a path in a BPF file system.")
        assert "./course install mounts it" in said[what]
    assert said["open"].startswith("NotFound: The pin ")
    assert said["sweep"] == "done: []"
    assert said["check"].startswith("done: Right."), said["check"]  # it has one of its own


def test_no_tracefs() -> None:
    said = child("""
subprocess.run(["umount", "/sys/kernel/tracing"], check=True)
text = '''
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tracepoint/syscalls/sys_enter_getppid") int seen(void *context) { return 0; }
char LICENSE[] SEC("license") = "GPL";
'''
with load(text=text) as prog:
    said = {"libbpf": told(lambda: prog.attach("seen"))}
text = "int seen(void *context) { return 0; }\\nBPF_HASH(map);"
text = "TRACEPOINT_PROBE(syscalls, sys_enter_getppid) { return 0; }"
said["bcc"] = told(lambda: load(text=text, dialect="bcc"))
print(json.dumps(said))
""")
    for words in said.values():
        assert words.startswith("Unsupported: This needs "), said
        assert "tracefs" in words and "./course install" in words, said


# --- no file descriptors --------------------------------------------------------------------

DESCRIPTORS = """
resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))
nothing = os.open("/dev/null", os.O_RDONLY)
prog, net = load("event_buffers.bpf.c"), sandbox.pair()
number = prog["produced"].id
fresh = iter(range(1 << 30))

def talk():
    with sandbox.workload(net) as it:
        it.start()
        it.wait()

def pinned():
    path = prog["produced"].pin("descriptors")
    path.unlink()
    kernel.drop_pins()

WORKS = {
    "libbpf": lambda: load("hash.bpf.c").close(),
    "compile": lambda: load(text=f"int n{next(fresh)};" + TEXT).close(),
    "bcc": lambda: load("hash.bcc.c").close(),
    "bcc's maps": lambda: load(text=MAPS, dialect="bcc").close(),
    "pair": lambda: sandbox.pair().close(),
    "workload": talk,
    "attach": lambda: prog.attach("to_ring", net.server).close(),
    "send": lambda: net.send([sandbox.tcp()]),
    "events": lambda: prog.events("perf", lost="perf_lost").close(),
    "open": lambda: open_map(id=number).close(),
    "by name": lambda: open_map(name="produced").close(),
    "pin": pinned,
    "frame": lambda: len(prog["produced"].frame()),
}
TEXT = '''
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int f(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
'''
# With 21 left they are made, and cannot all be kept.
MAPS = "".join(f"BPF_ARRAY(one{number}, u64, 1);" for number in range(12))
said = {}
for name, work in WORKS.items():
    assert told(work).startswith("done"), told(work)  # and all modules are imported
    before = len(os.listdir("/proc/self/fd"))
    # Popen of Python 3.11 and pyroute2 keep a pipe or two when they find none for the next.
    strict = name not in ("compile", "pair", "workload")
    for left in (0, 1, 2, 3, 5, 8, 13, 21, 40):
        hogs = []
        try:
            while True:
                hogs.append(os.dup(nothing))
        except OSError:
            pass
        for fd in hogs[:left]:
            os.close(fd)
        del hogs[:left]
        said[f"{name} {left}"] = told(work)
        for fd in hogs:
            os.close(fd)
        after = len(os.listdir("/proc/self/fd"))
        assert after == before or not strict, f"{name} with {left} left: {before}, then {after}"
        before = after
    assert told(work).startswith("done"), name
print(json.dumps(said))
"""


def test_no_file_descriptor_left(work: Path) -> None:
    said = child(DESCRIPTORS)
    for what, words in said.items():
        ours = words.startswith("Exhausted: Cannot ") and "ulimit -n" in words
        assert words.startswith("done: ") or ours, (what, words)
        if what.endswith(" 0") and what not in ("send 0", "frame 0"):
            assert ours, (what, words)
        if what.endswith(" 40"):
            assert not ours, (what, words)


# --- no memory ------------------------------------------------------------------------------


@contextmanager
def memory_group() -> Iterator[tuple[Path, str]]:
    """A control group for memory of the test's own, version 1 or 2; and its limit's file."""
    roots = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            roots["memory.limit_in_bytes"] = Path(where)
        if kind == "cgroup2" and "memory" in (Path(where) / "cgroup.subtree_control").read_text():
            roots["memory.max"] = Path(where)
    assert roots, "no control group for memory is mounted here: mount one, or run this elsewhere"
    limit, root = roots.popitem()
    group = root / f"course_faults_{os.getpid()}"
    group.mkdir()
    try:
        yield group, limit
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), 10)
        group.rmdir()


MEMORY = """
MAP = '''
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_%s); __uint(max_entries, 1 << 17);
__type(key, __u32); __type(value, char[1024]); } big SEC(".maps");
SEC("xdp") int f(struct xdp_md *ctx) { return XDP_PASS; }
char LICENSE[] SEC("license") = "GPL";
'''
KINDS = "HASH", "LRU_HASH", "ARRAY"
for kind in KINDS:  # where there is memory: all is compiled, and imported
    with load(text=MAP % kind) as prog:
        prog["big"][0] = "x"
# What the process has now is charged elsewhere. Then a map of 128 MiB is too much.
group, limit = Path(os.environ["GROUP"]), os.environ["LIMIT"]
(group / "cgroup.procs").write_text(str(os.getpid()))
(group / limit).write_text(str(48 << 20))
said = {kind: told(lambda: load(text=MAP % kind)) for kind in KINDS}
with load("hash.bpf.c") as again:
    said["after"] = told(lambda: len(again["connections"]))
print(json.dumps(said))
"""


def test_no_memory_for_maps(work: Path) -> None:
    """Not for a hash that grows: it fills the group to the brim, and the kernel kills somebody."""
    with memory_group() as (group, limit):
        said = child(MEMORY, GROUP=str(group), LIMIT=limit)
    assert said.pop("after") == "done: 0"
    for words in said.values():
        assert words.startswith("Exhausted: Cannot "), said
        assert '(errno ENOMEM, "Cannot allocate memory")' in words
        assert "Lower max_entries, close other maps" in words


# --- what goes away meanwhile ---------------------------------------------------------------


def test_a_pair_is_closed_under_traffic(work: Path) -> None:
    frames, errors, sent = [sandbox.tcp(sport=4000)] * 500, list[BaseException](), list[int]()
    for number in range(20):
        with load("hash.bpf.c") as prog:
            net = sandbox.pair()
            link = prog.attach("count_packets", net.server)
            talk = sandbox.workload(net, rounds=None)
            talk.start()
            begun = threading.Event()

            def send(net: sandbox.Pair = net, begun: threading.Event = begun) -> None:
                try:
                    while True:
                        sent.append(net.send(frames))
                        begun.set()
                except BaseException as error:
                    errors.append(error)

            thread = threading.Thread(target=send)
            thread.start()
            assert begun.wait(30), errors
            time.sleep(random.Random(number).uniform(0, 0.01))
            net.close()
            thread.join(30)
            assert not thread.is_alive()
            link.close()
            assert prog["connections"].frame().shape[0] >= 1
            talk.close()
            with pytest.raises(Closed, match="make a new one"):
                net.send(frames)
    assert len(errors) == 20 and sent
    for error in errors:
        assert isinstance(error, BpfError), repr(error)


def test_the_same_notebook_in_two_kernels_at_once(tmp_path: Path) -> None:
    sandbox.with_own_pins(lambda: _two(tmp_path))


def _two(tmp_path: Path) -> None:
    path = ROOT / "notebooks/11_pinning.ipynb"
    both = [Notebook(path, tmp_path / f"work_{number}") for number in (1, 2)]
    pins = set[Path]()
    try:
        while not all(one.over() for one in both):
            pins |= {*kernel.OURS.glob("*/chapter_11")}
            time.sleep(0.005)
        for one in both:
            assert one.said()[-1] == "end", one.errors()
        owners = {int(pin.parent.name.partition("_")[0]) for pin in pins}
        assert owners == {one.kernel() for one in both}
        for one in both:
            one.leave()
    finally:
        for one in both:
            end(one)
    assert not kernel.OURS.exists()


DRAIN = """
import socket
ours = socket.socket(fileno=int(os.environ["OURS"]))
with load("event_buffers.bpf.c") as prog:
    ring = prog.events("ring", lost="ring_lost")
    socket.send_fds(ours, [b"up"], [prog.function("to_ring").fileno(), prog["produced"].fd])
    ours.setblocking(False)
    numbers, over = [], False
    while True:
        part = ring.frame(timeout=0.02).number.tolist()
        numbers += part
        if over and not part:
            break
        try:
            over = over or ours.recv(9) == b"over"
        except BlockingIOError:
            pass
print(json.dumps({"numbers": numbers, "lost": ring.lost}))
"""


def test_a_reader_is_stopped_while_it_drains_a_ring() -> None:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + DRAIN],
        env=os.environ | {"OURS": str(theirs.fileno())},
        pass_fds=[theirs.fileno()],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    dice, fds = random.Random(9), list[int]()
    try:
        theirs.close()
        ours.settimeout(60)
        _, fds, _, _ = socket.recv_fds(ours, 9, 2)
        function, counter = fds
        programs = {"to_ring": Function("to_ring", XDP, function)}
        prog = Program("", "libbpf", programs, {}, lambda: None)
        with open_map(fd=counter) as produced:
            for _ in range(100):
                prog.run("to_ring", repeat=dice.randrange(1, 170))
                time.sleep(dice.uniform(0, 0.004))  # it is somewhere in its work
                process.send_signal(signal.SIGSTOP)
                prog.run("to_ring", repeat=dice.randrange(1, 300))  # the ring holds 170
                process.send_signal(signal.SIGCONT)
            ours.send(b"over")
            said = json.loads(process.communicate(timeout=60)[0])
            assert produced[0] == len(said["numbers"]) + said["lost"]
        assert said["lost"] > 0
        assert said["numbers"] == sorted({*said["numbers"]})  # each once, in order
    finally:
        process.kill()
        process.communicate()
        ours.close()
        for fd in fds:
            os.close(fd)
