"""A learner's Python, contained: what it may return, and what it cannot do."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

from helpers import answers, kernel, load
from helpers.answers import Answer, Raised, Remote
from helpers.cards import NotYet

Make = Callable[[str], Answer]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """``make("def f(): ...")``: an Answer, which ends with the test."""
    made = list[Answer]()

    def make(text: str) -> Answer:
        file = tmp_path / f"mine{len(made)}.py"
        file.write_text(dedent(text))
        made.append(Answer(file))
        return made[-1]

    yield make
    for answer in made:
        answer.close()


def processes(answer: Answer) -> list[int]:
    """The processes of this user, who is nobody but the learner's code of this one test."""
    uid = answers.FIRST_USER + os.getpid()
    return [
        int(path.name)
        for path in Path("/proc").glob("[0-9]*")
        if f"\nUid:\t{uid}\t" in _status(path)
    ]


def _status(process: Path) -> str:
    try:
        return (process / "status").read_text()
    except OSError:
        return ""


# --- values ---------------------------------------------------------------------------------

VALUES = [
    None,
    True,
    0,
    -1,
    (1 << 64) - 1,
    1 << 300,
    1.5,
    float("inf"),
    "",
    'ü\n"\0\ud800',
    b"",
    bytes(range(256)),
    [],
    [1, [2, [3]]],
    (),
    (1, (2, b"3")),
    {},
    {"set": 1, "bytes": "zz"},
    {1: 2, (1, 2): {b"k": ["v"]}, None: None},
    set(),
    {1, "a", (2, 3)},
]


def test_values_go_and_come_back(make: Make) -> None:
    answer = make("def same(*values): return values")
    came = answer.call("same", *VALUES)
    assert came == tuple(VALUES)
    assert [type(value) for value in came] == [type(value) for value in VALUES]


def test_numbers_and_frames_arrive_as_python_has_them(make: Make) -> None:
    answer = make("""
        import enum, numpy as np, pandas as pd
        from collections import OrderedDict, namedtuple
        def give():
            return [np.uint64(2**64 - 1), np.float64(0.5), np.bool_(True), np.arange(3),
                    OrderedDict(a=1), namedtuple("P", "x y")(1, b"2"), bytearray(b"3"),
                    pd.Series([4, 5], index=["i", "j"]), enum.IntEnum("E", "one").one]
        def frame():
            return pd.DataFrame({"n": [1, 2**63], "b": [b"x", b""], "t": [(1, 2), None]})
        def nothing():
            return pd.DataFrame({"n": []})
    """)
    assert answer.call("give") == [
        *((1 << 64) - 1, 0.5, True, [0, 1, 2], {"a": 1}, (1, b"2"), b"3", {"i": 4, "j": 5}, 1)
    ]
    want = pd.DataFrame({"n": [1, 2**63], "b": [b"x", b""], "t": [(1, 2), None]})
    pd.testing.assert_frame_equal(answer.call("frame"), want, check_dtype=False)
    assert list(answer.call("nothing").columns) == ["n"] and answer.call("nothing").empty


def test_other_objects_stay_there_and_can_be_used(make: Make) -> None:
    answer = make("""
        class Counter:
            total = 0
            def add(self, number):
                self.total += number
                return self
            def get(self): return self.total
        def new(): return Counter()
        def read(counter, more): return counter.total + more
    """)
    one, other = answer.call("new"), answer.call("new")
    assert isinstance(one, Remote)
    assert isinstance(answer.call((one, "add"), 5), Remote)
    assert answer.call((one, "get")) == 5 and answer.call((other, "get")) == 0
    assert answer.call("read", one, 2) == 7
    with pytest.raises(NotYet, match="has no `nothing`"):
        answer.call((one, "nothing"))
    kept = answer.call("read", one, 2, keep=True)
    assert isinstance(kept, Remote) and answer.call((kept, "bit_length")) == 3


def test_a_result_that_is_kept_is_the_object_itself(make: Make) -> None:
    answer = make("""
        mine = [1, 2]
        def get(): return mine
    """)
    held = answer.call("get", keep=True)
    answer.call((held, "append"), 3)
    assert answer.call("get") == [1, 2, 3]


def test_maps_go_along_with_their_types(make: Make) -> None:
    answer = make("""
        def key(m): return next(iter(m))
        def frame(m): return m.frame()
        def add(m, key, value): m[key] = value
        def both(one, other): return one.name, other.name, len(one), len(other)
        def kept(m):
            global mine
            mine = m
        def later(): return len(mine)
    """)
    with load("hash.bpf.c") as prog, load("array.bpf.c") as second:
        table, array = prog["connections"], next(iter(second.maps.values()))
        key, value = (layout.decode(bytes(layout.size)) for layout in (table.key, table.value))
        answer.call("add", table, tuple(key._replace(src_port=443)), tuple(value))
        assert list(table) == [key._replace(src_port=443)]
        assert answer.call("key", table) == tuple(key._replace(src_port=443))
        frame = answer.call("frame", table)
        assert list(frame.columns) == list(table.frame().columns) and frame.src_port[0] == 443
        assert answer.call("both", table, array) == (table.name, array.name, 1, len(array))
        answer.call("kept", table)
    assert answer.call("later") == 1  # it holds the map, as any process would


# --- what goes wrong ------------------------------------------------------------------------


def test_what_is_raised_is_told_with_its_line(make: Make) -> None:
    answer = make("""
        def deep(n):
            return deep(n - 1) if n else {}[5]

        class Mute(Exception):
            def __str__(self): raise ValueError

        def mute(): raise Mute
        def full(): raise OSError(7, "no room")
        def long(): raise ValueError("x" * 10**7)
        def itself():
            a = []
            a.append(a)
            return a
        def huge(): return 10**5000
    """)
    with pytest.raises(Raised) as caught:
        answer.call("deep", 3)
    raised = caught.value
    assert (raised.kind, raised.text, raised.where) == ("KeyError", "5", "mine0.py:3")
    assert raised.errno == 0
    with pytest.raises(Raised, match="no room") as caught:
        answer.call("full")
    assert caught.value.errno == 7
    with pytest.raises(Raised, match=r"^Mute$"):
        answer.call("mute")
    with pytest.raises(Raised) as caught:
        answer.call("long")
    assert len(caught.value.text) == answers.TEXT
    with pytest.raises(Raised, match="RecursionError"):
        answer.call("itself")
    with pytest.raises(Raised, match="digits"):
        answer.call("huge")
    with pytest.raises(Raised, match="missing 1 required positional argument"):
        answer.call("deep")
    with pytest.raises(NotYet, match="`mine0.py` has no `shallow`"):
        answer.call("shallow")


def test_a_file_that_cannot_be_imported(make: Make) -> None:
    with pytest.raises(Raised) as caught:
        make("\n\nimport nothing_of_that_name")
    assert caught.value.where == "mine0.py:3"


def test_a_call_without_end_is_stopped(make: Make) -> None:
    answer = make("""
        import os, signal, time
        def loop():
            while True: pass
        def sleep(): time.sleep(1000)
        def stop(): os.kill(os.getpid(), signal.SIGSTOP)
        def ignore():
            for number in range(1, 32):
                if number not in (9, 19): signal.signal(number, signal.SIG_IGN)
            time.sleep(1000)
    """)
    started = time.monotonic()
    with pytest.raises(NotYet, match=r"still at work after 0.3 s"):
        answer.call("loop", seconds=0.3)
    assert time.monotonic() - started < 8
    assert not processes(answer)
    with pytest.raises(NotYet, match="ended its process"):
        answer.call("loop")
    for name in ("sleep", "stop", "ignore"):
        another = make(answer.file.read_text())
        with pytest.raises(NotYet, match="still at work"):
            another.call(name, seconds=0.3)
        assert not processes(another)


def test_words_that_trickle_in_do_not_prolong_the_time(make: Make) -> None:
    text = """
        import os, sys, time
        def trickle():
            while True:
                os.write(int(sys.argv[-1]), b" ")
                time.sleep(0.05)
        def ask():
            from helpers import btf
            while True: btf.raw(1)
    """
    started = time.monotonic()
    for name in ("trickle", "ask"):
        with pytest.raises(NotYet, match="still at work"):
            make(text).call(name, seconds=0.5)
    assert time.monotonic() - started < 8


def test_the_process_that_ends(make: Make) -> None:
    text = """
        import ctypes, os, sys
        def leave(): sys.exit(3)
        def quickly(): os._exit(4)
        def crash():
            print("the last words", flush=True)
            ctypes.string_at(0)
    """
    for name, words in (
        ("leave", "exit code 3"),
        ("quickly", "exit code 4"),
        ("crash", "exit code 139.*the last words"),
    ):
        answer = make(text)
        with pytest.raises(NotYet, match=f"ended its process .{words}"):
            answer.call(name)
    with pytest.raises(NotYet, match="exit code 5"):
        make("import sys; sys.exit(5)")


def test_a_fork_that_returns_answers_nothing(make: Make) -> None:
    answer = make("""
        import os, time
        def fork():
            return "child" if os.fork() == 0 else (time.sleep(0.2), "parent")[1]
        def raises():
            if os.fork() == 0: raise ValueError
            return time.sleep(0.2)
        def one(): return 1
    """)
    assert [answer.call("fork") for _ in range(3)] == ["parent"] * 3
    assert answer.call("raises") is None
    assert answer.call("one") == 1


@pytest.mark.parametrize(
    "line",
    [
        b"5\n",
        b"null\n",
        b"[]\n",
        b'"btf"\n',
        b"{}\n",
        b"{\n",
        b"\n",
        b"\xff\xfe\n",
        b'{"raised": 5}\n',
        b'{"raised": ["a"]}\n',
        b'{"raised": "abcd"}\n',
        b'{"value": {}}\n',
        b'{"value": {"bytes": "zz"}}\n',
        b'{"value": {"frame": 7}}\n',
        b'{"value": {"dict": [[{"dict": []}, 1]]}}\n',
        b'{"value": {"set": [[]]}}\n',
        b'{"value": {"a": 1, "b": 2}}\n',
        b"[" * 100_000 + b"\n",
        b'{"value": ' * 10_000 + b"\n",
        b'{"value": ' + b"9" * 5000 + b"}\n",
    ],
    ids=lambda line: line[:24].decode(errors="replace").strip() or "empty",
)
def test_nonsense_on_the_connection_is_wrong_and_no_more(tmp_path: Path, line: bytes) -> None:
    """Learner's code that finds the socket can say anything there."""
    answer, theirs = talking(tmp_path)
    with closing(theirs):
        theirs.sendall(line)
        with pytest.raises(NotYet, match="wrote to the connection"):
            answer.call("f", seconds=2)
        answer.close()


def talking(tmp_path: Path) -> tuple[Answer, socket.socket]:
    """An Answer whose other side is this test."""
    file = tmp_path / "mine.py"
    file.write_text("")
    answer = Answer(file)
    answer._socket.close()
    answer._socket, theirs = socket.socketpair()
    return answer, theirs


@pytest.mark.parametrize("number", ["5.5", '"1"', "-1", "4294967296", "null", "[]", "99999999999"])
def test_a_request_for_types_that_are_none(tmp_path: Path, number: str) -> None:
    answer, theirs = talking(tmp_path)
    with closing(theirs), closing(answer):
        theirs.sendall(b'{"btf": %s}\n{"value": 7}\n' % number.encode())
        assert answer.call("f") == 7
        assert b"\nnull\n" in theirs.recv(1000)


def test_a_reply_without_end(make: Make, tmp_path: Path) -> None:
    answer, theirs = talking(tmp_path)

    def flood() -> None:
        with pytest.raises(OSError), closing(theirs):  # until nobody listens
            while True:
                theirs.sendall(b"x" * (1 << 20))

    thread = threading.Thread(target=flood)
    thread.start()
    with closing(answer), pytest.raises(NotYet, match="returned more than 16 MB"):
        answer.call("f")
    thread.join(5)
    with pytest.raises(NotYet, match="returned more than 16 MB"):
        make('def f(): return "x" * (17 << 20)').call("f")
    assert len(make('def f(): return "x" * (8 << 20)').call("f")) == 8 << 20


def test_who_closes_all_files_is_told(make: Make) -> None:
    text = """
        import os, time
        def close():
            for number in range(64):
                try: os.close(number)
                except OSError: pass
        def close_and_stay():
            close()
            time.sleep(1000)
    """
    with pytest.raises(NotYet, match="ended its process"):
        make(text).call("close")
    answer = make(text)
    with pytest.raises(NotYet, match="closed a file that it did not open"):
        answer.call("close_and_stay")
    assert not processes(answer)


# --- what it cannot do ----------------------------------------------------------------------


def test_a_fork_bomb_is_bounded_and_gone(make: Make) -> None:
    text = """
        import os
        def bomb():
            while True:
                try: os.fork()
                except OSError: pass
        def some():
            for made in range(1000):
                try: pid = os.fork()
                except OSError: return made
                if not pid:
                    import time
                    time.sleep(1000)
    """
    answer = make(text)
    with pytest.raises(NotYet, match="still at work after 1 s"):
        answer.call("bomb", seconds=1)
    assert not processes(answer)
    answer = make(text)
    assert answer.call("some") < answers.PROCESSES
    assert len(processes(answer)) <= answers.PROCESSES
    answer.close()
    assert not processes(answer)


def test_processes_that_go_into_the_background_go_too(make: Make) -> None:
    answer = make("""
        import os, time
        def daemon():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                os._exit(0)
            os.wait()
    """)
    answer.call("daemon")
    assert len(processes(answer)) == 2
    answer.kill()
    assert not processes(answer)


def test_no_number_is_struck_that_may_be_anothers(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, strike = make(""), os.killpg

    def strike_ours(pid: int, number: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # not waited for yet
        strike(pid, number)

    monkeypatch.setattr(os, "killpg", strike_ours)
    answer.kill()
    answer.close()


def test_kill_leaves_no_map(make: Make) -> None:
    answer = make("""
        from helpers import load
        def keep():
            global prog
            prog = load("hash.bpf.c")
            return prog["connections"].id
    """)
    number = answer.call("keep")
    assert number in kernel.ids("map")
    answer.kill()
    deadline = time.monotonic() + 2  # the kernel frees a map some time after its last holder went
    while number in kernel.ids("map") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert number not in kernel.ids("map")


@pytest.mark.parametrize(("end", "said"), [("leave", "struct conn_key"), ("kill", "")])
def test_who_leaves_runs_exit_handlers_and_who_is_killed_does_not(
    make: Make, end: str, said: str
) -> None:
    answer = make("""
        import atexit
        from helpers import open_map
        def keep(one): atexit.register(lambda: print(open_map(fd=one.fd).key.ctype))
    """)
    with load("hash.bpf.c") as prog:
        answer.call("keep", prog["connections"])
        getattr(answer, end)()
    answer._log.seek(0)
    assert answer._log.read().decode().strip() == said
    answer.leave()  # twice is fine
    with pytest.raises(NotYet, match="ended its process"):
        answer.call("keep", 1)


def test_files_are_read_only_and_most_are_not_there(make: Make, tmp_path: Path) -> None:
    mine = tmp_path / "precious"
    mine.write_text("of this test")
    answer = make("""
        import os, shutil
        def error(what, *args):
            try: getattr(os, what)(*args)
            except OSError as error: return error.strerror
        def wipe():
            shutil.rmtree("/", ignore_errors=True)
        def names(path): return sorted(os.listdir(path))
        def write(path, count):
            with open(path, "wb") as file:
                for _ in range(count): file.write(bytes(1 << 20))
    """)
    read_only = "Read-only file system"
    assert answer.call("error", "mkdir", "/new") == read_only
    assert answer.call("error", "unlink", str(kernel.ROOT / "README.md")) == read_only
    assert answer.call("error", "unlink", str(answer.file)) in (read_only, "Permission denied")
    assert answer.call("error", "unlink", str(mine)) == "No such file or directory"
    for path in ("/etc/shadow", "/root/.ssh", "/home", "/var", "/run"):
        assert answer.call("error", "stat", path) == "No such file or directory"
    answer.call("write", "/tmp/some", 10)
    with pytest.raises(Raised, match="No space left on device|File too large"):
        answer.call("write", "/tmp/much", 65)
    with pytest.raises(Raised, match="No space left on device"):
        [answer.call("write", f"/tmp/much{number}", 30) for number in range(3)]
    answer.call("wipe", seconds=60)  # it tries every file that it sees
    # What is mounted there cannot be wiped: the answer itself, and the course.
    mounted = {path.parts[2] for path in (answer.file, kernel.ROOT) if path.is_relative_to("/tmp")}
    assert set(answer.call("names", "/tmp")) <= mounted
    assert mine.read_text() == "of this test" and answer.file.exists()
    assert (kernel.ROOT / "README.md").exists()


def test_who_eats_memory_gets_no_more(make: Make) -> None:
    answer = make("""
        def eat(): return len(bytearray(3 << 30))
        def one(): return 1
    """)
    with pytest.raises(Raised, match="MemoryError"):
        answer.call("eat")
    assert answer.call("one") == 1


def test_what_is_printed_is_not_in_the_way(make: Make) -> None:
    answer = make("""
        import subprocess, sys
        def talk():
            print('{"value": 5}', flush=True)
            print("x" * 10_000_000, file=sys.stderr, flush=True)
            subprocess.run(["echo", "more"])
            return 1
        def too_much():
            for _ in range(100): print("x" * (1 << 20), flush=True)
    """)
    assert answer.call("talk") == 1
    with pytest.raises(Raised, match="File too large"):
        answer.call("too_much")
    assert os.fstat(answer._log.fileno()).st_size <= answers.TMP


def test_no_network_but_its_own(make: Make) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        answer = make("""
            import socket
            def interfaces(): return [name for _, name in socket.if_nameindex()]
            def connect(port):
                try: socket.create_connection(("127.0.0.1", port), 2)
                except OSError as error: return error.strerror
            def out():
                try: socket.create_connection(("192.0.2.1", 80), 2)
                except OSError as error: return error.strerror
        """)
        assert answer.call("interfaces") == ["lo"]
        assert answer.call("connect", server.getsockname()[1]) == "Connection refused"
        assert answer.call("out") == "Network is unreachable"


def test_nobodys_user_with_few_privileges(make: Make) -> None:
    answer = make("""
        import os
        from pathlib import Path
        def status():
            return dict(line.split(":\\t", 1)
                        for line in Path("/proc/self/status").read_text().splitlines())
        def error(what, *args):
            try: return getattr(os, what)(*args)
            except OSError as error: return error.strerror
        def signals(): return [error("kill", pid, 9) for pid in (1, os.getppid())]
        def visible(): return [int(p.name) for p in Path("/proc").glob("[0-9]*")]
        def others(program):
            from helpers import open_map
            try: open_map(id=program)
            except Exception as error: return type(error).__name__
        def environment(): return dict(os.environ)
    """)
    status = answer.call("status")
    uid = str(answers.FIRST_USER + os.getpid())
    assert (
        status["Uid"].split() == status["Gid"].split() == [uid] * 4 and not status["Groups"].strip()
    )
    assert status["NoNewPrivs"] == "1"
    # linux/capability.h: NET_ADMIN 12, NET_RAW 13, DAC_READ_SEARCH 2, PERFMON 38, BPF 39
    allowed = sum(1 << bit for bit in (2, 12, 13, 38, 39))
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == allowed
    refused = "Operation not permitted"
    assert answer.call("error", "setuid", 0) == refused
    assert answer.call("error", "chroot", "/tmp") == refused
    assert set(answer.call("signals")) == {refused}
    assert max(answer.call("visible")) < 100 and os.getpid() > 100
    with load("hash.bpf.c") as prog:
        assert answer.call("others", prog["connections"].id) == "PermissionNeeded"
    assert "BPF_COURSE_WORK" not in answer.call("environment")
