"""Broken programs, and whether each is told the right line.

    .venv/bin/python -m tests.verifier.fuzz [--count 300] [--seed 8] [--dialect bcc]

Programs of the course and of labs are broken by one edit, until the verifier has refused so many.
Where the verifier refuses it, there must
be a diagnostic, and it must name the line that BTF line information has for the instruction at
which the verifier stopped. That line is read here in another way than the course does it: by
libbpf, and, where the kernel is new enough, from what the log itself says.

In BCC's dialect no object is to be had. There, each line ends in a comment with its number, which
the log quotes.
"""

import argparse
import ctypes
import random
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from helpers import load
from helpers.compiler import compile_object
from helpers.errors import BpfError, VerifierError
from helpers.kernel import ROOT
from helpers.libbpf import lib
from helpers.sandbox import with_own_pins
from tests.labs.mutants import of_c


class Outcome(NamedTuple):
    """``kind``: accepted, refused, by clang, otherwise, or raised. ``wrong``: what is amiss."""

    kind: str
    named: bool = False  # did line information name a line?
    rule: str = ""
    said: str = ""
    wrong: str = ""


class Broken(NamedTuple):
    path: Path
    text: str


def programs(dialect: str) -> list[Path]:
    end = "*.bcc.c" if dialect == "bcc" else "*.bpf.c"
    found = sorted([*ROOT.glob(f"bpf/{end}"), *ROOT.glob(f"labs/*/solutions/{end}")])
    return [path for path in found if not path.name.startswith("clinic_")]  # sick already


def broken(seed: int, dialect: str) -> Iterator[Broken]:
    """Programs, each with one edit: one of each file in turn."""
    chance = random.Random(seed)
    each = {path: _edits(path.read_text(), chance) for path in programs(dialect)}
    while any(each.values()):
        for path, edits in each.items():
            if edits:
                text = edits.pop()
                yield Broken(path, _numbered(text) if dialect == "bcc" else text)


def _numbered(text: str) -> str:
    """The text with each line's number behind its statement."""
    lines = text.splitlines()
    ends = (";", ")", "{")
    return "\n".join(
        f"{line} /* no. {at} */" if line.endswith(ends) else line
        for at, line in enumerate(lines, 1)
    )


def _edits(text: str, chance: random.Random) -> list[str]:
    """The texts that differ in one edit, by lot, the last first; most are what is refused."""
    checks, others = [*dict.fromkeys(_of_checks(text))], [*dict.fromkeys(of_c(text))]
    chance.shuffle(checks)
    chance.shuffle(others)
    mixed = list[str]()
    while checks or others:
        mixed += checks[-8:] + others[-1:]
        del checks[-8:], others[-1:]
    return mixed[::-1]


def _of_checks(text: str) -> Iterator[str]:
    """Dropped checks, sizes that are too large, and values in place of addresses."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        alone = i + 1 < len(lines) and "{" not in line
        if re.match(r"\s*if \(", line) and alone and line.rstrip().endswith(")"):
            yield "".join([*lines[:i], *lines[i + 2 :]])  # with the statement that it guards
            yield "".join([*lines[:i], *lines[i + 1 :]])  # which now always happens
        elif re.match(r"\s*if \(.*\{$", line):
            yield "".join([*lines[:i], line.replace("(", "(1 || ", 1), *lines[i + 1 :]])
    for found in re.finditer(r"\bsizeof\([^()]*\)|(?<=[\[ ])\d+\b", text):
        yield text[: found.start()] + "100000" + text[found.end() :]
    for found in re.finditer(r"&(?=\w+[,)])", text):
        yield text[: found.start()] + text[found.end() :]


def judge(one: Broken) -> Outcome:
    """Load it, and compare the line of its diagnostic with the line of the instruction."""
    folder, name = one.path.parent, one.path.name
    try:
        dialect = "bcc" if name.endswith(".bcc.c") else "libbpf"
        load(text=one.text, name=name, flags=[f"-I{folder}"], dialect=dialect).close()
        return Outcome("accepted")
    except VerifierError as error:
        found = error.diagnostic
        assert found
        there = line_of_the_end(one, error.program, error.log)
        said = (found.here.file, found.here.number) if found.here else None
        wrong = (
            f"it names {said}, and line information {there}" if there not in (None, said) else ""
        )
        return Outcome("refused", there is not None, found.rule, found.said, wrong)
    except BpfError as error:
        return Outcome("otherwise" if error.errno else "by clang")
    except Exception as error:
        return Outcome("raised", wrong=f"{type(error).__name__}: {error}")


def line_of_the_end(one: Broken, program: str, log: str) -> tuple[str, int] | None:
    """The file and line of the instruction at which the verifier stopped, if any is named."""
    rows = log.partition("\nprocessed ")[0].splitlines()
    last = max((i for i, row in enumerate(rows) if re.match(r"\d+: \(", row)), default=None)
    if last is None:
        return None
    insn = int(rows[last].partition(":")[0])
    if one.path.name.endswith(".bcc.c"):
        said = re.match(r"; .*/\* no. (\d+) \*/ @ main.c:", _above(rows, last, insn))
        return (one.path.name, int(said[1])) if said else None
    flags = [f"-I{ROOT / 'bpf'}", f"-I{one.path.parent}"]
    path = compile_object(one.text, one.path.name, flags)
    own = _own_line(path, program, insn)
    said = re.match(r"; .* @ ([^@\s]+):(\d+)$", _above(rows, last, insn))
    if said and said[2] != "0":
        assert own in (None, (said[1], int(said[2]))), f"{own}, and the log says {said[0]}"
        return said[1], int(said[2])
    return own


def _above(rows: list[str], at: int, insn: int) -> str:
    """What the log says above the instructions of one line: what they came from; else nothing.

    From Linux 6.9 on it says where that is, too. It says nothing above a branch that is taken up
    again.
    """
    while at and re.match(rf"{insn - 1}: \(\d\w\) (?!call pc)(?!.* \d+: R)", rows[at - 1]):
        at, insn = at - 1, insn - 1
    return rows[at - 1] if at else ""


def _own_line(path: Path, program: str, insn: int) -> tuple[str, int] | None:
    """By libbpf: the line of an instruction of a program's own; of what it calls, None."""
    so = lib()
    for name, result, *arguments in _READERS:
        function = getattr(so, name)
        function.restype, function.argtypes = result, arguments
    obj, one, size = so.bpf_object__open_file(str(path).encode(), None), None, 0
    while one := so.bpf_object__next_program(obj, one):
        if so.bpf_program__name(one).decode() == program:
            size = so.bpf_program__insn_cnt(one)
    so.bpf_object__close(obj)
    if insn >= size:
        return None
    ext, length = ctypes.c_void_p(), ctypes.c_uint32()
    btf = so.btf__parse_elf(str(path).encode(), ctypes.byref(ext))
    raw = ctypes.string_at(so.btf_ext__get_raw_data(ext, ctypes.byref(length)), length.value)

    def name_at(offset: int) -> str:
        return str(so.btf__name_by_offset(btf, offset).decode())

    header, functions, many, lines, amount = struct.unpack_from("<IIIII", raw, 4)
    home, found = (0, 0), None
    for section, (start, kind) in _records(raw, header + functions, many, "<II"):
        label = ctypes.cast(so.btf__type_by_id(btf, kind), ctypes.POINTER(ctypes.c_uint32))[0]
        home = (section, start // 8) if name_at(label) == program else home
    for section, (at, file, _, packed) in _records(raw, header + lines, amount, "<IIII"):
        if section == home[0] and home[1] <= at // 8 <= home[1] + insn:
            found = Path(name_at(file)).name, packed >> 10
    so.btf_ext__free(ext)
    so.btf__free(btf)
    return found if found and found[1] else None


def _records(raw: bytes, at: int, size: int, form: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The records of a part of .BTF.ext, each with the name of its section as an offset."""
    end, at, width = at + size, at + 4, struct.calcsize(form)
    while at < end:
        section, count = struct.unpack_from("<II", raw, at)
        at += 8
        for record in struct.iter_unpack(form, raw[at : at + count * width]):
            yield section, record
        at += count * width


_POINTER, _NUMBER = ctypes.c_void_p, ctypes.c_uint32
_READERS = [  # those that the course itself does not use
    ("btf__parse_elf", _POINTER, ctypes.c_char_p, ctypes.POINTER(_POINTER)),
    ("btf_ext__get_raw_data", _POINTER, _POINTER, ctypes.POINTER(_NUMBER)),
    ("btf__name_by_offset", ctypes.c_char_p, _POINTER, _NUMBER),
    ("btf__type_by_id", _POINTER, _POINTER, _NUMBER),
    ("btf_ext__free", None, _POINTER),
    ("bpf_program__insn_cnt", ctypes.c_size_t, _POINTER),
]


class Tally:
    """What came of many."""

    def __init__(self) -> None:
        self.kinds, self.rules = Counter[str](), Counter[str]()
        self.named, self.wrong = 0, list[str]()

    def add(self, one: Broken) -> None:
        outcome = judge(one)
        self.kinds[outcome.kind] += 1
        self.named += outcome.named
        if outcome.kind == "refused":
            self.rules[outcome.rule or outcome.said] += 1
        if outcome.wrong:
            self.wrong.append(f"{one.path.name}: {outcome.wrong}")

    @property
    def refused(self) -> int:
        return self.kinds["refused"]

    def __str__(self) -> str:
        return (
            f"{self.kinds.total()} made: {dict(self.kinds)}\n"
            f"BTF names a line for {self.named}, and {len(self.wrong)} are wrong\n"
            f"rules: {dict(self.rules.most_common())}"
        )


def run(count: int, seed: int, dialect: str = "libbpf") -> Tally:
    """Break programs until ``count`` were refused by the verifier.

    Those of lab 05 pin their maps when they are loaded: in a BPF file system that goes with this.
    """
    with tqdm(total=count, disable=None) as bar:  # its thread would keep that file system
        return with_own_pins(lambda: _run(count, seed, dialect, bar))


def _run(count: int, seed: int, dialect: str, bar: "tqdm[None]") -> Tally:
    tally = Tally()
    for one in broken(seed, dialect):
        tally.add(one)
        bar.update(tally.refused - bar.n)
        if tally.refused == count:
            break
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--dialect", choices=["libbpf", "bcc"], default="libbpf")
    options = parser.parse_args()
    tally = run(options.count, options.seed, options.dialect)
    print(tally, *tally.wrong, sep="\n")
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
