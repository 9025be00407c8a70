"""What no check may be fooled or harmed by: it is judged wrong, in time, and nothing is left."""

import ast
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from helpers import answers, kernel, lab
from tests import plugin

SECOND = kernel.ROOT / "labs/02_connection_table"
RIGHT = (SECOND / "solutions/atomic_hash.bpf.c").read_text()
WITH_ANSWERS = [folder for folder in lab.folders() if "answer" in lab.open(folder.name).parts]

TOY = """
import random
from helpers.lab import Lab, NotYet

class Toy(Lab):
    title = "A toy"
    hints = ("Add.", "Add all.", "Add all of them.")
    parts = ("program", "answer")

    def verify(self, prog, answer):
        numbers = prog["numbers"]
        for _ in range(2):
            values = [random.randrange(1 << 40) for _ in range(len(numbers))]
            numbers.update(enumerate(values))
            total = answer.call("total", numbers, seconds=3)
            if total != sum(values):
                raise NotYet(f"The sum is {sum(values)}, and `total()` returned {total!r}.", "Why?")
            if [numbers[i] for i in range(len(numbers))] != values:
                raise NotYet("The map has changed.", "Who wrote to it?")
        return "Two sums are right."
"""
NUMBERS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} numbers SEC(".maps");
"""
TOTAL = "def total(numbers): return sum(numbers.values())"


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever happens in a test, the machine is as it was before."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    before, lived, tree = plugin._left(), contained(), checkout()
    yield folder
    extra = (plugin._left().keys() - before.keys()) | (contained() - lived)
    deadline = time.monotonic() + 10  # the kernel takes a moment to end and to free things
    while extra := extra & (plugin._left().keys() | contained()):
        assert time.monotonic() < deadline, f"left behind: {extra}"
        time.sleep(0.05)
    assert not [*folder.iterdir()]
    assert checkout() == tree


def contained() -> set[str]:
    """The processes of learners' Python on this machine."""
    found = set[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid >= answers.FIRST_USER:
                found.add(process.name)
        except OSError:
            pass
    return found


def checkout() -> dict[Path, int]:
    """The files that a submission might try its hands on."""
    return {path: path.stat().st_mtime_ns for path in [*SECOND.rglob("*"), kernel.ROOT / "course"]}


def judged(folder: Path, *files: Path) -> lab.Result:
    started = time.monotonic()
    result = lab.judge(folder, *files)
    assert time.monotonic() - started < lab.SECONDS
    return result


def wrong(folder: Path, *files: Path) -> str:
    result = judged(folder, *files)
    assert isinstance(result, lab.Wrong), result
    said = repr(result)
    assert "Traceback" not in said and "fault of the course" not in said
    return said


# --- programs in C --------------------------------------------------------------------------


def program(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "theirs.bpf.c"
    path.write_text(text)
    return path


PARSED = "	if (parse(ctx, &packet))\n		return XDP_PASS;\n"
ENDLESS = f"{PARSED}	for (volatile __u64 i = 1; i; i++)\n		;\n"
MANY = "int bomb[] = {" + "X" * 30 + "};"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (PARSED, ENDLESS, "verifier refuses"),
        (PARSED, f"{PARSED}	return count(ctx);\n", "verifier refuses"),
        ('SEC("xdp")', 'SEC("tc")', "verifier refuses"),
        ('SEC("xdp")', 'SEC("no_such_thing")', "no_such_thing"),
        ('SEC("xdp")', "", 'SEC("'),
        ("connections", "table", "has no map `connections`. Its maps: `table`"),
        ("_TYPE_HASH", "_TYPE_ARRAY", "makes no such array map as connections"),
        ("_TYPE_HASH", "_TYPE_RINGBUF", "makes no such ringbuf map as connections"),
        ("_TYPE_HASH", "_TYPE_HASH_OF_MAPS", "connections"),
        ("__uint(type, BPF_MAP_TYPE_HASH);", "", "connections"),
        ("__uint(max_entries, 4096);", "", "connections"),
        ("4096", "1 << 30", "connections"),
        ("__type(key, struct conn_key)", "__type(key, __u32)", "Missing: src_ip, dst_ip"),
        ("bpf_map_lookup_elem", "bpf_map_look_up", "bpf_map_look_up"),
    ],
    ids=lambda text: re.sub(r"\W+", "-", text)[:24],
)
def test_a_program_that_is_not_what_the_task_asks_for(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in RIGHT
    assert words in wrong(SECOND, program(tmp_path, RIGHT.replace(old, new)))


@pytest.mark.parametrize(
    "text",
    [
        "int x;",
        "#include __FILE__",
        "#error \x1b[2J",
        "\0",
        "int main(void) { for (;;) ; }",
        f'{RIGHT}\n__asm__(".incbin \\"/dev/zero\\"");',
        f"{RIGHT}\nchar much[1ul << 32] = {{1}};",
        'void system(char *); SEC("xdp") int f(void *c) { system("rm -rf /"); return 2; }',
        "def f():\n    print(1024)",
        "[" * 100_000,
    ],
    ids=lambda text: re.sub(r"\W+", "-", text[-24:]),
)
def test_a_file_that_is_no_program(tmp_path: Path, text: str) -> None:
    wrong(SECOND, program(tmp_path, text))


def test_a_compiler_that_comes_to_no_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "SECONDS", 3)
    lines = ["#define X0 1,"] + [f"#define X{i} {f'X{i - 1} ' * 10}" for i in range(1, 12)]
    text = "\n".join([*lines, "int bomb[] = { X11 };"])
    started = time.monotonic()
    result = lab.judge(SECOND, program(tmp_path, text))
    assert isinstance(result, lab.Wrong) and "not done after 3 s" in repr(result)
    assert time.monotonic() - started < 15


def test_a_program_that_fills_its_map_from_user_space(tmp_path: Path) -> None:
    """There is no user side in this lab: what lies in the map was put there by the packets."""
    initial = '	.values = {},\n} connections SEC(".maps");'
    said = wrong(SECOND, program(tmp_path, RIGHT.replace('} connections SEC(".maps");', initial)))
    assert "does not compile" in said


# --- answers in Python ----------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    folder = tmp_path / "01_toy"
    folder.mkdir()
    (folder / "lab.py").write_text(TOY)
    (folder / "theirs.bpf.c").write_text(NUMBERS)
    return folder


def ask(toy: Path, text: str) -> lab.Result:
    (toy / "theirs.py").write_text(dedent(text))
    return judged(toy, toy / "theirs.bpf.c", toy / "theirs.py")


def test_an_answer_that_is_right(toy: Path) -> None:
    assert isinstance(ask(toy, TOTAL), lab.Right)


BAD = {
    "prints": ("def total(numbers): print(4096)", "returned None"),
    "constant": ("def total(numbers): return 4096", "returned 4096"),
    "first call's": (
        """
        seen = []
        def total(numbers):
            seen.append(sum(numbers.values()))
            return seen[0]
        """,
        "The sum is",
    ),
    "writes to the map": (
        """
        def total(numbers):
            for i in range(len(numbers)): numbers[i] = 1
            return 8
        """,
        "returned 8",
    ),
    "equal to all": (
        """
        class Any(int):
            def __eq__(self, other): return True
        def total(numbers): return Any()
        """,
        "returned 0",
    ),
    "forks on": (
        """
        import os
        def total(numbers):
            while True:
                try: os.fork()
                except OSError: pass
        """,
        "still at work after 3 s",
    ),
    "starts threads on": (
        """
        import threading, time
        def total(numbers):
            while True: threading.Thread(target=time.sleep, args=(1000,)).start()
        """,
        "raised RuntimeError: can't start new thread",
    ),
    "sleeps for ever": (
        "import time\ndef total(numbers): time.sleep(1 << 30)",
        "still at work after 3 s",
    ),
    "sleeps at once": ("import time; time.sleep(1 << 30)", "still at work after 10 s"),
    "deletes files": (
        """
        import os, shutil
        def total(numbers):
            for path in ("/boot", "/sys/fs/bpf", "/tmp", os.environ["PYTHONPATH"] + "/labs"):
                shutil.rmtree(path, ignore_errors=True)
            os.unlink(__file__)
        """,
        "Read-only file system|Permission denied",
    ),
    "kills its parent": (
        """
        import os, signal
        def total(numbers):
            for pid in (os.getppid(), 1):
                try: os.kill(pid, signal.SIGKILL)
                except PermissionError: pass
            os.killpg(0, signal.SIGKILL)
        """,
        "ended its process .exit code 137",
    ),
    "stays behind": (
        """
        import os, time
        def total(numbers):
            if os.fork() == 0:
                os.setsid()
                while True: time.sleep(1)
            os._exit(0)
        """,
        "ended its process .exit code 0",
    ),
    "eats memory": (
        "def total(numbers): return len(bytearray(1 << 40))",
        "raised MemoryError",
    ),
    "fills the disk": (
        """
        def total(numbers):
            with open("/tmp/much", "wb") as file:
                while True: file.write(bytes(1 << 20))
        """,
        "raised OSError: .*(No space left|File too large)",
    ),
    "shouts": (
        """
        def total(numbers):
            while True: print("x" * (1 << 20), flush=True)
        """,
        "raised OSError: .*File too large",
    ),
    "leaves maps and pins": (
        """
        from helpers import load
        def total(numbers):
            global prog
            prog = load("hash.bpf.c")
            prog["connections"].pin("left_behind")
            prog["connections"].pin("/sys/fs/bpf/left_behind")
            return 5
        """,
        "returned 5|raised",
    ),
    "answers by itself": (
        """
        import os, sys
        def total(numbers): os.write(int(sys.argv[-1]), b"[[[[")
        """,
        "wrote to the connection",
    ),
    "hears no more": (
        """
        import os, time
        def total(numbers):
            os.closerange(3, 1000)
            time.sleep(1000)
        """,
        "closed a file that it did not open",
    ),
    "a riddle": (
        """
        class Riddle(Exception):
            def __str__(self): raise self
        def total(numbers): raise Riddle
        """,
        "raised Riddle",
    ),
    "not to be printed": (
        r"def total(numbers): raise ValueError('\ud800 \x1b[2J')",
        "raised ValueError",
    ),
    "another name": ("def sum_up(numbers): return 5", "has no `total`"),
    "no function": ("total = 5", "has no `total`"),
    "no Python": ("def total(numbers:", "is no Python"),
    "nested": ("(" * 5000 + ")" * 5000, "is no Python"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_means_harm_or_nothing(toy: Path, name: str) -> None:
    text, words = BAD[name]
    (toy / "theirs.py").write_text(dedent(text))
    said = wrong(toy, toy / "theirs.bpf.c", toy / "theirs.py")
    assert re.search(words, said, re.DOTALL), said
    said.encode()  # it can be printed


# --- every lab that takes an answer ---------------------------------------------------------

JUNK = (
    "None 4096 -1.5 '4096' b'' [] {} () (1,2,3) object() print float('nan') [[[]]] {1:{2:3}} {4}"
).split()


def rewritten(text: str, body: str) -> str:
    """The solution with its public functions and methods doing something else."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            node.body = ast.parse(body).body
    return ast.unparse(tree)


@pytest.mark.parametrize("folder", WITH_ANSWERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("body", ["return None", "junk", "import os; os._exit(0)"])
def test_no_lab_believes_an_answer_that_does_nothing(
    tmp_path: Path, folder: Path, body: str
) -> None:
    ex = lab.open(folder.name)
    files = ex._together(ex.solutions()[0])
    answer = next(file for file in files if file.suffix == ".py")
    bodies = [f"return {one}" for one in random.sample(JUNK, 4)] if body == "junk" else [body]
    for body in bodies:
        theirs = tmp_path / "theirs.py"
        theirs.write_text(rewritten(answer.read_text(), body))
        print(body, wrong(folder, *(theirs if file == answer else file for file in files)))
