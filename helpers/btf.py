"""From the kernel's type information (BTF) to Python values, bytes and NumPy columns.

A map that was loaded with BTF knows the C types of its key and value. ``Types(raw).layout(id)``
turns one of them into a ``Layout``, which decodes bytes to Python, encodes Python to bytes, and
cuts whole tables of bytes into columns. Byte order is little-endian, as on x86-64 and arm64.

C to Python: integers, enums and pointers are int, ``bool`` is bool, ``char[]`` is str, other byte
arrays are bytes, arrays are tuples, structs and unions are namedtuples (a union shows every
member's reading of the same bytes).

Source: Documentation/bpf/btf.rst.
"""

import ctypes
import ipaddress
import struct
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from helpers.diagnostics import printable
from helpers.errors import LayoutError, Unsupported
from helpers.libbpf import lib

Column = tuple[str, np.ndarray]
Buffer = bytearray | memoryview
Take = Callable[[str], np.ndarray]  # a column by its name

_INT_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}
_INT_CODES |= {(size, True): code.lower() for (size, _), code in _INT_CODES.items()}


class Layout:
    """How one C type lies in memory. ``ctype`` is its C spelling, ``size`` its bytes."""

    ctype: str
    size: int
    code = ""  # the struct-module letter of a plain scalar

    def decode(self, data: bytes, offset: int = 0) -> Any:
        """Read one Python value out of ``data`` at ``offset`` (bytes)."""
        raise NotImplementedError

    def encode(self, value: Any) -> bytes:
        """Give the ``size`` bytes of ``value``; padding is zero.

        Raises:
            LayoutError: wrong type, out of range, wrong length, a field missing or unknown.
        """
        buffer = bytearray(self.size)
        self.write(buffer, 0, value, "")
        return bytes(buffer)

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        """Encode ``value`` into ``buffer`` at ``offset``; ``path`` names it in errors."""
        raise NotImplementedError

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        """Cut columns out of ``table``: uint8, one row an entry. Default: one, decoded by row.

        A column may be a view of the table: ``gather()`` copies it.
        """
        rows = table[:, offset : offset + self.size]
        column = np.empty(len(rows), dtype=object)
        for i, row in enumerate(rows):
            column[i] = self.decode(row.tobytes())
        yield name, column

    def fill(self, table: np.ndarray, offset: int, name: str, column: Take) -> None:
        """The inverse of ``columns()``: write the columns that ``column(name)`` gives into
        ``table``, whole rows of zeros. Default: one, encoded by row.

        Raises:
            LayoutError: what a row holds does not fit; it names the row.
        """
        buffer, width = table.reshape(-1).data, table.shape[1]
        for i, value in enumerate(column(name).tolist()):
            self.write(buffer, i * width + offset, value, _of_row(name, i))

    @property
    def fields(self) -> list[tuple[str, int, int]]:
        """Name, offset and size (bytes) of each member; one unnamed entry for a scalar."""
        return [(self.ctype, 0, self.size)]

    @property
    def padding(self) -> list[tuple[int, int]]:
        """Offset and size (bytes) of the gaps that belong to no member."""
        return []

    @property
    def name(self) -> str:
        return self.ctype

    @property
    def shape(self) -> str:
        """The type in full, for messages: with all its members and where they lie."""
        return f"{self!r}"

    def matches(self, other: "Layout") -> bool:
        """Do both mean the same by the same bytes? What a type is called does not count."""
        if self.code or other.code:
            return self.dtype == other.dtype
        alike = type(self) is type(other) and self.dtype == other.dtype
        return alike and (self.fields == other.fields or not isinstance(self, Record))

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype of one value; opaque bytes where NumPy has no such type."""
        return np.dtype(f"V{self.size}") if self.size else np.dtype([])

    def __repr__(self) -> str:
        return printable(f"{self.ctype} ({self.size} bytes)")


def _cut(table: np.ndarray, offset: int, dtype: Any, count: int = 1) -> np.ndarray:
    """A view of ``count`` neighbours of one dtype in every row, as a table of their own."""
    dtype = np.dtype(dtype)
    return table[:, offset : offset + count * dtype.itemsize].view(dtype)


class Scalar(Layout):
    """An integer of 1, 2, 4 or 8 bytes, an enum, a pointer, a float or a bool."""

    def __init__(self, ctype: str, code: str) -> None:
        self.ctype, self.code = ctype, code
        self._struct = struct.Struct("<" + code)
        self.size = self._struct.size

    def decode(self, data: bytes, offset: int = 0) -> Any:
        return self._struct.unpack_from(data, offset)[0]

    def encode(self, value: Any) -> bytes:
        try:
            return self._struct.pack(value)
        except (struct.error, TypeError):
            return super().encode(value)

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        try:
            self._struct.pack_into(buffer, offset, self._number(value))
        except (struct.error, OverflowError, TypeError):  # a NumPy array is no index, says the last
            raise _misfit(path, self.ctype, value, self._range()) from None

    def _number(self, value: Any) -> Any:
        # An IPv4 address in writing stands for its number: 10.0.0.1 is 0x0a000001.
        if isinstance(value, str) and self.code == "I":
            try:
                return int(ipaddress.IPv4Address(value))
            except ValueError:
                return value
        return value

    def _range(self) -> str:
        if self.code in "efd?":
            return "a number"
        low = -(1 << (8 * self.size - 1)) if self.code in "bhiq" else 0
        return f"an integer from {low} to {low + (1 << 8 * self.size) - 1}"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<" + self.code) if self.code != "?" else np.dtype("?")

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        if self.code == "?":  # any byte but zero is true
            yield name, table[:, offset] != 0
        else:
            yield name, _cut(table, offset, self.dtype)[:, 0]

    def fill(self, table: np.ndarray, offset: int, name: str, column: Take) -> None:
        values, whole = column(name), self.code not in "efd"
        if values.dtype.kind not in "biuf" or self.code == "?":
            return super().fill(table, offset, name, column)
        if values.dtype.kind == "f" and whole and len(values):
            i = int(np.isnan(values).argmax())  # a missing value, or the first row
            raise _misfit(_of_row(name, i), self.ctype, values[i].item(), self._range())
        if values.dtype.kind in "iu" and whole:
            ends = np.iinfo(self.dtype)
            # Python's integers compare with a column of any width.
            wrong = (values < ends.min) | (values > ends.max)
            if wrong.any():
                i = int(wrong.argmax())
                raise _misfit(_of_row(name, i), self.ctype, values[i].item(), self._range())
        _cut(table, offset, self.dtype)[:, 0] = values
        return None


class WideInt(Layout):
    """An integer of 16 bytes: Python's int, an object column in NumPy."""

    def __init__(self, ctype: str, size: int, signed: bool) -> None:
        self.ctype, self.size, self.signed = ctype, size, signed

    def decode(self, data: bytes, offset: int = 0) -> int:
        return int.from_bytes(data[offset : offset + self.size], "little", signed=self.signed)

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        try:
            raw = value.__index__().to_bytes(self.size, "little", signed=self.signed)
        except (AttributeError, OverflowError, TypeError):
            raise _misfit(path, self.ctype, value, f"an integer of {8 * self.size} bits") from None
        buffer[offset : offset + self.size] = raw


class Text(Layout):
    """``char[n]``: a str up to its first NUL. Bytes that are not UTF-8 stay bytes.

    When something other than zeros follows the NUL, as a key may hold, all of it is kept: two
    keys that differ there are two keys.
    """

    def __init__(self, size: int, *, whole: bool = False) -> None:
        self.ctype, self.size, self.whole = f"char[{size}]", size, whole

    def decode(self, data: bytes, offset: int = 0) -> str | bytes:
        return self.text(bytes(data[offset : offset + self.size]))

    def text(self, raw: bytes) -> str | bytes:
        """What all the bytes of such an array, or of a longer one, say."""
        raw = raw.rstrip(b"\0") if self.whole else raw.partition(b"\0")[0]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        try:
            raw = value.encode() if isinstance(value, str) else value
        except UnicodeEncodeError:  # half of a character
            raw = None
        if not isinstance(raw, bytes | bytearray) or len(raw) > self.size:
            raise _misfit(path, self.ctype, value, f"text of at most {self.size} bytes in UTF-8")
        buffer[offset : offset + len(raw)] = raw

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"S{self.size}") if self.size else super().dtype

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        if not self.size:
            yield from super().columns(table, offset, name)
            return
        raw = _cut(table, offset, self.dtype)[:, 0].tolist()  # NumPy strips the trailing NULs
        column = np.empty(len(raw), dtype=object)
        column[:] = [self.text(one) for one in raw]
        yield name, column


class Bytes(Layout):
    """An array of unsigned or signed bytes, or a type that nobody described: bytes."""

    def __init__(self, size: int, ctype: str = "") -> None:
        self.ctype, self.size = ctype or f"bytes[{size}]", size

    def decode(self, data: bytes, offset: int = 0) -> bytes:
        return bytes(data[offset : offset + self.size])

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        if not isinstance(value, bytes | bytearray | memoryview) or len(value) != self.size:
            raise _misfit(path, self.ctype, value, f"exactly {self.size} bytes")
        buffer[offset : offset + self.size] = value


class Array(Layout):
    """``type[n]`` of anything but bytes: a tuple."""

    def __init__(self, element: Layout, count: int) -> None:
        self.element, self.count = element, count
        self.size = element.size * count
        base, bracket, rest = element.ctype.partition("[")
        self.ctype = f"{base}[{count}]{bracket}{rest}"
        self._struct = struct.Struct(f"<{count}{element.code}") if element.code else None

    def decode(self, data: bytes, offset: int = 0) -> tuple[Any, ...]:
        if self._struct:
            return self._struct.unpack_from(data, offset)
        step, element = self.element.size, self.element
        return tuple(element.decode(data, offset + i * step) for i in range(self.count))

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
            raise _misfit(path, self.ctype, value, f"a sequence of {self.count} values")
        if len(value) != self.count:
            raise _misfit(path, self.ctype, value, f"{self.count} values, not {len(value)}")
        for i, item in enumerate(value):
            self.element.write(buffer, offset + i * self.element.size, item, f"{path}[{i}]")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype((self.element.dtype, (self.count,)))

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        if not self._struct or self.element.code == "?" or not self.count:
            yield from super().columns(table, offset, name)
            return
        rows = _cut(table, offset, self.element.dtype, self.count).tolist()
        column = np.empty(len(rows), dtype=object)
        column[:] = list(map(tuple, rows))
        yield name, column


class Bits(Layout):
    """A bitfield: ``width`` bits, from bit ``start`` of its struct."""

    def __init__(self, ctype: str, start: int, width: int, signed: bool) -> None:
        self.ctype, self.start, self.width, self.signed = f"{ctype}:{width}", start, width, signed
        self._shift = start % 8
        self.size = (self._shift + width + 7) // 8  # the bytes it touches, shared with neighbours

    def decode(self, data: bytes, offset: int = 0) -> int:
        whole = int.from_bytes(data[offset : offset + self.size], "little") >> self._shift
        number = whole & ((1 << self.width) - 1)
        return number - (1 << self.width) if self.signed and number >> (self.width - 1) else number

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        low = -(1 << (self.width - 1)) if self.signed else 0
        high = low + (1 << self.width) - 1
        try:
            number = value.__index__()
        except (AttributeError, TypeError):
            number = None
        if number is None or not low <= number <= high:
            raise _misfit(path, self.ctype, value, f"an integer from {low} to {high}")
        mask = ((1 << self.width) - 1) << self._shift
        whole = int.from_bytes(buffer[offset : offset + self.size], "little") & ~mask
        whole |= (number << self._shift) & mask
        buffer[offset : offset + self.size] = whole.to_bytes(self.size, "little")

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        # Up to 64 bits that may straddle nine bytes: gather them, then shift the sign into place.
        low = np.zeros(len(table), dtype="<u8")
        for i in range(min(self.size, 8)):
            low |= table[:, offset + i].astype("<u8") << np.uint64(8 * i)
        low >>= np.uint64(self._shift)
        if self.size == 9:
            low |= table[:, offset + 8].astype("<u8") << np.uint64(64 - self._shift)
        spare = np.uint64(64 - self.width)
        low <<= spare
        yield name, (low.view("<i8") >> spare.view("<i8") if self.signed else low >> spare)


class Member:
    """One member of a struct or union; ``name`` is empty for an anonymous struct or union."""

    def __init__(self, name: str, offset: int, layout: Layout) -> None:
        self.name, self.offset, self.layout = name, offset, layout


class Record(Layout):
    """A struct or union: a namedtuple. Members of anonymous ones inside belong to it, as in C.

    ``encode`` takes a tuple of all fields in order, or a dict of them by name. Of a union, a dict
    gives the members that it wants to set.
    """

    def __init__(self, ctype: str, size: int, members: list[Member], *, union: bool) -> None:
        self.ctype, self.size, self.members, self.union = ctype, size, members, union
        self.names: list[str] = []
        for member in members:
            inner = member.layout
            self.names += [member.name] if member.name else getattr(inner, "names", [])
        short = ctype.split()[-1].lstrip(".")  # .bss is bss
        self._title = short if short.isidentifier() else "anon"
        self._struct = self._flat()

    @cached_property
    def type(self) -> Any:
        """The namedtuple of a value; making one takes a while, and most layouts never need it.

        A C name that namedtuple refuses (a keyword, a leading _) becomes its position: _0, _1.
        """
        return namedtuple(self._title, self.names, rename=True)

    def _flat(self) -> struct.Struct | None:
        """One struct.Struct for the whole record, when it is scalars and gaps and no more."""
        code, at = "<", 0
        for m in self.members:
            if not (m.name and m.layout.code) or m.offset < at:
                return None
            code += f"{m.offset - at}x{m.layout.code}"
            at = m.offset + m.layout.size
        return struct.Struct(code + f"{self.size - at}x")

    def decode(self, data: bytes, offset: int = 0) -> Any:
        if self._struct:
            return self.type._make(self._struct.unpack_from(data, offset))
        return self.type._make(self._values(data, offset))

    def _values(self, data: bytes, offset: int) -> Iterator[Any]:
        for m in self.members:
            if m.name:
                yield m.layout.decode(data, offset + m.offset)
            elif isinstance(m.layout, Record):
                yield from m.layout._values(data, offset + m.offset)

    def encode(self, value: Any) -> bytes:
        if self._struct and isinstance(value, tuple):
            try:
                return self._struct.pack(*value)
            except struct.error:
                pass  # the slow way below finds the field to name
        return super().encode(value)

    def write(self, buffer: Buffer, offset: int, value: Any, path: str) -> None:
        if isinstance(value, Mapping):
            given = dict(value)
        elif isinstance(value, tuple | list) and len(value) == len(self.names):
            given = dict(zip(self.names, value, strict=True))
        else:
            raise _misfit(path, self.ctype, value, f"the fields {', '.join(self.names)}")
        unknown = [name for name in given if name not in self.names]
        if unknown:
            raise LayoutError(
                f"{self.ctype} has no field {unknown[0]!r}.\nIts fields: {', '.join(self.names)}."
            )
        self._write_fields(buffer, offset, given, path)

    def _write_fields(self, buffer: Buffer, offset: int, given: dict[str, Any], path: str) -> None:
        """Write those fields of ``given`` that are ours; an outer record may own the others."""
        wrote = False
        for m in self.members:
            at = offset + m.offset
            if not m.name and isinstance(m.layout, Record):
                inner = {n: given[n] for n in m.layout.names if n in given}
                if inner or not (self.union or not m.layout.names):
                    m.layout._write_fields(buffer, at, inner, path)
                    wrote = True
            elif m.name in given:
                m.layout.write(buffer, at, given[m.name], f"{path}.{m.name}" if path else m.name)
                wrote = True
            elif not self.union and m.name:
                raise LayoutError(
                    f"{self.ctype} needs the field {m.name!r} ({m.layout.ctype}), which is missing."
                    f"\nIts fields: {', '.join(self.names)}."
                )
        if self.union:
            if not wrote and self.names:
                raise LayoutError(f"{self.ctype} needs one of {', '.join(self.names)}.")
            self._agree(buffer, offset, given)

    def _agree(self, buffer: Buffer, offset: int, given: dict[str, Any]) -> None:
        """Members of a union share their bytes: two that were both given must say the same."""
        mine = bytes(buffer[offset : offset + self.size])
        found = dict(zip(self.names, self._values(mine, 0), strict=True))
        for name in self.names:
            if isinstance(given.get(name), Mapping):
                continue  # its own write() checked it
            if name in given and found[name] != given[name]:
                raise LayoutError(
                    f"{self.ctype} holds its members in the same bytes, and those given disagree "
                    f"about {name!r}: {given[name]!r} was overwritten by {found[name]!r}.\n"
                    "Give one member, as a dict."
                )

    @property
    def shape(self) -> str:
        inner = ", ".join(f"{m.layout.ctype} {m.name} at {m.offset}" for m in self.members)
        return f"{self!r}: {inner}"

    @property
    def dtype(self) -> np.dtype:
        named = [m for m in self.members if m.name and not isinstance(m.layout, Bits)]
        return np.dtype(
            {
                "names": [m.name for m in named],
                "formats": [m.layout.dtype for m in named],
                "offsets": [m.offset for m in named],
                "itemsize": self.size,
            }
        )

    def columns(self, table: np.ndarray, offset: int, name: str) -> Iterator[Column]:
        for m in self.members:
            inner = f"{name}.{m.name}" if name and m.name else name or m.name
            yield from m.layout.columns(table, offset + m.offset, inner)

    def fill(self, table: np.ndarray, offset: int, name: str, column: Take) -> None:
        for m in self.members:
            inner = f"{name}.{m.name}" if name and m.name else name or m.name
            m.layout.fill(table, offset + m.offset, inner, column)
        if not self.union:
            return
        # Its members share their bytes: what was written must be what all of them say.
        for title, found in self.columns(table, offset, name):
            wrong = [a != b for a, b in zip(found.tolist(), column(title).tolist(), strict=True)]
            if any(wrong):
                raise LayoutError(
                    f"{self.ctype} holds its members in the same bytes, and those of row "
                    f"{wrong.index(True)} disagree about {title!r}."
                )

    @property
    def fields(self) -> list[tuple[str, int, int]]:
        return [(m.name or m.layout.ctype, m.offset, m.layout.size) for m in self.members]

    @cached_property
    def _gaps(self) -> list[tuple[int, int]]:
        used = bytearray(self.size)
        self._mark(used, 0)
        gaps, start = [], None
        for i, byte in enumerate([*used, 1]):
            if not byte and start is None:
                start = i
            elif byte and start is not None:
                gaps.append((start, i - start))
                start = None
        return gaps

    def _mark(self, used: bytearray, offset: int) -> None:
        for m in self.members:
            _mark(m.layout, used, offset + m.offset)

    @property
    def padding(self) -> list[tuple[int, int]]:
        return self._gaps


def _mark(layout: Layout, used: bytearray, offset: int) -> None:
    """Set a 1 for every byte that holds data of ``layout``; padding of inner records stays 0."""
    if isinstance(layout, Record):
        layout._mark(used, offset)
    elif isinstance(layout, Array):
        for i in range(layout.count):
            _mark(layout.element, used, offset + i * layout.element.size)
    else:
        used[offset : offset + layout.size] = b"\1" * layout.size


def _of_row(name: str, row: int) -> str:
    return f"{name} of row {row}" if name else f"row {row}"


def _misfit(path: str, ctype: str, value: Any, wanted: str) -> LayoutError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    where = f"{path} ({ctype})" if path else ctype
    return LayoutError(f"{shown} does not fit {where}.\nIt takes {wanted}.")


def gather(tables: Iterable[Mapping[str, np.ndarray]], room: int) -> dict[str, np.ndarray]:
    """The columns of many small tables, one below the other, copied.

    A small table is cut into columns while the CPU's cache holds it, so that all of them together
    are read from memory once. ``room`` is how many rows there may be, if one table is not all:
    memory that is asked for and not touched costs nothing. There can be more.
    """
    columns: dict[str, np.ndarray] = {}
    at = 0
    for table in tables:
        end = at + len(next(iter(table.values())))
        for name, part in table.items():
            column = columns.get(name)
            if column is None or end > len(column):
                columns[name] = np.empty(max(room, 2 * end) if at else end, part.dtype)
                if column is not None:
                    columns[name][:at] = column[:at]
            columns[name][at:end] = part
        at = end
    return {name: column[:at] for name, column in columns.items()}


def plain(size: int) -> Layout:
    """The layout of ``size`` bytes without a type: an unsigned integer if it can be one."""
    code = _INT_CODES.get((size, False))
    return Scalar(f"u{8 * size}", code) if code else Bytes(size)


def _record(ctype: str, size: int, members: list[Member], *, union: bool) -> Record:
    for m in members:
        if m.offset + m.layout.size > size:
            raise ValueError(f"{m.name} lies outside of {ctype}")
    names = [m.name for m in members if m.name]
    if len(names) > len({*names}):
        raise ValueError(f"two members of {ctype} have the same name")
    return Record(ctype, size, members, union=union)


_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
(
    _INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT,
    _FUNC, _PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64,
) = range(1, 20)  # fmt: skip
_MOST_MEMBERS = 1 << 14
_TAIL: dict[int, Callable[[int], int]] = {  # bytes that follow a type, by its kind
    _INT: lambda n: 4,
    _ARRAY: lambda n: 12,
    _STRUCT: lambda n: 12 * n,
    _UNION: lambda n: 12 * n,
    _ENUM: lambda n: 8 * n,
    _PROTO: lambda n: 8 * n,
    _VAR: lambda n: 4,
    _DATASEC: lambda n: 12 * n,
    _DECL_TAG: lambda n: 4,
    _ENUM64: lambda n: 12 * n,
}


def raw(btf_id: int) -> bytes | None:
    """The BTF that the kernel holds under an id; None when it holds none there, or won't tell."""
    btf = lib().btf__load_from_kernel_by_id(btf_id)
    if not btf:
        return None
    found = _bytes_at(btf)
    lib().btf__free(btf)
    return found


def _bytes_at(btf: int) -> bytes:
    size = ctypes.c_uint32()
    return ctypes.string_at(lib().btf__raw_data(btf, ctypes.byref(size)), size.value)


class Types:
    """A BTF blob, parsed: type ids to layouts."""

    def __init__(self, raw: bytes) -> None:
        try:
            self._parse(raw)
        except (struct.error, IndexError, ValueError) as error:
            raise Unsupported(
                "type information (BTF) that is whole", f"a damaged one: {error}", "Compile again."
            ) from None

    @classmethod
    def of(cls, btf_id: int) -> "Types | None":
        """The types that the kernel holds under an id; None when it holds none there."""
        found = raw(btf_id) if btf_id else None
        return None if found is None else cls(found)

    @classmethod
    def at(cls, btf: int) -> "Types":
        """The types of libbpf's ``struct btf`` at an address."""
        return cls(_bytes_at(btf))

    def find(self, name: str) -> Layout | None:
        """The layout of the struct or union of that name; None when there is none."""
        for number, (kind, _, _, _, title, _) in enumerate(self._types):
            if kind in (_STRUCT, _UNION) and title == name:
                return self.layout(number)
        return None

    def _parse(self, raw: bytes) -> None:
        magic, _, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if magic != 0xEB9F:
            raise ValueError(f"it begins with {magic:#06x}, not 0xeb9f")
        at, end = header + type_off, header + type_off + type_len
        start = header + str_off
        if max(end, start + str_len) > len(raw):
            raise ValueError(f"it ends after {len(raw)} bytes, before its own tables do")
        self._strings = raw[start : start + str_len]
        # One (kind, flag, vlen, size or type, name, tail offset) a type; id 0 is void.
        self._types: list[tuple[int, int, int, int, str, int]] = [(0, 0, 0, 0, "void", 0)]
        self._raw = raw
        while at < end:
            name, info, size = _TYPE.unpack_from(raw, at)
            kind, flag, vlen = info >> 24 & 0x1F, info >> 31, info & 0xFFFF
            if not 1 <= kind <= _ENUM64:
                raise ValueError(f"unknown kind of type {kind}")
            at += 12
            self._types.append((kind, flag, vlen, size, self._string(name), at))
            at += _TAIL.get(kind, lambda n: 0)(vlen)

    def _string(self, offset: int) -> str:
        end = self._strings.index(b"\0", offset)
        return self._strings[offset:end].decode(errors="replace")

    def layout(self, type_id: int, *, key: bool = False) -> Layout:
        """The layout of type ``type_id``; ``key`` keeps all bytes of char arrays.

        Raises:
            Unsupported: the type has no size in memory (void, a function), or the BTF is damaged.
        """
        self._members = 0
        try:
            return self._layout(type_id, key, 0)
        except (struct.error, LookupError, ValueError, RecursionError) as error:
            raise Unsupported(
                "a type that lies in memory", f"BTF type {type_id}: {error}", "Compile again."
            ) from None

    def _layout(self, type_id: int, key: bool, depth: int) -> Layout:
        kind, flag, vlen, size, name, at = self._types[type_id]
        if depth > 64:
            raise ValueError("types nest deeper than 64")
        deeper = depth + 1
        if kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG, _VAR):
            inner = self._layout(size, key, deeper)
            if kind == _TYPEDEF and isinstance(inner, Scalar | WideInt | Record):
                inner.ctype = name  # each call makes a new layout: it is ours to rename
            return inner
        if kind == _INT:
            encoding = int.from_bytes(self._raw[at : at + 4], "little") >> 24 & 0xF
            if encoding & 4:
                return Scalar(name, "?")
            code = _INT_CODES.get((size, bool(encoding & 1)))
            return Scalar(name, code) if code else WideInt(name, size, bool(encoding & 1))
        if kind in (_ENUM, _ENUM64):
            # clang before 15 does not say that an enum is signed; a negative member gives it away.
            below_zero = [self._raw[at + 8 * i + 7] & 0x80 for i in range(vlen) if kind == _ENUM]
            signed = bool(flag) or any(below_zero)
            return Scalar(f"enum {name}".strip(), _INT_CODES[size, signed])
        if kind == _PTR:
            return Scalar("void *", "Q")
        if kind == _FLOAT and size in (2, 4, 8):
            return Scalar(name, {2: "e", 4: "f", 8: "d"}[size])
        if kind == _FLOAT:
            return Bytes(size, name)
        if kind == _ARRAY:
            element, _, count = struct.unpack_from("<III", self._raw, at)
            return self._array(element, count, key, deeper)
        if kind in (_STRUCT, _UNION):
            what = "union" if kind == _UNION else "struct"
            members = [self._member(at + 12 * i, flag, key, deeper) for i in range(vlen)]
            spelled = f"{what} {name}" if name else f"{what} {{…}}"
            return _record(spelled, size, members, union=kind == _UNION)
        if kind == _DATASEC:
            members = []
            for i in range(vlen):
                var, offset, _ = struct.unpack_from("<III", self._raw, at + 12 * i)
                members.append(Member(self._types[var][4], offset, self._layout(var, key, deeper)))
            return _record(name, size, members, union=False)
        raise ValueError(f"{name or 'void'} has no size")

    def _array(self, element: int, count: int, key: bool, depth: int) -> Layout:
        inner = self._layout(element, key, depth)
        if isinstance(inner, Scalar) and inner.size == 1 and inner.code != "?":
            return Text(count, whole=key) if self._is_char(element) else Bytes(count)
        return Array(inner, count)

    def _is_char(self, type_id: int) -> bool:
        kind, _, _, size, name, _ = self._types[type_id]
        while kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG):
            kind, _, _, size, name, _ = self._types[size]
        return kind == _INT and name == "char"

    def _member(self, at: int, flag: int, key: bool, depth: int) -> Member:
        self._members += 1
        if self._members > _MOST_MEMBERS:  # thirty structs of two make a milliard
            raise ValueError(
                f"it has more than {_MOST_MEMBERS:,} members, with those of its members"
            )
        name, type_id, offset = struct.unpack_from("<III", self._raw, at)
        layout = self._layout(type_id, key, depth)
        width = offset >> 24 if flag else 0
        bit = offset & 0xFFFFFF if flag else offset
        if width:
            signed = layout.code in tuple("bhiq")
            bits = Bits(layout.ctype, bit, width, signed)
            return Member(self._string(name), bit // 8, bits)
        return Member(self._string(name), bit // 8, layout)
