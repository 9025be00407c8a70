"""symbols: names for addresses of a process and of the kernel, and for the stacks of a map."""

import gc
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import build, symbols
from helpers.errors import MissingKey, NotFound

C = """
#include <stdio.h>
__attribute__((noinline)) int first(void) { return 1; }
static __attribute__((noinline)) int second(void) { return 2; }
int main(void)
{
	printf("%p %p %p\\n", (void *)first, (void *)second, (void *)puts);
	fflush(stdout);
	getchar();
	return first() + second();
}
"""


@pytest.fixture
def process() -> Iterator[tuple[int, list[int]]]:
    """A process, and where its first(), its static second(), and the C library's puts() are."""
    program = build(text=C, name="named.c")
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout
        yield one.pid, [int(word, 16) for word in one.stdout.readline().split()]
        one.communicate()


def test_a_process_has_names(process: tuple[int, list[int]]) -> None:
    pid, (first, second, puts) = process
    names = symbols.Symbols(pid)
    assert [names.user(first), names.user(first + 1)] == ["first", "first"]
    assert names.user(second) == "second"  # in .symtab alone
    assert names.user(puts) == "puts"  # a library's, which it also calls _IO_puts
    assert names.user(1) == "[unknown]"


def test_an_address_without_a_name_is_shown_as_its_file(process: tuple[int, list[int]]) -> None:
    pid, _ = process
    maps = Path(f"/proc/{pid}/maps").read_text()
    found = re.search(r"^(\w+)-\w+ r--p 0+ .*/named$", maps, re.MULTILINE)  # its ELF header
    assert found
    assert symbols.Symbols(pid).user(int(found[1], 16) + 8) == "[named]"


def test_a_damaged_file_has_no_names(tmp_path: Path) -> None:
    whole = build(text=C, name="named.c").read_bytes()
    path = tmp_path / "damaged"
    for data in (b"", b"#!/bin/sh\n", whole[:40], whole[:1000], whole[: len(whole) // 2]):
        path.write_bytes(data)
        assert symbols._read(str(path)) is None
    assert symbols._read(str(tmp_path / "none")) is None
    path.write_bytes(whole)
    read = symbols._read(str(path))
    assert read
    assert {b"first", b"second", b"main"} <= set(read.names)


def test_the_kernel_has_names() -> None:
    names = symbols.Symbols(os.getpid())
    text, checked = Path("/proc/kallsyms").read_text(), 0
    for function in ("schedule", "vfs_read", "do_syscall_64"):
        found = re.search(rf"^(\w+) [tT] {function}$", text, re.MULTILINE)
        if found and int(found[1], 16):
            assert names.kernel(int(found[1], 16) + 3) == f"{function} [k]"
            checked += 1
    assert checked


def test_a_stack_is_named_from_the_outside_in(process: tuple[int, list[int]]) -> None:
    pid, (first, second, _) = process
    names = symbols.Symbols(pid)

    def value(*frames: int) -> bytes:
        return struct.pack("127Q", *frames, *[0] * (127 - len(frames)))

    # A call at the very end of a function returns to the first byte of the next one.
    end = next(at for at in range(first, first + 64) if names.user(at) != "first")
    stacks: Any = {7: value(second, end), 9: value()}
    assert symbols.addresses(stacks, 7) == [second, end - 1]
    assert names.stack(stacks, 7) == ("first", "second")
    assert names.stack(stacks, 9) == ()
    assert names.stack(stacks, 7, -17) == ("first", "second", "[EEXIST]")
    assert names.stack(stacks, -12, -14) == ("[ENOMEM]",)


def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
        with pytest.raises(NotFound, match=f"There is no process {gone.pid}.") as error:
            symbols.Symbols(gone.pid)
    assert error.value.errno_name == "ESRCH"


def test_names_leave_no_file_open(process: tuple[int, list[int]]) -> None:
    pid, (first, *_) = process
    symbols.Symbols(pid).user(first)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert symbols.Symbols(pid).user(first) == "first"
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_stack_is_a_missing_key() -> None:
    from helpers import load

    with load("stack_traces.bpf.c") as prog, pytest.raises(MissingKey, match="no key 5"):
        symbols.addresses(prog["stacks"], 5)
