"""Random C types, full of random bytes: what we read of a map against two others who read it.

One is bpftool, which tells whether we leave a member out, and one a C program of the same text,
compiled for this machine, which tells what each member holds. bpftool 7 has its ways, which its
half of the comparison allows for:

- Bitfields, pointers and integers of 16 bytes it writes in hex, without their sign, enums by name.
- Text is an array of char that holds nothing but what can be printed before its first NUL, and of
  that its JSON turns a backslash into an end of line. Any other array of char is one of numbers,
  or of characters, and a char by itself is a number.
- For a float it writes "(unsupported-kind", which is no JSON: those are left to the C program.
"""

import os
import random
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings

from helpers import kernel, load
from helpers.btf import Array, Bits, Bytes, Layout, Record, Scalar, Text, WideInt
from helpers.libbpf import lib
from helpers.maps import BpfMap
from tests.ctypes_of import PRELUDE, odd_structs
from tests.faults import Part
from tests.unit.test_frame_is_bpftool import compare

TYPES = 100  # a round, in one object
NOT_FOR_BPFTOOL = re.compile(r"\b(float|double)\b")
MAP = """\
struct v{0} {1};
struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, __u32);
__type(value, struct v{0}); }} m{0} SEC(".maps");
"""
# The program reads values and prints a line for each number, in hex, and for each run of bytes.
NATIVE = """\
#include <stdio.h>
#include <string.h>
static void whole(__int128 n)
{
	printf("%016llx%016llx\\n", (unsigned long long)(n >> 64), (unsigned long long)n);
}
static void bytes(const void *at, size_t size)
{
	for (size_t i = 0; i < size; i++)
		printf("%02x", ((const unsigned char *)at)[i]);
	puts("");
}
"""


def one(number: int) -> None:
    """A hundred types in an object: two values of each, read in three ways."""
    rng, types = random.Random(number), list(enumerate(bodies(number)))
    text = PRELUDE + "".join(MAP.format(i, body) for i, body in types)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, XDG_CACHE_HOME=folder),  # nobody needs these objects again
        load(text=text) as prog,
    ):
        maps = [prog[f"m{i}"] for i, _ in types]
        for it in maps:
            for key in range(2):
                value = rng.choice([rng.randbytes, bytes, printable(rng)])(it.value.size)
                assert not lib().bpf_map_update_elem(it.fd, key.to_bytes(4, "little"), value, 0)
        for (_, body), it in zip(types, maps, strict=True):
            if not NOT_FOR_BPFTOOL.search(body):
                compare(it)
            same_by_column(it)
        same_as_native(types, maps, Path(folder))


def bodies(number: int) -> list[str]:
    """The structs of a round."""
    found = list[str]()

    @seed(number)
    @settings(
        max_examples=TYPES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(odd_structs())
    def collect(body: str) -> None:
        found.append(body)

    collect()
    return found[:TYPES]


def printable(rng: random.Random) -> Any:
    return lambda size: bytes(rng.choices(b'abcXYZ 019\0\\"<', k=size))


def same_by_column(it: BpfMap) -> None:
    """frame() is made of columns, and it[key] of one value: both say the same."""
    rows = it.frame().drop(columns="key").itertuples(index=False, name=None)
    for key, row in enumerate(rows):
        cut = [value for _, _, value in leaves(it.value, it[key], "")]
        found = [getattr(value, "item", lambda value=value: value)() for value in row]
        assert repr(found) == repr(cut), it  # by repr(), since no NaN is equal to another


def leaves(layout: Layout, value: Any, path: str) -> Iterator[tuple[str, Layout, Any]]:
    """The members that are no struct: C that names each, its layout, and its value."""
    if not isinstance(layout, Record):
        yield path, layout, value
        return
    left = iter(value)
    for member in layout.members:
        if member.name:
            yield from leaves(member.layout, next(left), f"{path}.{member.name}")
        elif isinstance(member.layout, Record):
            inner = [next(left) for _ in member.layout.names]
            yield from leaves(member.layout, inner, path)


def same_as_native(types: list[tuple[int, str]], maps: list[BpfMap], folder: Path) -> None:
    lines, expected, data = list[str](), list[tuple[str, object]](), b""
    for (i, _), it in zip(types, maps, strict=True):
        lines.append(f'_Static_assert(sizeof(struct v{i}) == {it.value.size}, "v{i}");')
        for key in range(2):
            lines.append(f"if (fread(&x{i}, sizeof(x{i}), 1, stdin) != 1) return 1;")
            for path, layout, value in leaves(it.value, it[key], f"x{i}"):
                for line, wanted in printed(path, layout, value):
                    lines.append(line)
                    expected += [(path, one) for one in wanted]
        data += it.raw()[1].tobytes()
    text = PRELUDE.replace("#include <bpf/bpf_helpers.h>", NATIVE)
    text += "".join(f"struct v{i} {body}; static struct v{i} x{i};\n" for i, body in types)
    text += "int main(void)\n{\n" + "\n".join(lines) + "\n}\n"
    (folder / "native.c").write_text(text)
    command = [kernel.clang(), "-w", "-o", folder / "native", folder / "native.c"]
    subprocess.run(command, check=True)
    done = subprocess.run([folder / "native"], input=data, capture_output=True, check=True)
    said = done.stdout.decode().splitlines()
    for (path, wanted), shown in zip(expected, said, strict=True):
        assert wanted == shown, (path, wanted, shown)


def printed(path: str, layout: Layout, value: Any) -> Iterator[tuple[str, list[str]]]:
    """C that prints a member, and the lines that it has to print if the value is right."""
    if isinstance(layout, Record):
        for inner, what, its in leaves(layout, value, path):
            yield from printed(inner, what, its)
    elif isinstance(layout, Array):
        assert len(value) == layout.count
        for i, its in enumerate(value):
            yield from printed(f"{path}[{i}]", layout.element, its)
    elif isinstance(layout, Text):
        raw = value.encode() if isinstance(value, str) else value
        yield f"bytes({path}, strnlen({path}, {layout.size}));", [raw.hex()]
    elif isinstance(layout, Bytes):
        yield f"bytes({path}, {layout.size});", [value.hex()]
    elif isinstance(layout, Scalar) and layout.code == "?":  # any byte but zero is true, to us
        yield f"whole(*(unsigned char *)&{path} != 0);", [f"{value:032x}"]
    elif isinstance(layout, Scalar) and layout.code in "fd":
        # As a double, which makes a quiet NaN of a signalling one, in C as in Python.
        yield f"bytes(&(double){{{path}}}, 8);", [struct.pack("<d", value).hex()]
    elif layout.ctype == "void *":
        yield f"whole((unsigned long){path});", [f"{value:032x}"]
    else:
        assert isinstance(layout, Scalar | WideInt | Bits)
        yield f"whole({path});", [f"{value & (1 << 128) - 1:032x}"]


PART = Part(one, rounds=100, short=1, unit=f"{TYPES} C types, compiled, filled and read", at_once=2)
