"""Are the checks of the labs strict? Break their solutions, one edit at a time, and see.

    .venv/bin/python -m tests.labs.mutants [LAB...] [--jobs N] [--limit N]

A mutant is a solution with one operator, constant, type or call exchanged, or one line dropped. A
check must refuse it, or ``equivalent.toml`` must say why it does what the solution does: a mutant
that is called right and not listed there is a survivor, and the exit status is 1.
"""

import argparse
import ast
import copy
import difflib
import random
import re
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from helpers import lab
from helpers.cards import NotAttempted, NotChecked, Result, Right

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


class Mutant(NamedTuple):
    """One edit of one file of a solution."""

    path: Path  # the solution
    was: str  # the line, without its indentation
    becomes: str  # what is there instead; empty when the line is dropped
    text: str
    nth: int = 1  # of the lines that are alike
    alike: int = 1

    @property
    def name(self) -> str:
        return f"{self.path.parent.parent.name}/{self.path.name}"

    def __str__(self) -> str:
        which = f"  ({self.nth} of {self.alike} alike)" if self.alike > 1 else ""
        return f"{self.name}\n  - {self.was}{which}\n  + {self.becomes}"


# --- C --------------------------------------------------------------------------------------

TOKEN = re.compile(
    r"""(?P<skip> //[^\n]* | /\*.*?\*/ | "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | ^\#[^\n]* | \s+ )
      | (?P<name> [A-Za-z_]\w* )
      | (?P<number> 0x[0-9a-fA-F]+[uUlL]* | \d+[uUlL]* )
      | (?P<operator> <<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[-+*/%&|^~!<>=] )
      | (?P<other> . )""",
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)
OPERATORS = {
    "==": ["!="], "!=": ["=="], "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="],
    ">=": [">", "<"], "&&": ["||"], "||": ["&&"], "<<": [">>"], ">>": ["<<"],
    "++": ["--"], "--": ["++"], "+=": ["-=", "="], "-=": ["+=", "="], "*=": ["="],
    "|=": ["&="], "&=": ["|="], "^=": ["="], "!": [""], "~": [""],
}  # fmt: skip
# These also stand before one operand, where they mean something else.
BETWEEN = {"+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "%": ["/"], "&": ["|"], "|": ["&"]}
NAMES = {
    "XDP_PASS": ["XDP_DROP", "XDP_TX"], "XDP_DROP": ["XDP_PASS"],
    "BPF_ANY": ["BPF_NOEXIST", "BPF_EXIST"], "BPF_NOEXIST": ["BPF_ANY", "BPF_EXIST"],
    "BPF_EXIST": ["BPF_ANY", "BPF_NOEXIST"],
    "__u64": ["__u32"], "__u32": ["__u16", "__u64"], "__u16": ["__u8", "__u32"], "__u8": ["__u16"],
    "u64": ["u32"], "u32": ["u16"], "u16": ["u8"],
    "bpf_ntohl": [""], "bpf_ntohs": ["", "bpf_ntohl"], "bpf_htons": [""], "bpf_htonl": [""],
    "ntohl": [""], "ntohs": [""], "htons": [""], "htonl": [""],
    "__sync_fetch_and_add": ["__sync_fetch_and_sub", "__sync_lock_test_and_set"],
    "bpf_ktime_get_ns": ["bpf_get_smp_processor_id"],
    "IPPROTO_TCP": ["IPPROTO_UDP"], "IPPROTO_UDP": ["IPPROTO_TCP"], "IPPROTO_ICMP": ["IPPROTO_TCP"],
    "IPPROTO_ICMPV6": ["IPPROTO_ICMP"],
    "ETH_P_IP": ["ETH_P_IPV6"], "ETH_P_IPV6": ["ETH_P_IP"],
    "ETH_P_8021Q": ["ETH_P_IP"], "ETH_P_8021AD": ["ETH_P_8021Q"],
    "saddr": ["daddr"], "daddr": ["saddr"], "source": ["dest"], "dest": ["source"],
    "packets": ["bytes"], "bytes": ["packets"],
    "BPF_MAP_TYPE_HASH": ["BPF_MAP_TYPE_LRU_HASH", "BPF_MAP_TYPE_PERCPU_HASH"],
    "BPF_MAP_TYPE_LRU_HASH": ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_LRU_PERCPU_HASH"],
    "BPF_MAP_TYPE_PERCPU_HASH": ["BPF_MAP_TYPE_HASH"],
    "BPF_MAP_TYPE_ARRAY": ["BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_PERCPU_ARRAY"],
    "BPF_MAP_TYPE_PERCPU_ARRAY": ["BPF_MAP_TYPE_ARRAY"],
    "BPF_F_NO_COMMON_LRU": ["0"], "break": ["continue", ""], "continue": ["break"],
}  # fmt: skip


def of_c(text: str) -> Iterator[str]:
    """Every text that differs from ``text`` in one edit."""
    before = ""  # the last token that is not white space
    for found in TOKEN.finditer(text):
        kind, token = found.lastgroup, found[0]
        if kind == "skip":
            continue
        spaced = text[found.end() : found.end() + 1].isspace()  # a * b, and not int *a
        operand = spaced and re.fullmatch(r"\w+|[])]", before)
        choices = {
            "operator": OPERATORS.get(token) or (BETWEEN.get(token, []) if operand else []),
            "name": NAMES.get(token, []),
            "number": _near(token) if kind == "number" else [],
        }.get(kind or "", [])
        for choice in choices:
            yield text[: found.start()] + choice + text[found.end() :]
        before = token
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if not re.match(r"\s*(//.*|/?\*.*|#.*|[{}]*;?)$", line):
            yield "".join([*lines[:number], *lines[number + 1 :]])


def _near(number: str) -> list[str]:
    digits = number.rstrip("uUlL")
    value, suffix = int(digits, 0), number[len(digits) :]
    others = dict.fromkeys([value + 1, max(value - 1, 0), 0])
    return [f"{other}{suffix}" for other in others if other != value]


# --- Python ---------------------------------------------------------------------------------

AST_SWAPS: dict[type, list[type]] = {
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.And: [ast.Or],
    ast.Or: [ast.And], ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Add],
    ast.Div: [ast.Mult], ast.FloorDiv: [ast.Mult], ast.Mod: [ast.Mult], ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr], ast.LShift: [ast.RShift], ast.RShift: [ast.LShift],
}  # fmt: skip
FUNCTIONS = {"max": "min", "min": "max", "sum": "max", "any": "all", "all": "any", "len": "sum"}


def of_python(text: str) -> Iterator[str]:
    """Every text that differs from ``text`` in one edit, and in its layout."""
    tree = ast.parse(text)
    for at, node in enumerate(ast.walk(tree)):
        for edit in _edits(node):
            changed = copy.deepcopy(tree)
            if edit([*ast.walk(changed)][at]) is not False:
                yield ast.unparse(ast.fix_missing_locations(changed))


def _edits(node: ast.AST) -> Iterator[Callable[[ast.AST], object]]:
    """What changes a copy of the node, in its place."""
    for field, value in ast.iter_fields(node):
        if type(value) in AST_SWAPS:
            for other in AST_SWAPS[type(value)]:
                yield lambda one, field=field, other=other: setattr(one, field, other())
        if _negates(value):
            yield lambda one, field=field: setattr(one, field, getattr(one, field).operand)
        if isinstance(value, list):
            for number, item in enumerate(value):
                if type(item) in AST_SWAPS:
                    for other in AST_SWAPS[type(item)]:
                        yield lambda one, f=field, n=number, o=other: _put(getattr(one, f), n, o())
                if _negates(item):
                    yield lambda one, f=field, n=number: _put(
                        getattr(one, f), n, getattr(one, f)[n].operand
                    )
                if isinstance(item, ast.stmt) and not _idle(item):
                    yield lambda one, f=field, n=number: _put(getattr(one, f), n, ast.Pass())
    if isinstance(node, ast.Constant):
        for other in _constants(node.value):
            yield lambda one, other=other: setattr(one, "value", other)
    if isinstance(node, ast.Return) and node.value:
        yield lambda one: setattr(one, "value", ast.Constant(None))
    if isinstance(node, ast.Name) and node.id in FUNCTIONS:
        yield lambda one: setattr(one, "id", FUNCTIONS[one.id])
    if isinstance(node, ast.Call):
        for number in range(len(node.keywords)):
            yield lambda one, number=number: one.keywords.pop(number) and None


def _negates(node: object) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub)


def _put(where: list, number: int, what: object) -> None:
    where[number] = what


def _idle(statement: ast.stmt) -> bool:
    """Is there nothing to lose: an import, a docstring, a pass?"""
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return text or isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass)


def _constants(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [f"{value}x"] if value else ["x"]
    return [0] if value is None else []


# --- all of them ----------------------------------------------------------------------------


def mutants(folder: Path) -> list[Mutant]:
    """Every mutant of every solution of a lab, each once, in the same order every time."""
    ex, found = lab.open(folder.name), dict[tuple[Path, str], Mutant]()
    for main in ex.solutions():
        for path in ex._together(main):
            text = path.read_text()
            if path.suffix == ".py":
                text = ast.unparse(_without_docstrings(ast.parse(text)))
            for other in of_python(text) if path.suffix == ".py" else of_c(text):
                if other != text:
                    was, becomes, *place = _change(text, other)
                    found.setdefault((path, other), Mutant(path, was, becomes, other, *place))
    return [*found.values()]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _idle(body[0]) and isinstance(body[0], ast.Expr):
            body[:] = body[1:] or [ast.Pass()]
    return tree


def _change(old: str, new: str) -> tuple[str, str, int, int]:
    """The line that differs, before and after, and which of those alike it is, of how many."""
    a, b = old.splitlines(), new.splitlines()
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag != "equal":
            lines = [line.strip() for line in a]
            was, becomes = (" ".join(map(str.strip, part)) for part in (a[i1:i2], b[j1:j2]))
            return was, becomes, lines[: i1 + 1].count(was), lines.count(was)
    raise ValueError("no difference")


def judge(mutant: Mutant) -> Result:
    """Put it to the check, with the other parts of its solution beside it."""
    folder = mutant.path.parent.parent
    ex = lab.open(folder.name)
    with tempfile.TemporaryDirectory(prefix="mutant-") as beside:
        files = list[Path]()
        for path in ex._together(mutant.path):
            files.append(Path(beside, path.name))
            files[-1].write_text(mutant.text if path == mutant.path else path.read_text())
        return lab.judge(folder, *files)


class Equivalent(NamedTuple):
    """Mutants that do what their solution does, and the reason; ``*`` stands for anything.

    ``nth`` says which of the lines that are alike is meant, from the end when it is negative.
    ``unchecked``: what the check says where this kernel lacks what the mutant needs.
    """

    solution: str
    was: str
    becomes: str
    reason: str
    nth: int = 0
    unchecked: str = ""

    def excuses(self, mutant: Mutant, result: Result) -> bool:
        """May the mutant live, with what the check says of it?"""
        unchecked = isinstance(result, NotChecked) and self.unchecked
        allowed = isinstance(result, Right) or (unchecked and unchecked in result.said)
        return bool(allowed) and self.covers(mutant)

    def covers(self, mutant: Mutant) -> bool:
        if self.nth not in (0, mutant.nth, mutant.nth - mutant.alike - 1):
            return False
        pairs = (self.solution, mutant.name), (self.was, mutant.was), (self.becomes, mutant.becomes)
        return all(fnmatchcase(text, _pattern(pattern)) for pattern, text in pairs)


def _pattern(text: str) -> str:
    """Only ``*`` is special: C is full of brackets."""
    return re.sub(r"[\[?]", r"[\g<0>]", text)


def equivalents() -> list[Equivalent]:
    listed = tomllib.loads(EQUIVALENT.read_text()).get("equivalent", [])
    return [Equivalent(**entry) for entry in listed]


def survives(result: Result) -> bool:
    """Was it not refused? A check that fails by itself has refused nothing."""
    return isinstance(result, Right | NotChecked)


def verdict(result: Result) -> str:
    """By whom it was killed, or how it lived."""
    if isinstance(result, Right):
        return "called right"
    if isinstance(result, NotChecked):
        return f"not checked: {result.said}"
    if "does not compile" in result.said or "is no Python" in result.said:
        return "by the compiler"
    if "verifier refuses" in result.said:
        return "by the verifier"
    return "as the starter" if isinstance(result, NotAttempted) else "by the check"


def run(folder: Path, chosen: Sequence[Mutant], jobs: int = 1) -> list[tuple[Mutant, Result]]:
    """Judge them, print a line about the lab, and return those that survive."""
    known = equivalents()
    with ThreadPoolExecutor(jobs) as pool:
        results = [*tqdm(pool.map(judge, chosen), folder.name, len(chosen), disable=None)]
    if jobs > 1:  # beside another check a race may have gone well: those that live go again, alone
        results = [
            judge(mutant) if survives(result) else result
            for mutant, result in zip(chosen, results, strict=True)
        ]
    lived, same, killed = list[tuple[Mutant, Result]](), 0, Counter[str]()
    for mutant, result in zip(chosen, results, strict=True):
        if not survives(result):
            killed[verdict(result)] += 1
        elif any(one.excuses(mutant, result) for one in known):
            same += 1
        else:
            lived.append((mutant, result))
    how = ", ".join(f"{number} {who}" for who, number in killed.most_common())
    print(
        f"{folder.name}: {len(chosen)} mutants, {killed.total()} killed ({how}), "
        f"{same} equivalent, {len(lived)} survive",
        flush=True,
    )
    return lived


def main(args: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.labs.mutants", description=__doc__)
    parser.add_argument("labs", nargs="*", help="numbers; all labs when there are none")
    parser.add_argument("--jobs", type=int, default=1, help="checks at once")
    parser.add_argument("--limit", type=int, help="so many of each lab, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of that choice")
    given = parser.parse_args([*args] if args is not None else None)
    folders = [lab.open(name).folder for name in given.labs] or lab.folders()
    lived = list[tuple[Mutant, Result]]()
    for folder in folders:
        for path in lab.open(folder.name).solutions():  # else each of its mutants dies of the same
            if not isinstance(said := lab.open(folder.name).check_file(path), Right):
                print(f"{path} is no solution.\n{said}")
                return 1
        chosen = mutants(folder)
        if given.limit and given.limit < len(chosen):
            chosen = random.Random(given.seed).sample(chosen, given.limit)
        lived += run(folder, chosen, given.jobs)
    for mutant, result in lived:
        print(f"\n{mutant}\n  {verdict(result)}")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
