"""Which line and column of the C each instruction came from.

An object has BTF line information. BCC keeps its object to itself, and says lines, without columns.

Source: Documentation/bpf/btf.rst, .BTF.ext; elf(5).
"""

import contextlib
import re
import struct
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

_INSTRUCTION = 8  # bytes
_FUNCTION, _RELOCATIONS = 2, 9  # STT_FUNC, SHT_REL
# Of <linux/bpf.h>: exit and jump, call, 64-bit copy and addition; loads and stores by their class.
_ENDS, _CALL, _COPY, _ADD, _MEMORY = {0x95, 0x05}, 0x85, 0xBF, 0x07, {1, 2, 3}
_FRAME, _OWN = 10, 1  # the register that points to the stack; a call of a function of one's own


class Place(NamedTuple):
    """Where an instruction came from; ``column`` counts bytes from 1, and is 0 if unknown."""

    file: str
    line: int
    column: int
    text: str


class Function(NamedTuple):
    """A function of an object: where its code lies in a section, in instructions."""

    name: str
    section: str
    start: int
    end: int


class _Insn(NamedTuple):
    code: int
    target: int
    source: int
    offset: int
    number: int


_Calls = dict[tuple[str, int], tuple[str, int]]
_Places = dict[str, list[tuple[int, Place]]]


class LineInfo:
    """The lines of one object. An object without any, or a damaged one, has none, and that is
    no error: they only add to what the log tells.

    ``columns`` are known, or not.
    """

    def __init__(
        self, functions: list[Function], calls: _Calls, code: dict[str, bytes], places: _Places
    ) -> None:
        self._calls, self._places = calls, places
        self._code = {f.section: _decode(code[f.section]) for f in functions}
        self.functions = [f for f in functions if f.start < f.end <= len(self._code[f.section])]
        self.columns = any(place.column for found in places.values() for _, place in found)

    def place(self, function: Function, at: int) -> Place | None:
        """Where instruction ``at`` of a function came from, counted from its first.

        None past its end, and for code that the compiler made for no line.
        """
        found = None
        if function.start + at < function.end:
            for start, place in self._places.get(function.section, []):
                if function.start <= start <= function.start + at:
                    found = place
        return found if found and found.line else None

    def only_call(self, function: Function, at: int) -> bool:
        """Is a call the only one of what it calls that came from its line?"""
        code, where = self._code[function.section], self.place(function, at)
        calls = [
            i
            for i in range(function.end - function.start)
            if (one := code[function.start + i]).code == _CALL
            and one.number == code[function.start + at].number
            and self.place(function, i) == where
        ]
        return calls == [at]

    def open_end(self) -> Place | None:
        """Where the one function ends that ends in neither an exit nor a jump."""
        ends = [f for f in self.functions if self._code[f.section][f.end - 1].code not in _ENDS]
        return self.place(ends[0], ends[0].end - 1 - ends[0].start) if len(ends) == 1 else None

    def deepest(self, program: Function) -> Place | None:
        """The call by which a program, or a function that it calls, needs the most stack."""
        call = self._stack(program)[1]
        return self.place(*call) if call else None

    def _stack(
        self, function: Function, above: frozenset[Function] = frozenset()
    ) -> tuple[int, tuple[Function, int] | None]:
        """The bytes of stack that a function and all that it calls need, and the call that does."""
        above |= {function}
        insns = self._code[function.section]
        depth, below, call, base = 0, 0, None, -1
        for at in range(function.start, function.end):
            insn = insns[at]
            if insn.code == _COPY and insn.source == _FRAME:
                base = insn.target  # an address in the frame is calculated
            elif insn.code == _ADD and insn.target == base:
                depth = max(depth, -insn.number)
            elif _FRAME in (insn.source, insn.target) and insn.code & 7 in _MEMORY:
                depth = max(depth, -insn.offset)
            callee = self._callee(function, at, insn)
            if callee and callee not in above and (deep := self._stack(callee, above)[0]) >= below:
                below, call = deep, (function, at - function.start)
        return depth + below, call

    def _callee(self, function: Function, at: int, insn: _Insn) -> Function | None:
        """The function of the object that an instruction calls."""
        if insn.code != _CALL or insn.source != _OWN:
            return None
        named = self._calls.get((function.section, at))
        section, start = named or (function.section, at)
        start += insn.number + 1
        return next((f for f in self.functions if (f.section, f.start) == (section, start)), None)


def of_object(path: Path) -> LineInfo:
    """The lines of an object file."""
    with contextlib.suppress(struct.error, LookupError, ValueError, OverflowError):
        functions, calls, sections = _elf(path.read_bytes())
        places: _Places = {}
        if ".BTF" in sections and ".BTF.ext" in sections:
            places = _parse(sections[".BTF"], sections[".BTF.ext"])
        return LineInfo(functions, calls, sections, places)
    return LineInfo([], {}, {}, {})


def _parse(btf: bytes, ext: bytes) -> _Places:
    places: _Places = {}
    _, _, _, size, _, _, strings, _ = struct.unpack_from("<HBBIIIII", btf)
    _, _, _, header, _, _, lines, length = struct.unpack_from("<HBBIIIII", ext)

    def string(at: int) -> str:
        start = size + strings + at
        return btf[start : btf.index(b"\0", start)].decode(errors="replace")

    at, end = header + lines + 4, header + lines + length
    (record,) = struct.unpack_from("<I", ext, at - 4)
    while at < end:
        section, count = struct.unpack_from("<II", ext, at)
        found = places.setdefault(string(section), [])
        for offset in range(at + 8, at + 8 + count * record, record):
            insn, file, text, packed = struct.unpack_from("<IIII", ext, offset)
            name = string(file).rpartition("/")[2]
            place = Place(name, packed >> 10, packed & 0x3FF, string(text))
            found.append((insn // _INSTRUCTION, place))
        at += 8 + count * record
    return places


# What BCC says with DEBUG_PREPROCESSOR and DEBUG_SOURCE: the C that it compiles, and what of it
# became which instruction.
COPY = re.compile(r"^#if defined\(BPF_LICENSE\)\n.*^#include <bcc/footer\.h>\n", re.M | re.S)
_ADDED = re.compile(r'__attribute__\(\((always_inline|section\("(?P<program>.*)"\))\)\)')
_SAID = re.compile(
    r"^Disassembly of function (?P<function>\w+)$|^;.* // Line +(?P<line>\d+)$"
    r"|^ *(?P<insn>\d+):\t(?P<bytes>(?:[0-9a-f]{2} )*[0-9a-f]{2})\t",
    re.M,
)


def of_bcc(said: str, source: str, name: str) -> LineInfo:
    """The lines of what BCC made of ``source``, the file ``name``, from what it said of it."""
    copy = COPY.search(said)
    own = source.splitlines()
    moved = _moved(own, copy[0].splitlines()) if copy else {}
    unknown = 1 if len(own) == 1 else 0  # of one line, all is there
    functions, places, code = list[Function](), _Places(), dict[str, bytes]()
    for found in _SAID.finditer(said, copy.end() if copy else 0):
        if title := found["function"]:
            functions.append(Function(title, title, 0, 0))
            places[title], code[title] = [], b""
        elif functions and found["line"]:
            line = moved.get(int(found["line"]), unknown)
            text = own[line - 1] if line else ""
            places[title := functions[-1].name].append(
                (len(code[title]) // _INSTRUCTION, Place(name, line, 0, text))
            )
        elif functions:
            code[functions[-1].name] += bytes.fromhex(found["bytes"])
    functions = [one._replace(end=len(code[one.name]) // _INSTRUCTION) for one in functions]
    return LineInfo(functions, {}, code, places)


def _moved(own: list[str], copy: list[str]) -> dict[int, int]:
    """Which of one's own lines each line is of the copy that BCC compiles, both from 1.

    BCC puts an attribute above each function, breaks the line behind the brace that opens a
    program, and writes calls anew, in one line. Where the lines of the copy are as many as one's
    own between two that are the same, they go together one by one; a line that took the place of
    several is the first of them; others are left out.
    """
    kept, broken, opens, added = list[int](), list[int](), False, False
    for number, line in enumerate(copy):
        found = _ADDED.fullmatch(line)
        if not found:
            (broken if added else kept).append(number)
        added = opens and line.endswith("{")
        opens = bool(found and found["program"]) or (opens and not added)
    moved = {}
    same = SequenceMatcher(None, [copy[number] for number in kept], own, autojunk=False)
    for _, start, end, first, last in same.get_opcodes():
        if end - start in (1, last - first) and last > first:
            for at, number in enumerate(kept[start:end], first + 1):
                moved[number + 1] = at
    return moved | {number + 1: moved[number] for number in broken if number in moved}


def _decode(code: bytes) -> list[_Insn]:
    return [
        _Insn(code, registers & 15, registers >> 4, offset, number)
        for code, registers, offset, number in struct.iter_unpack("<BBhi", code)
    ]


def _elf(data: bytes) -> tuple[list[Function], _Calls, dict[str, bytes]]:
    """The functions of an ELF file, what its relocations point at, and what its sections hold."""
    at, _, _, _, _, size, count, strings = struct.unpack_from("<QIHHHHHH", data, 40)
    heads = [struct.unpack_from("<IIQQQQII", data, at + size * i) for i in range(count)]

    def name(table: int, at: int) -> str:
        start = heads[table][4] + at
        return data[start : data.index(b"\0", start)].decode(errors="replace")

    titles = [name(strings, head[0]) for head in heads]
    held = [data[head[4] : head[4] + head[5]] for head in heads]
    table = titles.index(".symtab")
    symbols = list(struct.iter_unpack("<IBBHQQ", held[table]))
    functions = [
        Function(
            name(heads[table][6], label),
            titles[section],
            start // _INSTRUCTION,
            (start + length) // _INSTRUCTION,
        )
        for label, kind, _, section, start, length in symbols
        if kind & 15 == _FUNCTION
    ]
    calls = {}
    for head, content in zip(heads, held, strict=True):
        for offset, info in struct.iter_unpack("<QQ", content) if head[1] == _RELOCATIONS else ():
            _, _, _, section, start, _ = symbols[info >> 32]
            if section < len(titles):
                place = titles[section], start // _INSTRUCTION
                calls[titles[head[7]], offset // _INSTRUCTION] = place
    return functions, calls, dict(zip(titles, held, strict=True))
