"""Labs: what a learner reads, what becomes of their files, and what a check may be given."""

import html
import os
import pickle
import shutil
from pathlib import Path

import pytest

from helpers import cards, kernel, lab, load
from helpers.diagnostics import FOLD, Diagnostic, Mark
from helpers.errors import BpfError, NotFound
from tests.vm.conftest import until

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
PASS = HEAD + 'SEC("xdp") int f(struct xdp_md *ctx) { return XDP_PASS; }\n'
DROP = PASS.replace("PASS", "DROP")
TOY = """
from helpers.errors import Unsupported
from helpers.lab import Lab, NotYet, the_map, the_program

class Toy(Lab):
    title = "A <toy>"
    hints = ("Think.", "Look at `XDP_DROP`.", "Return it.")

    def verify(self, prog):
        got = prog.run(the_program(prog, "xdp"), data=bytes(64)).retval
        if got == 2:
            raise NotYet("It returned <2>, and should return `1`.", "Which is XDP_DROP?")
        if got == 3:
            raise Unsupported("a bird", "a cage", "Open it.")
        if got == 4:
            return {}["no such key"]
        return "It returned 1."
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "work"
    monkeypatch.setenv("BPF_COURSE_WORK", str(path))
    return path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lab.Lab:
    folder = tmp_path / "labs/01_toy"
    (folder / "solutions").mkdir(parents=True)
    (folder / "lab.py").write_text(TOY)
    (folder / "starter.bpf.c").write_text(f"/* Begin here. */\n{HEAD}")
    (folder / "solutions/a.bpf.c").write_text(f"// solution: the short one\n{DROP}")
    (folder / "solutions/b.bpf.c").write_text(f"// solution: the long one\n\n\n{DROP}")
    monkeypatch.setattr(kernel, "ROOT", tmp_path)
    return lab.open("01")


def write(work: Path, text: str, suffix: str = ".bpf.c") -> Path:
    work.mkdir(exist_ok=True)
    path = work / f"01_toy{suffix}"
    path.write_text(text)
    return path


def test_a_program_that_pins_by_its_name_leaves_no_pin(toy: lab.Lab, work: Path) -> None:
    text = (
        HEAD + "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1);"
        " __uint(pinning, LIBBPF_PIN_BY_NAME); __type(key, __u32); __type(value, __u64); }"
        ' left_behind SEC(".maps");\n'
    ) + PASS.removeprefix(HEAD)
    assert "Maps: `left_behind`" in repr(toy.submit(text))
    assert not (kernel.BPFFS / "left_behind").exists()


# --- outcomes


def test_no_file_and_the_starter_are_not_attempted(toy: lab.Lab, work: Path) -> None:
    result = toy.check()
    assert isinstance(result, lab.NotAttempted)
    assert "no `work/01_toy.bpf.c`" in repr(result) and "%%bpf lab=01" in repr(result)
    assert not work.exists()
    same = "", "\n", "// mine\n" + HEAD.replace("\n", "  \n\n"), f"{HEAD}/* unfinished"
    for text in same:
        write(work, text)
        assert isinstance(toy.check(), lab.NotAttempted), text


def test_right_and_wrong(toy: lab.Lab, work: Path) -> None:
    write(work, PASS)
    assert repr(toy.check()) == (
        "Not yet. It returned <2>, and should return `1`.\nWhich is XDP_DROP?"
    )
    write(work, DROP)
    result = toy.check()
    assert isinstance(result, lab.Right) and repr(result) == "Right. It returned 1."
    assert pickle.loads(pickle.dumps(result)) == result


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PASS.replace("return", "retrun"), "01_toy.bpf.c does not compile"),
        (PASS.replace("XDP_PASS", "*(int *)0"), "verifier refuses"),
        (PASS.replace('SEC("xdp")', ""), 'SEC("'),
        (PASS.replace('SEC("xdp")', 'SEC("tc")'), "`f` of type sched_cls"),
        (PASS + PASS[len(HEAD) :].replace("f(", "g("), "`f` of type xdp, `g` of type xdp"),
        ("\0\0\0", "yours are: none"),
    ],
)
def test_what_a_learner_breaks_is_wrong_and_never_raises(
    toy: lab.Lab, work: Path, text: str, words: str
) -> None:
    write(work, text)
    result = toy.check()
    assert isinstance(result, lab.Wrong)
    assert words in repr(result)


def test_a_file_that_is_no_text_is_wrong(toy: lab.Lab, work: Path) -> None:
    write(work, "").write_bytes(b"\xff\xfe int f;")
    assert "no text in UTF-8" in repr(toy.check())


def test_what_the_machine_lacks_is_no_fault_of_the_learner(toy: lab.Lab, work: Path) -> None:
    write(work, PASS.replace("PASS", "TX"))
    result = toy.check()
    assert isinstance(result, lab.NotChecked) and "This needs a bird" in repr(result)


def test_a_fault_of_ours_is_named_as_ours(toy: lab.Lab, work: Path) -> None:
    write(work, PASS.replace("PASS", "REDIRECT"))
    result = toy.check()
    assert isinstance(result, lab.NotChecked)
    assert "KeyError: 'no such key'" in repr(result) and "not of your program" in repr(result)


def test_what_a_check_started_ends_with_it(
    toy: lab.Lab, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike = os.killpg

    def strike_ours(pid: int, number: int) -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # not waited for yet
        strike(pid, number)

    monkeypatch.setattr(os, "killpg", strike_ours)
    leaves = 'import subprocess\n        return str(subprocess.Popen(["sleep", "1000"]).pid)'
    (toy.folder / "lab.py").write_text(TOY.replace('return "It returned 1."', leaves))
    write(work, DROP)
    result = toy.check()
    assert isinstance(result, lab.Right), result
    status = Path("/proc", repr(result).removeprefix("Right. "), "status")
    until(lambda: not status.exists() or "State:\tZ" in status.read_text(), 5)


def test_html_says_the_same_and_runs_nothing(toy: lab.Lab, work: Path) -> None:
    write(work, PASS)
    page = toy.check()._repr_html_()
    assert "&lt;2&gt;" in page and "<2>" not in page
    assert "<code>1</code>" in page and "<b>Not yet.</b>" in page
    assert "<script>" not in lab.Card("<script>", listing="<script>", title="`<b>`")._repr_html_()
    assert "A &lt;toy&gt;" in toy._repr_html_() and "A &lt;toy&gt;" in lab.progress()._repr_html_()


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        (PASS.replace("XDP_PASS", "*(int *)1"), 3, "no-pointer"),
        (PASS.replace("return", "retrun"), 3, "misspelt"),
        (
            PASS.replace("XDP_PASS", "puts(0)").replace("SEC", "int puts(int);\nSEC", 1),
            4,
            "not-linked",
        ),
    ],
)
def test_a_fault_is_a_picture_with_the_log_in_a_fold(
    toy: lab.Lab, work: Path, text: str, line: int, rule: str
) -> None:
    """As in a notebook's cell, though the check ran in another process; and the same as text."""
    write(work, text)
    with pytest.raises(BpfError) as caught:
        load(work / "01_toy.bpf.c")
    result, fault = toy.check(), caught.value.diagnostic
    assert isinstance(result, lab.Wrong) and fault and fault.here
    assert fault.here.number == line and fault.rule == rule
    assert result.fault == fault
    assert fault._repr_html_() in result._repr_html_()
    assert result._repr_html_().count("<details>") == bool(fault.log)
    assert result._repr_html_().count(html.escape(fault.error)) == 1
    assert repr(result).endswith(str(fault)) and "<" not in repr(result).replace(str(fault), "")
    saved = toy.submit(text)
    assert isinstance(saved, lab.Wrong) and saved.fault == fault


def test_a_log_of_millions_stays_small_on_its_way(toy: lab.Lab, work: Path) -> None:
    body = 'for (__u64 n = 0; n < 10000000; n++)\n\t\tasm volatile("" : "+r"(n));\n\treturn'
    write(work, PASS.replace("return", body))
    result = toy.check()
    assert isinstance(result, lab.Wrong) and result.fault
    assert result.fault.rule == "too-complex" and len(result.fault.log) == FOLD


def test_what_a_learner_wrote_becomes_fit_to_show() -> None:
    here = Mark("x.c", 1, "a\udcff<b>", 1, 2)
    fault = Diagnostic("<bad>", "x.c", here, log="\udcff")
    page = cards.result(lab.Wrong("a", listing="\udcff", fault=fault).as_dict())._repr_html_()
    assert "a?&lt;b&gt;" in page and "&lt;bad&gt;" in page
    page.encode()


def test_comments_in_strings_are_no_comments() -> None:
    assert lab._essence('char a[] = "// b"; // c') == lab._essence('char a [] = "// b";')
    assert lab._essence('char a[] = "// b";') != lab._essence('char a[] = "";')


# --- the learner's files


def test_submit_saves_and_says_whether_it_loads(toy: lab.Lab, work: Path) -> None:
    assert repr(toy.submit(DROP)) == (
        "Saved. `work/01_toy.bpf.c` compiles, and the kernel's verifier accepts it.\n"
        "Programs: `f`. Maps: none."
    )
    assert isinstance(toy.submit("int x"), lab.Wrong)
    assert (work / "01_toy.bpf.c").read_text() == "int x"


def test_whatever_was_there_is_kept(toy: lab.Lab, work: Path) -> None:
    for text in (PASS, DROP, DROP, "int x;", PASS):
        toy.submit(text)
    kept = sorted((work / "history").iterdir())
    assert [path.name for path in kept] == [f"01_toy.00{i}.bpf.c" for i in (1, 2, 3)]
    assert [path.read_text() for path in kept] == [PASS, DROP, "int x;"]
    assert sorted(path.name for path in work.iterdir()) == ["01_toy.bpf.c", "history"]


def test_the_starter_never_replaces_a_program(toy: lab.Lab, work: Path) -> None:
    toy.submit(DROP)
    said = toy.submit(f"// the notebook was run again\n{HEAD}")
    assert "was left alone" in repr(said) and "ex.reset()" in repr(said)
    assert (work / "01_toy.bpf.c").read_text() == DROP
    assert not (work / "history").exists()


def test_the_dialect_that_was_saved_last_counts(toy: lab.Lab, work: Path) -> None:
    toy.submit(PASS)
    toy.submit("int f(struct xdp_md *ctx) { return XDP_DROP; }", "bcc")
    assert toy.file.name == "01_toy.bcc.c"
    assert isinstance(toy.check(), lab.Right)
    toy.submit(HEAD)  # the starter, in the other dialect: it does not count
    assert toy.file.name == "01_toy.bcc.c"
    toy.submit(DROP)
    assert toy.file.name == "01_toy.bpf.c"


def test_reset_keeps_the_old_text(toy: lab.Lab, work: Path) -> None:
    assert "work/01_toy.bpf.c" in repr(toy.reset())
    toy.submit(PASS)
    toy.submit("int f(struct xdp_md *ctx) { return XDP_DROP; }", "bcc")
    said = repr(toy.reset())
    for path in (work / "history").iterdir():
        assert f"`work/history/{path.name}`" in said or path.read_text() not in (PASS, DROP)
    assert PASS in [path.read_text() for path in (work / "history").iterdir()]
    assert isinstance(toy.check(), lab.NotAttempted)
    assert not (work / "01_toy.bcc.c").exists()


def test_files_belong_to_the_owner_of_the_course(toy: lab.Lab, work: Path, tmp_path: Path) -> None:
    shutil.chown(tmp_path, 1234, 1234)
    toy.submit(PASS)
    for path in (work, work / "01_toy.bpf.c"):
        assert path.stat().st_uid == 1234
    assert (work / "01_toy.bpf.c").stat().st_mode & 0o777 == 0o644


# --- hints, solutions, progress


def test_hints_come_one_at_a_time(toy: lab.Lab) -> None:
    hints = [repr(toy.hint()) for _ in range(4)]
    assert hints[0] == "Hint 1 of 3. Think."
    assert hints[1].startswith("Hint 2 of 3.")
    assert hints[2] == hints[3] and "That was the last" in hints[2]


def test_a_solution_is_asked_for_twice(toy: lab.Lab) -> None:
    asked = repr(toy.solution(2))
    assert "There are 2" in asked and "1. the short one\n2. the long one" in asked
    assert "XDP_DROP" not in asked
    assert repr(toy.solution(2)) == f"Solution 2 of 2: the long one.\n{DROP.strip()}"
    assert "There are 2" in repr(toy.solution(3))


def test_progress_follows_the_program(toy: lab.Lab, work: Path) -> None:
    assert repr(lab.progress()) == "01  A <toy>  not attempted"
    toy.submit(PASS)
    assert repr(lab.progress()).endswith("not checked yet")
    toy.check()
    assert repr(lab.progress()).endswith("not yet")
    toy.submit(DROP)
    assert repr(lab.progress()).endswith("changed since its last check")
    toy.check()
    assert repr(lab.progress()).endswith("right")
    for damaged in ("{", "[1]", '{"01_toy": 5}'):
        (work / "progress.json").write_text(damaged)
        assert repr(lab.progress()).endswith("not checked yet")


def test_another_file_leaves_no_trace(toy: lab.Lab, work: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.bpf.c"
    theirs.write_text(DROP)
    assert isinstance(toy.check(theirs), lab.Right)
    assert isinstance(toy.check(tmp_path / "nobody.bpf.c"), lab.NotAttempted)
    assert not work.exists()


def test_a_lab_that_is_not_there(toy: lab.Lab) -> None:
    for name in ("09", "toy", 9, ""):
        with pytest.raises(NotFound, match="The labs: 01_toy"):
            lab.open(name)
    assert lab.open(1).title == lab.open("01_toy").title == "A <toy>"


# --- lab 02: however it is written

SOLUTION = (kernel.ROOT / "labs/02_connection_table/solutions/atomic_hash.bpf.c").read_text()
OWN_KEY = """
struct own_key {
	__u32 protocol;
	__u16 dst_port, src_port;
	__u32 dst_ip, src_ip;
	__u32 vlan;
};

struct own_stats {
	__u64 last_ns, start_ns, bytes, packets;
};
"""


def judged(tmp_path: Path, *changes: tuple[str, str]) -> lab.Result:
    text = SOLUTION
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "changed.bpf.c"
    path.write_text(text)
    return lab.open("02").check_file(path)


@pytest.mark.parametrize(
    "changes",
    [
        [("_TYPE_HASH", "_TYPE_LRU_HASH"), ("4096", "16384")],
        [("_TYPE_HASH", "_TYPE_LRU_PERCPU_HASH"), ("4096", "16384")],
        [("max_entries, 4096", "map_flags, BPF_F_NO_PREALLOC);\n\t__uint(max_entries, 1024")],
        [("max_entries, 4096", "max_entries, 1000000")],
        [("int count(", "int some_other_name("), ('SEC("xdp")', 'SEC("xdp.frags")')],
        [
            ("struct conn_key", "struct own_key"),
            ("struct conn_stats", "struct own_stats"),
            ('#include "connection.h"\n', f'#include "connection.h"\n{OWN_KEY}'),
        ],
    ],
    ids=["lru", "percpu-lru", "no-prealloc", "large", "names", "own-structs"],
)
def test_lab_02_takes_any_right_program(tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    result = judged(tmp_path, *changes)
    assert isinstance(result, lab.Right), result


MAP = SOLUTION[SOLUTION.index("struct {") : SOLUTION.index('SEC("xdp")')]
BODY = SOLUTION[
    SOLUTION.index("	struct conn_stats *seen") : SOLUTION.index(
        "	return XDP_PASS;\n}\n\nchar"
    )
]


@pytest.mark.parametrize(
    "declared",
    [
        "__uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096);",
        "__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 8); __type(key, __u32); "
        "__type(value, __u64);",
        "__uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 8); __type(value, __u64);",
        "__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __uint(key_size, 16); "
        "__uint(value_size, 24);",
        "__uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8); __type(key, struct conn_key); "
        "__type(value, struct { struct conn_stats inner; });",
    ],
    ids=["ringbuf", "array", "queue", "no-types", "nested"],
)
def test_lab_02_knows_what_to_say_of_any_map(tmp_path: Path, declared: str) -> None:
    result = judged(
        tmp_path, (MAP, f'struct {{ {declared} }} connections SEC(".maps");'), (BODY, "")
    )
    assert isinstance(result, lab.Wrong), result
    assert "of `connections` is of type" in repr(result) and "Missing: " in repr(result)


def test_lab_02_needs_two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "online_cpus", lambda: [0])
    ex = lab.open("02")
    result = lab.judge_here(ex.folder, ex.solutions()[0])
    assert isinstance(result, lab.NotChecked) and "two CPUs" in repr(result)
