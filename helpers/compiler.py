"""From C to an object file or a program: found, compiled by clang, and kept."""

import errno
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from helpers import kernel
from helpers.diagnostics import Diagnostic, Mark, printable, word
from helpers.errors import (
    BpfError,
    CompileError,
    LayoutError,
    NotFound,
    check_said,
    exhaustion_told,
)

_LONGEST_NAME = 200  # bytes: of 255 that Linux takes, with room for the names of products


class Source(str):
    """C text that shows itself as a highlighted listing in JupyterLab."""

    def _repr_markdown_(self) -> str:
        return f"```c\n{self}\n```"

    def __repr__(self) -> str:
        return printable(str(self))


def find(path: str | os.PathLike[str]) -> Path:
    """The C file that ``load(path)`` would read.

    Raises:
        NotFound: it is neither here nor in the course's ``bpf`` folder.
    """
    folder = kernel.ROOT / "bpf"
    for candidate in (Path(path), folder / path):
        if candidate.is_file():
            return candidate.resolve()
    there = sorted(p.name for p in folder.glob("*.c"))
    raise NotFound(
        f"There is no file {str(path)!r}.\nThe course has: {', '.join(there)}.", errno.ENOENT
    )


def source(path: str | os.PathLike[str], part: str | None = None) -> Source:
    """The C file that ``load(path)`` would load, or one declaration of it, to read in a cell.

    ``part`` is the name that the declaration gives: of a struct, a map or a function.

    Raises:
        NotFound: no such file, or nothing in it of that name.
    """
    text = find(path).read_text()
    if part is None:
        return Source(text.strip())
    # A declaration starts at the left margin and ends at the next blank line after it closes.
    blocks = re.split(r"\n\n(?=\S)", text)
    declares = rf"^(?:[^\s/*].*|}} )?\b{re.escape(part)}\b\s*(?:SEC|\(|\{{|\)|,|$)"
    for block in blocks:
        if re.search(declares, block, re.MULTILINE):
            return Source(block.strip())
    raise NotFound(f"{path} declares no {part!r}.")


def compile_object(text: str, name: str, flags: list[str]) -> Path:
    """The object file for a libbpf-dialect text, as ``compiled()`` keeps it."""
    machine = platform.machine()
    flags = [
        "-c", "-g", "-O2", "-target", "bpf", "-mcpu=v3",
        "-Werror=implicit-function-declaration",  # as clang 16 and later
        f"-D__TARGET_ARCH_{'arm64' if machine == 'aarch64' else 'x86'}",
        "-idirafter", f"/usr/include/{machine}-linux-gnu", *flags,
    ]  # fmt: skip
    if "vmlinux.h" in text:
        flags.append(f"-I{kernel.vmlinux_header()}")
    return compiled(text, name, flags, f"{name.removesuffix('.c')}.o")


@exhaustion_told("compile a program in the course's cache")
def compiled(
    text: str, name: str, flags: list[str], product: str, libraries: Sequence[str] = ()
) -> Path:
    """What clang makes of a C text; it runs only if the text or a header of it changed.

    Raises:
        CompileError: clang, or the linker that it calls, refused it.
        LayoutError: the name is none for a file.
        Unsupported: there is no clang.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name) or len(os.fsencode(name)) > _LONGEST_NAME:
        raise LayoutError(
            f"{name!r} cannot be the name of a C file here: it takes letters, digits, and . _ + -, "
            f"and at most {_LONGEST_NAME} bytes."
        )
    clang = kernel.clang()
    stat = os.stat(clang)
    seed = [text, name, flags, *libraries, clang, stat.st_mtime_ns, stat.st_size]
    key = hashlib.sha256(json.dumps(seed).encode()).hexdigest()[:32]
    cache = kernel.cache_dir("objects")
    made, needs = cache / key / product, cache / key / "needs.json"
    if _fresh(made, needs):
        return made
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        work = Path(folder)
        (work / name).write_text(text)
        command = [clang, *flags, "-MD", "-MF", "needs", name, "-o", product, *libraries]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace")
        if done.returncode:
            _no_fault_of_the_text(name, done)
            compile_failed(name, done.stderr, text)
        paths = (work / "needs").read_text().replace("\\\n", " ").split()[2:]
        headers = {path: _stamp(path) for path in paths if path != name}
        data = (work / product).read_bytes()
        (cache / key).mkdir(mode=0o700, exist_ok=True)
        kernel.write_atomically(made, data)
        made.chmod(0o700)
        found = {"product": _digest(data), "headers": headers}
        kernel.write_atomically(needs, json.dumps(found).encode())
    return made


def _no_fault_of_the_text(name: str, done: "subprocess.CompletedProcess[str]") -> None:
    """Raise the error for a compiler that could not do its work, if that is so."""
    check_said(f"compile {name}", done.stderr)
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
        raise BpfError(
            f"clang was killed while it compiled {name} ({how}).\n"
            "The kernel kills when memory runs short, and people do.\nRun it again."
        )


def _fresh(made: Path, needs: Path) -> bool:
    """Is it whole, and are its headers as they were? A damaged object can be libbpf's end, and
    with it ours."""
    try:
        recorded = json.loads(needs.read_bytes())
        headers, whole = recorded["headers"], recorded["product"] == _digest(made.read_bytes())
        return whole and all(_stamp(path) == seen for path, seen in headers.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return False  # gone, or damaged


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _stamp(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_mtime_ns, stat.st_size]


# Of the compiler or of the linker, which on Debian 13 first complains of debug information.
_COMPLAINT = "(?<!DWARF )error:|undefined reference|cannot find -l"
_PLACE = re.compile(
    r"(?P<file>[^:\s]+):(?P<line>\d+):(?P<column>\d+): (?:fatal )?error: (?P<says>.*)"
)
_KERNEL_TYPES = "[us](8|16|32|64)|be(16|32|64)|bool|size_t"


class _Complaint(NamedTuple):
    """What clang says, and what to write instead; names in braces are groups of the pattern.

    ``means`` is for words that need others.
    """

    rule: str
    says: str
    help: str
    means: str = ""


_COMPLAINTS = [
    _Complaint("misspelt", r"did you mean (?:to use )?'(?P<meant>[^']+)'", "write {meant}"),
    _Complaint("missing-sign", r"expected '(?P<sign>[;)\]])'", "write {sign} here"),
    _Complaint(
        "kernel-type",
        rf"(?:unknown type name|undeclared identifier) '(?P<type>{_KERNEL_TYPES})'",
        "write {type}",
    ),
    _Complaint(
        "unknown-type",
        r"unknown type name '",
        "include the header that declares it, before this line",
    ),
    _Complaint(
        "unknown-function",
        r"(?:call to undeclared (?:library )?function"
        r"|implicit\w* declar\w+ (?:of|library) function) '\w+'",
        "call a helper, see bpf-helpers(7), or a function of your own above this one",
    ),
    _Complaint(
        "undeclared",
        r"undeclared identifier '(?P<name>\w+)'",
        "declare {name} before this line, or include the header that does",
    ),
    _Complaint(
        "wrong-member",
        r"no member named '\w+' in '(?:struct |union )?(?P<struct>\w+)'",
        "{members}",
    ),
    _Complaint(
        "undefined-struct",
        r"incomplete definition of type '(?:struct |union )?(?P<struct>\w+)'",
        "include the header that defines {struct}, before this line",
    ),
    _Complaint(
        "no-header", r"' file not found", "look at the header's name, and at what is installed"
    ),
    _Complaint(
        "stack-size",
        r"BPF stack limit of 512 bytes is exceeded",
        "move the large variable into a map, such as a per-CPU array of one entry",
        "this function needs more than the 512 bytes of stack that a program has",
    ),
]


def compile_failed(name: str, said: str, text: str = "") -> NoReturn:
    """Raise the ``CompileError`` for what clang said of ``text``: its first complaint."""
    lines = said.strip().splitlines()
    first = next((i for i, line in enumerate(lines) if re.search(_COMPLAINT, line)), 0)
    complaint = lines[first] if lines else ""
    place = _PLACE.match(complaint)
    says = place["says"] if place else re.sub(r"^(fatal )?error: ", "", complaint)
    known = next((one for one in _COMPLAINTS if re.search(one.says, says)), None)
    count = sum(bool(re.search("(?<!DWARF )error:", line)) for line in lines)
    others = "is 1 more error" if count == 2 else f"are {count - 1} more errors"
    raise CompileError(
        Diagnostic(
            f"{name} does not compile: {(known and known.means) or says}",
            name,
            _shown(place, lines[first + 1 :], name, text) if place else None,
            help=_help(known, says, text) if known else "",
            said=complaint.strip(),
            who="clang",
            more=f"There {others}; mend this one first." if count > 1 else "",
            rule=known.rule if known else "",
            log=said.strip() if len(lines) > 1 else "",
        ),
        said,
    )


def _shown(place: re.Match[str], below: list[str], name: str, text: str) -> Mark:
    """The line that clang complains of, with what it means by the column."""
    number, column = int(place["line"]), int(place["column"])
    source = text.splitlines()
    if place["file"] == name and number <= len(source):
        line = source[number - 1]
    else:
        # From clang 17 on a margin with the line's number stands before the C.
        line = re.sub(r"^ +\d* +\| ", "", below[0]) if below else ""
    at = len(line.encode()[: column - 1].decode(errors="ignore"))
    return Mark(place["file"], number, line, *word(line, at))


def _help(known: _Complaint, says: str, text: str) -> str:
    found = re.search(known.says, says)
    names = found.groupdict("") if found else {}
    if kind := names.get("type"):
        names["type"] = _type(kind)
    if struct := names.get("struct"):
        names["members"] = _members(struct, text)
    return known.help.format(**names)


def _type(kind: str) -> str:
    """How a kernel's type is written where a program includes no header of the kernel's own."""
    if kind == "bool":
        return "int, or include vmlinux.h, which declares bool"
    if kind == "size_t":
        return "__u64, or include vmlinux.h, which declares size_t"
    return f"__{kind}: the short name is BCC's, and vmlinux.h's"


def _members(struct: str, text: str) -> str:
    """What a struct of the text has instead."""
    body = re.search(rf"\b(?:struct|union)\s+{re.escape(struct)}\s*\{{([^{{}}]*)\}}", text)
    names = re.findall(r"(\w+)\s*(?:\[[^]]*\]\s*)*[;,:]", body[1]) if body else []
    if names:
        return f"{struct} has {', '.join(names)}"
    return f"look at the declaration of {struct}: is the name spelt as it is there?"
