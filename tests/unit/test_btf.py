"""Layouts: C types to Python values and back, checked through a map in the kernel."""

import gc
import os
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import load
from helpers.btf import Bits, Layout, Text, Types, plain
from helpers.errors import LayoutError, Unsupported
from tests.ctypes_of import PRELUDE, structs

MAP = """
struct {{ __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 8);
__type(key, {key}); __type(value, {value}); }} it SEC(".maps");
"""


def layout(declarations: str, value: str, key: str = "__u32") -> Layout:
    """The layout that the kernel gives back for a C type; the map is closed again."""
    with load(text=PRELUDE + declarations + MAP.format(key=key, value=value)) as prog:
        return prog["it"].value if key == "__u32" else prog["it"].key


@pytest.mark.parametrize(
    ("ctype", "low", "high"),
    [(f"__{s}{b}", -(1 << (b - 1)) if s == "s" else 0, 0) for s in "us" for b in (8, 16, 32, 64)],
)
def test_integers_keep_their_width_and_sign(ctype: str, low: int, high: int) -> None:
    one = layout("", ctype)
    high = low + (1 << 8 * one.size) - 1
    for number in (low, 0, 1, high):
        assert one.decode(one.encode(number)) == number
    for number in (low - 1, high + 1, "x", None, 1.5):
        with pytest.raises(LayoutError, match="an integer from"):
            one.encode(number)


def test_an_address_in_writing_is_its_number() -> None:
    assert layout("", "__u32").encode("10.0.0.1") == struct.pack("<I", 0x0A000001)
    with pytest.raises(LayoutError, match=r"'10\.0\.0' does not fit"):
        layout("", "__u32").encode("10.0.0")


def test_struct_is_a_namedtuple_with_its_padding_known() -> None:
    point = layout("struct point { __u8 x; __u32 y; __u16 z; };", "struct point")
    assert (point.ctype, point.size) == ("struct point", 12)
    assert point.fields == [("x", 0, 1), ("y", 4, 4), ("z", 8, 2)]
    assert point.padding == [(1, 3), (10, 2)]
    value = point.decode(bytes([1, 9, 9, 9, 2, 0, 0, 0, 3, 0, 9, 9]))
    assert value == (1, 2, 3)
    assert value._fields == ("x", "y", "z")
    for same in ((1, 2, 3), [1, 2, 3], {"z": 3, "y": 2, "x": 1}, value):
        assert point.encode(same) == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])
    assert point.dtype.names == ("x", "y", "z")
    assert point.dtype.itemsize == 12


def test_a_wrong_field_is_named() -> None:
    point = layout("struct point { __u8 x; struct { __u16 y; } in; };", "struct point")
    with pytest.raises(LayoutError, match=r"70000 does not fit in\.y \(__u16\)"):
        point.encode((1, (70000,)))
    with pytest.raises(LayoutError, match="needs the field 'in'"):
        point.encode({"x": 1})
    with pytest.raises(LayoutError, match="has no field 'w'"):
        point.encode({"x": 1, "in": (2,), "w": 3})
    with pytest.raises(LayoutError, match="the fields x, in"):
        point.encode((1, 2, 3))
    with pytest.raises(LayoutError, match="an integer from 0 to 255"):
        point.encode(("1", (2,)))


def test_char_array_is_text_and_other_bytes_are_bytes() -> None:
    both = layout("struct both { char name[8]; __u8 raw[4]; };", "struct both")
    value = both.decode(b"curl\0\0xx\1\2\3\4")
    assert value == ("curl", b"\1\2\3\4")
    assert both.encode(("curl", b"\1\2\3\4")) == b"curl\0\0\0\0\1\2\3\4"
    assert both.decode(b"\xff\xfe\0\0\0\0\0\0\1\2\3\4").name == b"\xff\xfe"
    with pytest.raises(LayoutError, match="at most 8 bytes"):
        both.encode(("much too long", b"\1\2\3\4"))
    with pytest.raises(LayoutError, match="exactly 4 bytes"):
        both.encode(("curl", b"\1"))


def test_a_text_key_keeps_the_bytes_behind_its_nul() -> None:
    key = Text(8, whole=True)
    for raw in (b"ab\0cd\0\0\0", b"ab\0\0\0\0\0\0", b"\0\0\0\0\0\0\0x", b"\xff\0\1\0\0\0\0\0"):
        assert key.encode(key.decode(raw)) == raw


def test_anonymous_members_belong_to_the_struct_around() -> None:
    mixed = layout(
        "struct mixed { __u32 a; struct { __u16 b; __u16 c; }; union { __u32 d; __u8 e[4]; }; };",
        "struct mixed",
    )
    value = mixed.decode(struct.pack("<IHHI", 1, 2, 3, 0x01020304))
    assert value == (1, 2, 3, 0x01020304, b"\4\3\2\1")
    assert mixed.encode(value) == struct.pack("<IHHI", 1, 2, 3, 0x01020304)
    one = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert mixed.decode(mixed.encode(one))[:4] == (1, 2, 3, 4)
    with pytest.raises(LayoutError, match="disagree"):
        mixed.encode((1, 2, 3, 4, b"abcd"))
    with pytest.raises(LayoutError, match="needs one of d, e"):
        mixed.encode({"a": 1, "b": 2, "c": 3})


def test_bitfields_keep_to_their_bits() -> None:
    flags = layout("struct flags { __u32 a:3, b:10; __s32 c:5; __u64 d:50; };", "struct flags")
    assert flags.encode((7, 0, 0, 0))[0] == 7
    value = (5, 1000, -16, (1 << 50) - 1)
    assert flags.decode(flags.encode(value)) == value
    table = np.frombuffer(flags.encode(value) * 2, "u1").reshape(2, flags.size)
    assert {name: column.tolist() for name, column in flags.columns(table, 0, "")} == {
        name: [number] * 2 for name, number in zip("abcd", value, strict=True)
    }
    with pytest.raises(LayoutError, match="from -16 to 15"):
        flags.encode((0, 0, 16, 0))


def test_a_bitfield_may_straddle_nine_bytes() -> None:
    bits = Bits("__u64", 7, 64, signed=False)
    buffer = bytearray(9)
    bits.write(buffer, 0, 0xFEDCBA9876543210, "")
    table = np.frombuffer(bytes(buffer), "u1").reshape(1, 9)
    assert bits.decode(bytes(buffer)) == 0xFEDCBA9876543210
    assert next(bits.columns(table, 0, "x"))[1].tolist() == [0xFEDCBA9876543210]


def test_arrays_of_structs_and_of_arrays() -> None:
    grid = layout(
        "struct cell { __u8 a; __u16 b; }; struct grid { struct cell cells[2]; __s16 m[2][3]; };",
        "struct grid",
    )
    value = (((1, 2), (3, 4)), ((1, 2, 3), (-4, -5, -6)))
    assert grid.decode(grid.encode(value)) == value
    assert grid.fields[1] == ("m", 8, 12)
    assert grid.padding == [(1, 1), (5, 1)]
    with pytest.raises(LayoutError, match=r"(?s)fit cells .*2 values, not 1"):
        grid.encode((((1, 2),), value[1]))


def test_wide_and_odd_scalars() -> None:
    odd = layout(
        "struct odd { unsigned __int128 wide; enum color hue; _Bool yes; void *at; };", "struct odd"
    )
    value = (1 << 127, 7, True, 0xFFFF888000000000)
    assert odd.decode(odd.encode(value)) == value


def test_an_enum_with_a_negative_member_is_signed() -> None:
    assert layout("enum e { LOST = -1, FOUND };", "enum e").encode(-1) == b"\xff" * 4


@pytest.mark.parametrize(("low", "value"), [(0, 1 << 63), (-1, -(1 << 40)), (-1, 1 << 40)])
def test_an_enum_has_8_bytes_where_a_member_needs_them(low: int, value: int) -> None:
    """A kind of its own in the BTF of clang 15 and later; tests/fresh has one of those."""
    found = layout(f"enum e {{ LOW = {low}, HIGH = 1ll << 40 }};", "enum e")
    assert found.size == 8 and found.decode(found.encode(value)) == value


def test_a_big_struct() -> None:
    fields = " ".join(f"__u64 f{i};" for i in range(500))
    big = layout(f"struct big {{ {fields} }};", "struct big")
    value = tuple(range(500))
    assert big.size == 4000
    assert big.decode(big.encode(value)) == value


def test_bytes_without_a_type_are_a_number_or_bytes() -> None:
    assert plain(4).decode(b"\1\0\0\0") == 1
    assert plain(3).decode(b"\1\0\0") == b"\1\0\0"


@given(structs(), st.binary(min_size=4096, max_size=4096))
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_what_is_decoded_encodes_to_the_same_value(body: str, noise: bytes) -> None:
    one = layout(f"struct value {body};", "struct value")
    value = one.decode(noise)
    assert normal(one.decode(one.encode(value))) == normal(value)


def normal(value: Any) -> Any:
    # Two readings of one union differ in padding that an inner struct does not write.
    return tuple(map(normal, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("cut", [0, 3, 24, 40, 100])
def test_damaged_type_information_is_refused(cut: int) -> None:
    good = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 200, 200, 8) + bytes(208)
    with pytest.raises(Unsupported, match="damaged"):
        Types(good[:cut])


def test_a_type_with_members_without_number_is_refused() -> None:
    """Each struct holds the one before twice: the kernel takes it, for they have no bytes."""
    doubled = "".join(f"struct s{i} {{ struct s{i - 1} a, b; }};" for i in range(1, 17))
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsupported, match="more than 16,384 members"):
        layout(
            f"struct s0 {{}}; {doubled} struct value {{ __u32 n; struct s16 s; }};", "struct value"
        )
    gc.collect()  # what the error's frames hold
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_member_outside_of_its_struct_is_refused() -> None:
    strings = b"\0s\0"
    types = struct.pack("<6I", 1, 4 << 24 | 1, 4, 0, 2, 8) + struct.pack("<4I", 1, 1 << 24, 4, 32)
    raw = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    with pytest.raises(Unsupported, match="lies outside of struct s"):
        Types(raw + types + strings).layout(1)


def test_a_type_without_a_size_is_refused() -> None:
    raw = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"
    with pytest.raises(Unsupported, match="void has no size"):
        Types(raw).layout(0)
