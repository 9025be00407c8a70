"""The source chapter as a table: all that it names has an example that runs, or a test fails.

A row points at one cell: the notebook, a pattern in the cell's C or Python, and a pattern in what
that cell said when it last ran. That cells say the same again is nbval's to check, in the same run
of the tests.
"""

import functools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers import load
from helpers.kernel import ROOT


class Cell(NamedTuple):
    """A code cell that was run: its source, and all that it showed, errors included."""

    source: str
    shown: str
    tags: list[str]


class Kind(NamedTuple):
    """A map type of the chapter: bpf/FILE.bpf.c and bpf/FILE.bcc.c declare one, PAGE shows it."""

    name: str
    file: str
    page: str


class Row(NamedTuple):
    """Something else that the chapter names, and the cell that shows it.

    Without ``shown``, the cell shows nothing where the tests run, and says so by a tag.
    """

    what: str
    page: str
    source: str
    shown: str = ""


# The chapter's own order.
KINDS = [
    Kind("hash", "hash", "02_hash_maps"),
    Kind("array", "array", "03_array_maps"),
    Kind("percpu_hash", "per_cpu", "04_per_cpu_maps"),
    Kind("percpu_array", "per_cpu", "04_per_cpu_maps"),
    Kind("perf_event_array", "event_buffers", "06_event_buffers"),
    Kind("ringbuf", "event_buffers", "06_event_buffers"),
    Kind("lru_hash", "lru", "05_lru_hash"),
    Kind("prog_array", "tail_calls", "07_tail_calls"),
    Kind("stack_trace", "stack_traces", "08_stack_traces"),
    Kind("sockmap", "socket_maps", "09_socket_maps"),
    Kind("sockhash", "socket_maps", "09_socket_maps"),
]
DIALECTS = ("bpf", "bcc")

DOORS = [
    # BCC's own table class
    Row("BCC: its own table", "10_three_doors", r"bcc\.BPF\(", r"'HashTable'"),
    Row("BCC: lookup", "10_three_doors", r"seen = table\[table\.Key\(80\)\]", r"\(3, 162\)"),
    Row("BCC: update", "10_three_doors", r"\] = table\.Leaf\(7, 700\)", r"\(True, False, 3\)"),
    Row("BCC: delete", "10_three_doors", r"^del table\[", r"\(True, False, 3\)"),
    Row("BCC: iterate", "10_three_doors", r"in table\.items\(\)", r"8080"),
    Row("BCC: clear", "10_three_doors", r"clear\[name\]\(\)", r"BCC +cleared \d+ .*, 0 left"),
    # libbpf, from C
    Row("libbpf: a skeleton", "10_three_doors", r"build\(\"three_doors\.c\"\)", r"80,3,162"),
    Row("libbpf: bpf_map__fd", "10_three_doors", r"\"main\"", r"bpf_map__fd\(skel->maps\.ports\)"),
    Row("libbpf: lookup", "10_three_doors", r"c_door\(\"lookup\", 443\)", r"443,7,700"),
    Row("libbpf: update", "10_three_doors", r"c_door\(\"update\", 443, 7", r"443,7,700"),
    Row("libbpf: delete", "10_three_doors", r"c_door\(\"delete\", 443\)", r"False"),
    Row("libbpf: iterate", "10_three_doors", r"c_door\(\"dump\"\)", r"8080"),
    Row(
        "libbpf: clear", "10_three_doors", r"clear\[name\]\(\)", r"C program +cleared \d+ .*, 0 le"
    ),
    # bpftool
    Row("bpftool: list", "10_three_doors", r"bpftool\(\"list\"\)", r"True"),
    Row("bpftool: dump", "10_three_doors", r"bpftool\(\"dump\"", r"8080"),
    Row("bpftool: lookup", "10_three_doors", r"answer\[\"formatted\"\]", r"'key': 8080"),
    Row("bpftool: update", "10_three_doors", r"bpftool\(\"update\", .*7, 700", r"packets=7"),
    Row("bpftool: delete", "10_three_doors", r"bpftool\(\"delete\"", r"None\n.*No such file"),
    Row(
        "bpftool: clear", "10_three_doors", r"clear\[name\]\(\)", r"bpftool +cleared \d+ .*, 0 left"
    ),
    # all of them at the same map
    *(
        Row(
            f"{door}: the same frame", "10_three_doors", r"df\.equals\(whole\)", rf"{door} +303.*Tr"
        )
        for door in ("BCC", "C program", "bpftool")
    ),
    *(
        Row(f"{door}: all see it", "10_three_doors", r"changed by", rf"{door}( +True){{3}}")
        for door in ("BCC", "C program", "bpftool")
    ),
]

FLAGS = [
    Row(f"{flag}, the key is {state}", "02_hash_maps", r"flags=flag", rf"{flag} +{state} +{says}")
    for flag, state, says in (
        ("any", "there", "written"),
        ("any", "missing", "written"),
        ("noexist", "there", "refused: EEXIST"),
        ("noexist", "missing", "written"),
        ("exist", "there", "written"),
        ("exist", "missing", "refused: ENOENT"),
    )
]

VERIFIER = [
    Row("hash: check for NULL", "02_hash_maps", r"unchecked", r"may have returned NULL"),
    Row("array: check for NULL", "03_array_maps", r"unchecked", r"may have returned NULL"),
    Row("512 bytes of stack", "01_why_maps", r"ROOM\": 300", r"512 bytes of stack"),
    Row("no allocation", "01_why_maps", r"load\(\"malloc\.bpf\.c\"\)", r"no C library"),
    Row("locals are forgotten", "01_why_maps", r"run\(\"forget\"\)", r"\[1, 1, 1\]"),
    Row("a map remembers", "01_why_maps", r"run\(\"remember\"\)", r"\[1, 2, 3\]"),
]

PINNING = [
    Row("not pinned, a map ends with its process", "11_pinning", r"gone\(number\)", r"nothing"),
    Row("pinned, it stays", "11_pinning", r"open_map\(pin=PIN\)", r"packets"),
    Row("bpftool reads the pin", "11_pinning", r"\"dump\", \"pinned\"", r"value\.packets"),
    Row("a second process goes on", "11_pinning", r"process\(NEXT", r"6 and 9"),
    Row("bpftool pins, rm unpins", "11_pinning", r"\"map\", \"pin\", \"id\"", r"True"),
    Row("unpinned, it ends with its holder", "11_pinning", r"\.unpin\(", r"Measured: there, until"),
]

# What the chapter says otherwise than it was measured.
CORRECTIONS = [
    Row("values() of a per-CPU table", "04_per_cpu_maps", r"table\.values\(\)", r"number: False"),
    Row("sum(values())", "04_per_cpu_maps", r"guess_sum\.reveal", r"Measured: TypeError"),
    Row("an atomic counter", "04_per_cpu_maps", r"^races$", r"add_atomic .* 4000000 +0\n"),
    Row("what an LRU hash keeps", "05_lru_hash", r"guess_left\.reveal", r"Measured: [1-9],"),
    Row("memory of both buffers", "06_event_buffers", r"\"bytes mapped\"", r"ring +1 +139264"),
]

PATTERNS = [
    Row("atomic counter", "12_patterns", r"guess_exact\.reveal", r"Measured: atomic and per_cpu"),
    Row("configuration table", "12_patterns", r"\[0\] = \(80, 1\)$", r"'dropped': 5, 'passed': 7"),
    Row("event streaming: execve", "12_patterns", r"execs\.frame\(\)", r"Measured: 5"),
    Row("event streaming: connects", "12_patterns", r"stream\.frame\(\)", r"7 +opened"),
    Row("event streaming: by kprobe", "12_patterns", r"attach\(\"trace_exec\"\)"),
    Row("a live dashboard", "12_patterns", r"^board$", r"port 7 gone +0"),
]

# Those of the six exercises that have a lab.
EXERCISES = [
    Row("1: counters", "labs/01_protocol_counters/lab", r"ex\.check\(\)", r"Not attempted"),
    Row("2: connection table", "labs/02_connection_table/lab", r"ex\.check\(\)", r"Not attempted"),
    Row("3: ring buffer", "labs/03_ring_buffer_events/lab", r"ex\.check\(\)", r"Not attempted"),
    Row("4: LRU", "labs/04_lru_behaviour/lab", r"ex\.check\(\)", r"Not attempted"),
    Row("5: map pinning", "labs/05_map_pinning/lab", r"ex\.check\(\)", r"Not attempted"),
    Row(
        "6: Python comparison", "labs/06_python_comparison/lab", r"ex\.check\(\)", r"Not attempted"
    ),
]


@functools.cache
def cells(page: str) -> list[Cell]:
    """The code cells of a notebook that have run."""
    found = []
    for cell in notebook(page):
        if cell["cell_type"] == "code" and cell["execution_count"]:
            said = "\n".join(_text(output) for output in cell["outputs"])
            tags = cell["metadata"].get("tags", [])
            found.append(Cell("".join(cell["source"]), said, tags))
    return found


def notebook(page: str) -> list[dict[str, Any]]:
    path = ROOT / (f"{page}.ipynb" if "/" in page else f"notebooks/{page}.ipynb")
    assert path.is_file(), f"there is no notebook {path.relative_to(ROOT)}"
    return json.loads(path.read_text())["cells"]


def _text(output: dict[str, Any]) -> str:
    if output["output_type"] == "error":
        return output["evalue"]
    return "".join(output["text"] if "text" in output else output["data"].get("text/plain", ""))


def check(row: Row) -> None:
    """Fail, and say what is missing, unless a cell is what the row says."""
    candidates = [c for c in cells(row.page) if re.search(row.source, c.source, re.MULTILINE)]
    assert candidates, f"{row.what}: no cell of {row.page} has {row.source!r}"
    if not row.shown:
        lacking = all("needs-kprobe" in c.tags for c in candidates)
        assert lacking, f"{row.what}: what does {row.page} show?"
        return
    shown = [c.shown for c in candidates]
    assert any(re.search(row.shown, text) for text in shown), (
        f"{row.what}: {row.page} shows {shown}, not {row.shown!r}"
    )


def test_the_table_is_the_chapters() -> None:
    """Eleven types, three doors with all their operations, four patterns: none left out."""
    assert [kind.name for kind in KINDS] == (
        "hash array percpu_hash percpu_array perf_event_array ringbuf lru_hash prog_array "
        "stack_trace sockmap sockhash"
    ).split()
    for door, ways in (
        ("BCC", {"iterate"}),
        ("libbpf", {"iterate"}),
        ("bpftool", {"list", "dump"}),
    ):
        there = {row.what.partition(": ")[2] for row in DOORS if row.what.startswith(f"{door}:")}
        assert {"lookup", "update", "delete", "clear"} | ways <= there, door
    patterns = {row.what.partition(":")[0] for row in PATTERNS}
    assert patterns == {
        "atomic counter", "configuration table", "event streaming", "a live dashboard"
    }  # fmt: skip
    labs = {path.parent.name[:2] for path in ROOT.glob("labs/*/lab.ipynb")}
    listed = {Path(row.page).parts[1][:2] for row in EXERCISES}
    assert listed == labs & {f"{n:02}" for n in range(1, 7)}


def test_a_row_without_its_example_fails() -> None:
    with pytest.raises(AssertionError, match="no cell of 02_hash_maps has"):
        check(Row("nothing", "02_hash_maps", "no such cell"))
    with pytest.raises(AssertionError, match="not 'written over'"):
        check(Row("a flag", "02_hash_maps", "flags=flag", "written over"))
    with pytest.raises(AssertionError, match="what does 02_hash_maps show"):
        check(Row("a flag", "02_hash_maps", "flags=flag"))
    with pytest.raises(AssertionError, match="no notebook"):
        check(Row("a page", "99_nowhere", ""))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_map_type_runs_in_both_dialects(kind: Kind, dialect: str) -> None:
    file = f"{kind.file}.{dialect}.c"
    with load(file) as prog:
        assert kind.name in {one.type for one in prog.maps.values()}
    # A cell that only shows the C does not run it.
    shows = rf"source\(\"{re.escape(file)}\"[^)]*\)"
    code = "\n".join(re.sub(shows, "", cell.source) for cell in cells(kind.page))
    assert f'"{file}"' in code, f"{kind.page} shows {file}, and does not run it"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_chapters_claims_about_a_type_have_verdicts(kind: Kind) -> None:
    notes = ["".join(c["source"]) for c in notebook(kind.page) if c["cell_type"] == "markdown"]
    tables = [text for text in notes if re.search(r"^\| the book says \|", text, re.M)]
    assert tables, f"{kind.page} has no table of what the book says"
    lines = [line for text in tables for line in text.splitlines() if line.startswith("|")]
    verdicts = [line for line in lines if re.search(r"\| (true|wrong)", line)]
    assert len(verdicts) >= 3


@pytest.mark.parametrize("row", DOORS, ids=lambda row: row.what)
def test_a_door(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", FLAGS, ids=lambda row: row.what)
def test_an_update_flag(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", VERIFIER, ids=lambda row: row.what)
def test_a_limit_that_the_verifier_sets(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", PINNING, ids=lambda row: row.what)
def test_a_step_of_pinning(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", CORRECTIONS, ids=lambda row: row.what)
def test_what_the_chapter_says_otherwise(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", PATTERNS, ids=lambda row: row.what)
def test_a_pattern(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("row", EXERCISES, ids=lambda row: row.what)
def test_an_exercise_has_its_lab(row: Row) -> None:
    check(row)
