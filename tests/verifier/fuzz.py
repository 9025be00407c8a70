"""Broken programs, and whether each is told the right line.

    .venv/bin/python -m tests.verifier.fuzz [--count 300] [--seed 8]

A program of the course or of a lab is broken by one edit. Where the verifier refuses it, there must
be a diagnostic, and it must name the line that BTF line information has for the instruction at
which the verifier stopped. That line is read here in another way than the course does it: by
libbpf, and, where the kernel is new enough, from what the log itself says.
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
from tests.labs.mutants import of_c


class Outcome(NamedTuple):
    """``kind``: accepted, refused, by clang, otherwise, or raised. ``wrong``: what is amiss."""

    kind: str
    named: bool  # did line information name a line?
    rule: str
    wrong: str


class Broken(NamedTuple):
    path: Path
    text: str


def programs() -> list[Path]:
    return sorted([*ROOT.glob("bpf/*.bpf.c"), *ROOT.glob("labs/*/solutions/*.bpf.c")])


def broken(count: int, seed: int) -> list[Broken]:
    """``count`` programs, each with one edit: of every kind some, and of every program."""
    chance, found = random.Random(seed), list[Broken]()
    each = {path: _edits(path.read_text(), chance) for path in programs()}
    while len(found) < count:
        path = chance.choice([*each])
        if not each[path]:
            del each[path]
            continue
        found.append(Broken(path, each[path].pop()))
    return found


def _edits(text: str, chance: random.Random) -> list[str]:
    """The texts that differ in one edit, in the order of a lottery that favours what is refused."""
    checks, others = [*dict.fromkeys(_of_checks(text))], [*dict.fromkeys(of_c(text))]
    chance.shuffle(checks)
    chance.shuffle(others)
    mixed = list[str]()
    while checks or others:
        mixed += [checks.pop()] if checks else []
        mixed += others[-1:]
        del others[-1:]
    return mixed[::-1]


def _of_checks(text: str) -> Iterator[str]:
    """Dropped checks, sizes that are too large, and pointers that are used too early or late."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        alone = i + 1 < len(lines) and "{" not in line
        if re.match(r"\s*if \(", line) and alone and line.rstrip().endswith(")"):
            yield "".join([*lines[:i], *lines[i + 2 :]])  # with the statement that it guards
            yield "".join([*lines[:i], *lines[i + 1 :]])  # which now always happens
        if re.search(r"\breturn\b", line):
            yield "".join([*lines[:i], *lines[i + 1 :]])
        if re.match(r"\t+[^/{}#]*;$", line) and i + 1 < len(lines) and lines[i + 1].strip() != "}":
            yield "".join([*lines[:i], lines[i + 1], line, *lines[i + 2 :]])
    for found in re.finditer(r"\bsizeof\([^()]*\)|(?<=[\[ ])\d+\b", text):
        yield text[: found.start()] + "100000" + text[found.end() :]
    for found in re.finditer(r"&(?=\w+[,)])", text):
        yield text[: found.start()] + text[found.end() :]


def judge(one: Broken) -> Outcome:
    """Load it, and compare the line of its diagnostic with the line of the instruction."""
    folder, name = one.path.parent, one.path.name
    try:
        load(text=one.text, name=name, flags=[f"-I{folder}"]).close()
        return Outcome("accepted", False, "", "")
    except VerifierError as error:
        found = error.diagnostic
        assert found
        there = line_of_the_end(one, error.log)
        said = (found.here.file, found.here.number) if found.here else None
        wrong = f"it names {said}, and line information {there}" if there not in (None, said) else ""
        return Outcome("refused", there is not None, found.rule, wrong)
    except BpfError as error:
        return Outcome("by clang" if error.errno == 0 else "otherwise", False, "", "")
    except Exception as error:
        return Outcome("raised", False, "", f"{type(error).__name__}: {error}")


def line_of_the_end(one: Broken, log: str) -> tuple[str, int] | None:
    """The file and line of the instruction at which the verifier stopped, if any is named."""
    rows = log.partition("\nprocessed ")[0].splitlines()
    last = max((i for i, row in enumerate(rows) if re.match(r"\d+: \(", row)), default=None)
    if last is None:
        return None
    insn = int(rows[last].partition(":")[0])
    flags = [f"-I{ROOT / 'bpf'}", f"-I{one.path.parent}"]
    path = compile_object(one.text, one.path.name, flags)
    own = _own_lines(path, insn, rows)
    # Directly above the instruction, the log says what it came from (from Linux 6.9 on, where).
    said = re.match(r"; .* @ ([^@\s]+):(\d+)$", rows[last - 1]) if last else None
    if said and said[2] != "0":
        return said[1], int(said[2])
    return own


def _own_lines(path: Path, insn: int, rows: list[str]) -> tuple[str, int] | None:
    """By libbpf: the line of an instruction of a program, if the object has one program alone."""
    so = lib()
    so.btf__parse_elf.restype, so.btf__parse_elf.argtypes = ctypes.c_void_p, [
        ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)
    ]  # fmt: skip
    so.btf_ext__get_raw_data.restype = ctypes.c_void_p
    so.btf_ext__get_raw_data.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)]
    so.btf__name_by_offset.restype = ctypes.c_char_p
    so.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    so.btf_ext__free.argtypes = [ctypes.c_void_p]
    so.bpf_program__insn_cnt.restype = ctypes.c_size_t
    so.bpf_program__insn_cnt.argtypes = [ctypes.c_void_p]
    obj = so.bpf_object__open_file(str(path).encode(), None)
    first = so.bpf_object__next_program(obj, None)
    alone = not so.bpf_object__next_program(obj, first)
    section, size = so.bpf_program__section_name(first).decode(), so.bpf_program__insn_cnt(first)
    so.bpf_object__close(obj)
    if not alone or insn >= size:
        return None
    ext, length = ctypes.c_void_p(), ctypes.c_uint32()
    btf = so.btf__parse_elf(str(path).encode(), ctypes.byref(ext))
    raw = ctypes.string_at(so.btf_ext__get_raw_data(ext, ctypes.byref(length)), length.value)
    header, _, _, offset, amount = struct.unpack_from("<IIIII", raw, 4)
    at, end, found = header + offset + 4, header + offset + amount, None
    while at < end:
        title, count = struct.unpack_from("<II", raw, at)
        for start, file, _, packed in struct.iter_unpack("<IIII", raw[at + 8 : at + 8 + 16 * count]):
            if so.btf__name_by_offset(btf, title).decode() == section and start // 8 <= insn:
                found = Path(so.btf__name_by_offset(btf, file).decode()).name, packed >> 10
        at += 8 + 16 * count
    so.btf_ext__free(ext)
    so.btf__free(btf)
    return found if found and found[1] else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    kinds, rules, bad, named = Counter[str](), Counter[str](), 0, 0
    for one in tqdm(broken(options.count, options.seed), disable=None):
        outcome = judge(one)
        kinds[outcome.kind] += 1
        named += outcome.named
        if outcome.kind == "refused":
            rules[outcome.rule or "(not recognised)"] += 1
        if outcome.wrong:
            bad += 1
            print(f"{one.path.name}: {outcome.wrong}")
    print(f"{options.count} made: {dict(kinds)}; a line was named for {named}, {bad} wrong")
    print(f"rules: {dict(rules.most_common())}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
