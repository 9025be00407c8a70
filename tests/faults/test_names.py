"""Odd names, paths, keys, files: a result or a BpfError, what was asked for or nothing at all."""

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.error import UsageError

from helpers import instructor, kernel, load, magic, open_map, symbols
from helpers.errors import BpfError, LayoutError, MissingKey, NotFound
from helpers.libbpf import lib
from helpers.program import Program
from tests.ctypes_of import PRELUDE
from tests.faults.corrupt import harmed

MANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MAPS = f"""{PRELUDE}
struct mixed {{
	char text[8]; __u8 raw[3]; __u32 bits : 5; __s32 more : 9; unsigned __int128 wide;
	union {{ __u32 number; __u16 half; }}; __u16 grid[2][2]; _Bool yes; double real; enum color c;
}};
struct name {{ char text[16]; }};
#define MAP(name, kind, k, v) struct {{ __uint(type, BPF_MAP_TYPE_##kind); \\
	__uint(max_entries, 64); __type(key, k); __type(value, v); }} name SEC(".maps");
MAP(hash, HASH, __u32, __u64)
MAP(array, ARRAY, __u32, struct mixed)
MAP(mixed, HASH, struct mixed, struct mixed)
MAP(names, HASH, struct name, __u32)
MAP(cpus, PERCPU_HASH, __s64, struct mixed)
MAP(programs, PROG_ARRAY, __u32, __u32)
"""


@pytest.fixture(scope="module")
def prog() -> Iterator[Program]:
    with load(text=MAPS, name="names.bpf.c") as loaded:
        yield loaded


# --- keys and values ------------------------------------------------------------------------

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 130), 1 << 130),
    st.integers(-2, 70),
    st.floats(),
    st.complex_numbers(),
    st.decimals(),
    st.text(st.characters(exclude_categories=())),  # with halves of characters
    st.ip_addresses().map(str),
    st.binary(max_size=20),
    st.sampled_from(
        [object(), int, ..., np.uint8(3), np.int64(-1), np.float32(2), np.nan, range(4)]
    ),
    st.sampled_from([np.array(1), np.array([1]), np.arange(4), bytearray(3), memoryview(b"abc")]),
)
odd = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=10),
        st.lists(inner, max_size=10).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.sampled_from(["text", "bits"])), inner),
    ),
)


@given(odd, odd, st.sampled_from(["hash", "array", "mixed", "names", "cpus", "programs"]))
@MANY
def test_any_object_is_a_key_or_an_error(prog: Program, key: Any, value: Any, name: str) -> None:
    it = prog[name]
    for act in (
        lambda: it[key],
        lambda: key in it,
        lambda: it.__setitem__(key, value),
        lambda: it.__setitem__(0, value),
        lambda: it.update_elem(key, value, "noexist"),
        lambda: it.update([(key, value)]),
        lambda: it.next_key(key),
        lambda: it.__delitem__(key),
    ):
        with contextlib.suppress(BpfError):
            act()
    if not it.is_array:
        it.clear()


@given(st.sets(st.binary(min_size=16, max_size=16), max_size=30))
@MANY
def test_any_bytes_are_a_key_of_their_own(prog: Program, raw: set[bytes]) -> None:
    """Also those with NULs between, and those that are no UTF-8."""
    names = prog["names"]
    for number, one in enumerate(sorted(raw)):
        assert not lib().bpf_map_update_elem(names.fd, one, number.to_bytes(4, "little"), 0)
    found = dict(names)
    assert {names.key.encode(key): value for key, value in found.items()} == {
        one: number for number, one in enumerate(sorted(raw))
    }
    assert all(names[key] == value for key, value in found.items())
    assert len(names.frame()) == len(raw)
    for key in found:
        del names[key]
    assert len(names) == 0


@pytest.mark.parametrize("key", [64, "0.0.0.64", 1 << 31])
def test_an_index_past_the_end_of_a_program_array(prog: Program, key: Any) -> None:
    with pytest.raises(MissingKey, match="it has the indexes 0 to 63"):
        prog["programs"][key]


# --- pins -----------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=()), min_size=1, max_size=20))
@MANY
def test_a_pin_has_the_name_that_was_asked_for_or_none(prog: Program, name: str) -> None:
    before = set(kernel.PINS.rglob("*"))
    try:
        path = prog["hash"].pin(name.lstrip("/"))
    except BpfError:
        assert set(kernel.PINS.rglob("*")) == before
        kernel.drop_pins()
        return
    try:
        assert path.exists() and path.is_relative_to(kernel.PINS) and ".." not in path.parts
        with open_map(pin=path) as there:
            assert there.id == prog["hash"].id
    finally:
        prog["hash"].unpin(name.lstrip("/"))
    assert set(kernel.PINS.rglob("*")) == before


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 256, "../up", "a/../b", "x/" * 3000])
def test_no_pin_of_such_a_name(prog: Program, name: str) -> None:
    for absolute in ("", f"{kernel.BPFFS}/"):
        with pytest.raises(BpfError):
            prog["hash"].pin(absolute + name)
        with pytest.raises(BpfError):
            open_map(pin=f"{kernel.BPFFS}/{name}")
        with pytest.raises(BpfError):
            prog["hash"].unpin(absolute + name)
    kernel.drop_pins()


def test_a_nul_does_not_make_another_pin_of_it(prog: Program) -> None:
    path = prog["hash"].pin("known")
    try:
        for act in (prog["array"].pin, prog["hash"].unpin, lambda name: open_map(pin=name)):
            with pytest.raises(NotFound, match="is no path"):
                act(f"{path}\0and more")
    finally:
        prog["hash"].unpin("known")


def test_a_link_in_the_place_of_a_pin(prog: Program, tmp_path: Path) -> None:
    mine = prog["hash"].pin("mine")
    link, out = kernel.PINS / "link", kernel.PINS / "out"
    try:
        link.symlink_to(mine)
        out.symlink_to(tmp_path)
        with pytest.raises(NotFound, match="another map's"):
            prog["array"].unpin("link")
        with pytest.raises(BpfError, match="EEXIST"):
            prog["array"].pin("link")
        with pytest.raises(BpfError):
            prog["array"].pin("out/there")
        assert not [*tmp_path.iterdir()] and mine.exists()
        prog["hash"].unpin("link")  # the link goes, and the pin stays
        assert mine.exists() and not link.is_symlink()
    finally:
        for path in (link, out):
            path.unlink(missing_ok=True)
        prog["hash"].unpin("mine")


@pytest.mark.parametrize("given", [{"id": n} for n in (-1, 1 << 32, 1 << 64, "7", 1.5)])
def test_a_number_that_is_no_id(given: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        open_map(**given)


def test_a_large_id_is_no_other_maps(prog: Program) -> None:
    with pytest.raises(NotFound):
        open_map(id=prog["hash"].id + (1 << 32))
    for fd in (prog["hash"].fd + (1 << 32), 1 << 64, -1):
        with pytest.raises(BpfError, match="not open"):
            open_map(fd=fd)


@pytest.mark.parametrize("used", ["array", "mixed", "names", "cpus", "programs"])
def test_a_wrong_map_is_not_connected(prog: Program, used: str) -> None:
    with pytest.raises(LayoutError, match="cannot be used again"):
        load(text=MAPS, name="names.bpf.c", maps={"hash": prog[used]})


# --- names of programs and files --------------------------------------------------------------


@given(st.one_of(st.text(max_size=30), st.from_regex(r"\w{1,300}( (bcc|libbpf|\w+))?")))
@settings(MANY, max_examples=25)
def test_a_cell_of_any_name_is_told_what_is_wrong(name: str) -> None:
    """The C is refused, whatever it is called; nothing else is."""
    shell = SimpleNamespace(user_ns={})
    with mock.patch.object(magic, "_shell", lambda: shell):
        with pytest.raises((UsageError, BpfError)):
            magic.bpf(name, "#error no program\n")
        assert not shell.user_ns


@pytest.mark.parametrize(
    "name", ["../up.bpf.c", "/tmp/abs.bpf.c", "-x.bpf.c", "a b.bpf.c", "a\0.bpf.c", "x" * 300, "\n"]
)
def test_a_name_that_is_none_for_a_file(name: str) -> None:
    with pytest.raises(LayoutError, match="cannot be the name of a C file"):
        load(text="int x;", name=name)


def test_a_process_of_odd_files_has_names(tmp_path: Path) -> None:
    """What it maps may be called anything, as ends of lines to Python, and no UTF-8."""
    odd = os.fsencode(tmp_path) + b"/\xff\x0c\xe2\x80\xa8 \x1b[2J\n"
    Path(os.fsdecode(odd)).write_bytes(bytes(4096))
    program = (
        "import ctypes, mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "at = mmap.mmap(fd, 4096, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE)\n"
        "print(open('/proc/self/maps', 'rb').read().hex(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable.encode(), b"-c", program.encode(), odd]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        maps = bytes.fromhex(process.stdout.readline().decode()).split(b"\n")
        [line] = [one for one in maps if b"\xff\x0c" in one]
        name = symbols.Symbols(process.pid).user(int(line.split(b"-")[0], 16))
        process.communicate()
    name.encode()  # it can be printed
    assert "\x0c" in name and "\ufffd" in name


# --- what is handed in ----------------------------------------------------------------------

LAB = kernel.ROOT / "labs/02_connection_table"
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["cells", "cell_type", "source"]), st.text(max_size=3)), inner
        ),
    ),
    max_leaves=20,
)


def found(folder: Path, data: bytes) -> list[instructor.Found]:
    (folder / "lab.ipynb").write_bytes(data)
    return [*instructor._cells(folder / "lab.ipynb", 0)]


def test_a_damaged_notebook_hands_in_a_program_or_nothing(tmp_path: Path) -> None:
    whole = (LAB / "lab.ipynb").read_bytes()
    assert len(found(tmp_path, whole)) == 1
    rng = random.Random(9)
    for _ in range(300):
        for one in found(tmp_path, harmed(rng, whole)):
            assert one.lab == LAB.name and instructor._content(one) is not None


@given(values, st.sampled_from([[], ["cells"], ["cells", 0], ["cells", 0, "source"]]))
@MANY
def test_a_notebook_of_wrong_types_hands_in_nothing(
    tmp_path_factory: pytest.TempPathFactory, value: Any, place: list[Any]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    notebook: Any = {"cells": [{"cell_type": "code", "source": ["%%bpf lab=02\n", "int x;"]}]}
    at = notebook
    for step in place[:-1]:
        at = at[step]
    if place:
        at[place[-1]] = value
    assert found(folder, json.dumps(notebook if place else value).encode()) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe" + "{}".encode("utf-16-le"),
        b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"cells": [{"cell_type": "code", "source": "%%bpf lab=' + b"2" * 5000 + b'\\nx"}]}',
        b'{"cells": [{"cell_type": "code", "source": "%%bpf lab=02\\n\\ud800"}], "x": 1'
        + b"0" * 9999,
        b'{"cells": [' + b'{"cell_type": "code", "source": ""},' * 100_000 + b"0]}",
        bytes(range(256)) * 1000,
        b" " * (instructor.NOTEBOOK + 10),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_a_notebook_that_is_none(tmp_path: Path, data: bytes) -> None:
    assert found(tmp_path, data) == []
