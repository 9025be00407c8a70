"""Chapter 10: one map through BCC's own tables, a libbpf C program, bpftool and ``BpfMap``."""

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from helpers import build, kernel, load, open_map, sandbox, source


@pytest.fixture(scope="module")
def program() -> Path:
    return build("three_doors.c")


@pytest.fixture(scope="module")
def of_bcc() -> Iterator[SimpleNamespace]:
    """The map that BCC makes, as BCC's table and as a ``BpfMap``."""
    bcc = kernel.import_bcc()
    module = bcc.BPF(text=source("three_doors.bcc.c").encode(), cflags=["-w"])
    table = module[b"ports"]
    with open_map(fd=table.map_fd) as it:
        yield SimpleNamespace(table=table, map=it)
    kernel.free_bcc(module)


@pytest.fixture
def live(of_bcc: SimpleNamespace) -> SimpleNamespace:
    """The same, with three entries."""
    of_bcc.map.clear()
    of_bcc.map.update({53: (2, 84), 80: (3, 162), 8080: (1, 54)})
    return of_bcc


def run(*command: Any, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], input=stdin, capture_output=True, text=True)


def rows(df: pd.DataFrame) -> list[tuple[int, ...]]:
    return sorted(df.itertuples(index=False, name=None))


def test_twins_agree() -> None:
    frames = [flow.frame(20) for flow in sandbox.random_flows(60, seed=4)] * 2
    frames.append(sandbox.icmp())  # no ports: not counted
    found = []
    for name in ("three_doors.bpf.c", "three_doors.bcc.c"):
        with load(name) as prog:
            for frame in frames:
                prog.run("count_ports", data=bytes(frame))
            prog.run("count_runs", repeat=50)
            assert dict(prog["runs"]) == {0: 50, 1: 50}
            found.append(prog["ports"].frame().sort_values("key", ignore_index=True))
    assert 1 < len(found[0]) <= 60
    assert found[0].packets.max() > 1
    assert found[0].equals(found[1])
    assert found[0].dtypes.equals(found[1].dtypes)


def test_every_door_shows_the_same_rows(live: SimpleNamespace, program: Path) -> None:
    live.map.update({port: (port, 60 * port) for port in range(30_000, 31_000)})
    whole = rows(live.map.frame())
    assert len(whole) == 1003
    assert sorted((k.value, v.packets, v.bytes) for k, v in live.table.items()) == whole
    said = run(program, live.map.id, "dump").stdout
    assert rows(pd.read_csv(io.StringIO(said))) == whole
    dumped = json.loads(run(kernel.bpftool(), "-j", "map", "dump", "id", live.map.id).stdout)
    assert rows(pd.json_normalize([one["formatted"] for one in dumped])) == whole


def test_the_c_program_looks_up_updates_deletes_and_clears(
    live: SimpleNamespace, program: Path
) -> None:
    def door(*words: object) -> tuple[int, str, str]:
        done = run(program, live.map.id, *words)
        return done.returncode, done.stdout, done.stderr

    assert door("lookup", 80) == (0, "80,3,162\n", "")
    assert door("lookup", 81) == (1, "", "lookup: No such file or directory\n")
    assert door("update", 81, 2**64 - 1, 0, "noexist") == (0, "", "")
    assert live.map[81] == (2**64 - 1, 0)
    assert door("update", 81, 0, 0, "noexist") == (1, "", "update: File exists\n")
    assert door("update", 81, 5, 6, "exist") == (0, "", "")
    assert door("update", 82, 5, 6, "exist")[2] == "update: No such file or directory\n"
    assert door("update", 81, 7, 8) == (0, "", "")
    assert live.map[81] == (7, 8)
    assert door("delete", 81) == (0, "", "")
    assert door("delete", 81)[2] == "delete: No such file or directory\n"
    assert len(live.map) == 3
    assert door("clear") == (0, "", "")
    assert len(live.map) == 0
    assert door("clear") == (0, "", "")
    assert door("dump") == (0, "key,packets,bytes\n", "")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("dumps",),
        ("dump", 80),
        ("lookup",),
        ("lookup", 65536),
        ("lookup", -1),
        ("lookup", "x"),
        ("lookup", ""),
        ("update", 80, 1),
        ("update", 80, 1, 2**64),
        ("update", 80, 1, 1, "never"),
        ("update", 80, 1, 1, "any", "more"),
    ],
)
def test_the_c_program_refuses_what_it_does_not_understand(
    live: SimpleNamespace, program: Path, words: tuple[object, ...]
) -> None:
    before = dict(live.map)
    done = run(program, live.map.id, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: " in done.stderr or "is no number from 0 to" in done.stderr
    assert dict(live.map) == before


def test_the_c_program_enters_no_other_map(live: SimpleNamespace, program: Path) -> None:
    with load("three_doors.bpf.c") as prog:
        done = run(program, prog["runs"].id, "dump")
    assert (done.returncode, done.stderr) == (1, "dump: Invalid argument\n")
    assert run(program, 2**31, "dump").stderr == "dump: No such file or directory\n"
    assert "is no number" in run(program, 2**32, "dump").stderr


def test_the_c_program_pins_and_enters_by_the_pin(live: SimpleNamespace, program: Path) -> None:
    """bpf_map__pin() and bpf_obj_get() of libbpf."""
    pin = kernel.PINS / "test_three_doors"
    kernel.make_pins(pin)
    try:
        done = run(program, live.map.id, "pin", pin)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        with open_map(pin=pin) as pinned:
            assert pinned.id == live.map.id
        assert run(program, pin, "lookup", 80).stdout == "80,3,162\n"
        assert run(program, pin, "update", 80, 4, 200).returncode == 0
        assert live.map[80] == (4, 200)
        assert "File exists" in run(program, pin, "pin", pin).stderr
    finally:
        pin.unlink(missing_ok=True)
        kernel.drop_pins()
    assert run(program, pin, "dump").stderr == "dump: No such file or directory\n"


def test_bcc_tables_as_the_chapter_shows_them(live: SimpleNamespace) -> None:
    table = live.table
    assert type(table).__name__ == "HashTable"
    assert table.map_id != live.map.id  # a number of BCC's own
    key = table.Key(443)
    table[key] = table.Leaf(1, 60)
    table[key] = table.Leaf(2, 120)  # no flag but BPF_ANY
    assert live.map[443] == (2, 120)
    del table[key]
    for act in (lambda: table[key], lambda: table.__delitem__(key)):
        with pytest.raises(KeyError) as caught:
            act()
        assert caught.value.args == ()
    with pytest.raises(TypeError):
        table[80]
    with pytest.raises(TypeError, match="unhashable"):
        dict(table.items())
    assert table.Key(80) != table.Key(80)
    assert table.Key(70_000).value == 4464
    assert not hasattr(table.Leaf(1, 2), "value")
    table.clear()
    assert len(live.map) == len(table) == 0


def test_bccs_increment_loses_updates_and_its_atomic_one_does_not() -> None:
    cpus = kernel.online_cpus()[:2]
    if len(cpus) < 2:
        pytest.skip("a race needs two CPUs")
    with load("three_doors.bcc.c") as prog:
        for rounds in range(1, 21):
            sandbox.on_cpus(cpus, lambda: prog.run("count_runs", repeat=200_000))
            assert prog["runs"][1] == rounds * 400_000
            if prog["runs"][0] < rounds * 400_000:
                return
    pytest.fail("two CPUs incremented 8,000,000 times and lost nothing")


def test_bpftool_takes_bytes(live: SimpleNamespace) -> None:
    def tool(*words: object) -> Any:
        done = run(kernel.bpftool(), "-j", "map", *words)
        return json.loads(done.stdout or "null")

    it = ("id", live.map.id)
    assert tool("lookup", *it, "key", "0x90", "0x1f")["formatted"]["key"] == 8080
    assert tool("lookup", *it, "key", "0x1f", "0x90") is None
    assert "2 bytes" in tool("lookup", *it, "key", 8080)["error"]
    assert "16 bytes" in tool("update", *it, "key", 80, 0, "value", 5, 0, 0, 0)["error"]
    assert tool("update", *it, "key", 80, 0, "value", *bytes(16), "noexist")["error"]
    assert tool("update", *it, "key", 81, 0, "value", *bytes(16), "exist")["error"]
    assert live.map[80] == (3, 162) and 81 not in live.map
    assert tool("update", *it, "key", 81, 0, "value", 1, *bytes(15), "noexist") is None
    assert live.map[81] == (1, 0)
    assert tool("delete", *it, "key", 81, 0) is None
    assert "delete failed" in tool("delete", *it, "key", 81, 0)["error"]
    script = "".join(
        f"map delete id {live.map.id} key {' '.join(one['key'])}\n" for one in tool("dump", *it)
    )
    run(kernel.bpftool(), "batch", "file", "-", stdin=script)
    assert len(live.map) == 0


def test_a_walk_that_begins_at_a_key_misses_those_before_it(live: SimpleNamespace) -> None:
    order = list(live.map)
    assert [live.map.next_key(key) for key in (None, *order)] == [*order, None]
