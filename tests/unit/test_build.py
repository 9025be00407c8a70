"""build(): the user side of libbpf programs, their skeletons, and the cache of both."""

import subprocess
from pathlib import Path

import pytest

from helpers import build, kernel
from helpers.errors import CompileError, LayoutError, NotFound, Unsupported

BPF = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "size.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SIZE);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""
USER = """\
#include <stdio.h>
#include "my_slots.skel.h"

int main(void)
{
	struct my_slots_bpf *skel = my_slots_bpf__open();

	printf("%u slots\\n", bpf_map__max_entries(skel->maps.slots));
	my_slots_bpf__destroy(skel);
	return 0;
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A learner's own folder, with a program of both sides and a header."""
    (tmp_path / "my_slots.bpf.c").write_text(BPF)
    (tmp_path / "my_slots.c").write_text(USER)
    (tmp_path / "size.h").write_text("#define SIZE 7\n")
    return tmp_path


def says(program: Path) -> str:
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def test_it_builds_and_runs(folder: Path, cache: Path) -> None:
    program = build(folder / "my_slots.c")
    assert says(program) == "7 slots\n"
    assert program.name == "my_slots"
    assert cache in program.parents
    written = {path.name for path in folder.iterdir()}
    assert written == {"my_slots.bpf.c", "my_slots.c", "size.h", "cache"}
    header = next(cache.rglob("my_slots.skel.h")).read_text()
    for part in ("my_slots_bpf__open", "my_slots_bpf__load", "my_slots_bpf__destroy", "*slots;"):
        assert part in header


def test_the_courses_own_program_builds_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.userside._WARNINGS", ["-Wall", "-Wextra", "-Werror"])
    done = subprocess.run([build("three_doors.c")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: three_doors MAP ")


def test_nothing_is_made_twice(folder: Path, cache: Path) -> None:
    program = build(folder / "my_slots.c")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    assert build(folder / "my_slots.c") == program
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


def test_a_change_is_seen(folder: Path) -> None:
    build(folder / "my_slots.c")
    (folder / "size.h").write_text("#define SIZE 1234\n")  # of the kernel's side
    assert says(build(folder / "my_slots.c")) == "1234 slots\n"
    (folder / "my_slots.bpf.c").write_text(BPF.replace("SIZE);", "5);"))
    assert says(build(folder / "my_slots.c")) == "5 slots\n"
    (folder / "my_slots.c").write_text(USER.replace("slots\\n", "places\\n"))
    assert says(build(folder / "my_slots.c")) == "5 places\n"


def test_a_text_is_built_with_the_courses_skeletons() -> None:
    text = '#include "hash.skel.h"\nint main(void) { return sizeof(struct hash_bpf) ? 0 : 1; }'
    program = build(text=text, name="slip.c")
    assert (program.name, says(program)) == ("slip", "")


def test_user_c_that_does_not_compile(folder: Path) -> None:
    (folder / "my_slots.c").write_text(USER.replace("maps.slots", "map.slots"))
    with pytest.raises(CompileError) as caught:
        build(folder / "my_slots.c")
    lines = caught.value.message.splitlines()
    assert lines[0].startswith("my_slots.c does not compile: no member named 'map'")
    assert lines[1].strip() == "--> my_slots.c:8"
    assert "no member named 'map'" in caught.value.text


def test_user_c_that_does_not_link() -> None:
    text = "int elsewhere(void);\nint main(void) { return elsewhere(); }"
    with pytest.raises(CompileError, match="undefined reference to `elsewhere'"):
        build(text=text)


def test_kernel_c_that_does_not_compile(folder: Path) -> None:
    (folder / "my_slots.bpf.c").write_text(BPF.replace("__u64", "u64"))
    with pytest.raises(CompileError, match=r"my_slots.bpf.c does not compile: (.|\n)*__u64"):
        build(folder / "my_slots.c")


def test_an_object_that_makes_no_skeleton(folder: Path) -> None:
    # Maps as they were declared before BTF, which libbpf 1.0 and later refuse.
    old = 'struct { int type; } slots SEC("maps") = { 2 };\n'
    (folder / "my_slots.bpf.c").write_text(BPF[: BPF.index("struct")] + old)
    with pytest.raises(CompileError, match=r"my_slots.bpf.c makes no skeleton. bpftool says:\n\w"):
        build(folder / "my_slots.c")


def test_a_skeleton_of_nothing() -> None:
    with pytest.raises(NotFound, match="no file 'none_such.bpf.c'"):
        build(text='#include "none_such.skel.h"\nint main(void) { return 0; }')


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no file 'none.c'.\nThe course has: .*three_doors.c"):
        build("none.c")


def test_one_of_path_and_text() -> None:
    with pytest.raises(LayoutError, match="one of a path or text="):
        build()
    with pytest.raises(LayoutError, match="one of a path or text="):
        build("three_doors.c", text="")


@pytest.mark.parametrize("tool", ["bpftool", "clang"])
def test_a_machine_without_the_tool(
    folder: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        find = getattr(kernel, tool)
        find.cache_clear()
        patch.setattr("shutil.which", lambda *_, **__: None)
        patch.setattr(Path, "glob", lambda *_: iter(()))
        try:
            with pytest.raises(Unsupported, match=rf"This needs {tool}\.\n(.|\n)*./course install"):
                build(folder / "my_slots.c")
        finally:
            find.cache_clear()
