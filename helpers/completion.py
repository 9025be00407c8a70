"""What Tab offers: functions of a program behind ``prog.run("``, and names of C in ``%%bpf``."""

import functools
import re
from pathlib import Path

import IPython
from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from helpers import kernel
from helpers.program import Program

_INCLUDE = Path("/usr/include")
# Which names of which header a program uses: helpers, macros for maps and sections, constants.
_NAMES = {
    "bpf/bpf_helper_defs.h": r"\(\* ?(?:const )?(bpf_\w+)\)",
    "bpf/bpf_helpers.h": r"^#define (\w+)",
    "linux/bpf.h": r"\b((?:BPF|XDP|TC|SK)_[A-Z]\w+)",
}


@context_matcher()
def offer(context: CompletionContext) -> SimpleMatcherResult:
    """Names that fit where the cursor is, for IPython."""
    before = context.text_until_cursor
    magic, _, body = context.full_text.partition("\n")
    in_c = re.match(r"%%bpf\b", magic) and body and context.cursor_line
    begun, found = _of_c(before, bcc=" bcc" in magic) if in_c else _of_program(before)
    closed = context.line_with_cursor[len(before) :][:1]  # a quote that the editor has put there
    kind = "text" if in_c else "function"
    fitting = [one for one in found if one.startswith(begun)]
    return {
        "completions": [
            SimpleCompletion(one.removesuffix(closed) if closed in '">' else one, type=kind)
            for one in fitting
        ],
        "matched_fragment": begun,
        "suppress": True,
    }


def bring() -> None:
    """Have IPython's shell, if this is one, ask here, too."""
    shell = IPython.get_ipython()
    if shell and offer not in shell.Completer.custom_matchers:
        shell.Completer.custom_matchers.append(offer)


def _of_program(before: str) -> tuple[str, list[str]]:
    """What was begun of the name of a function, and the functions of the program."""
    found = re.search(r"\b(\w+)\.(?:run|attach|function)\(\s*[\"'](\w*)$", before)
    shell = IPython.get_ipython()
    program = shell.user_ns.get(found[1]) if found else None
    return (found[2], program.programs) if found and isinstance(program, Program) else ("", [])


def _of_c(before: str, *, bcc: bool) -> tuple[str, list[str]]:
    """What was begun of a name of C, and the names that may stand there."""
    if header := re.search(r"#\s*include\s*([\"<][\w/.]*)$", before):
        return header[1], _headers()
    if kind := re.search(r"__uint\(\s*type\s*,\s*(\w*)$", before):
        return kind[1], [one for one in _names(bcc) if one.startswith("BPF_MAP_TYPE_")]
    begun = re.search(r"\w+$", before)
    return (begun[0], _names(bcc)) if begun else ("", [])


@functools.cache
def _headers() -> list[str]:
    """The course's own headers, and all that its programs include."""
    sources = "".join(path.read_text() for path in kernel.ROOT.glob("bpf/*.bpf.c"))
    included = re.findall(r"^#include (<[\w/.]+>)", sources, re.MULTILINE)
    return sorted({*included, *(f'"{path.name}"' for path in kernel.ROOT.glob("bpf/*.h"))})


@functools.cache
def _names(bcc: bool) -> list[str]:
    """Names from the headers that are installed; BCC brings macros of its own."""
    found = set[str]()
    for header, pattern in _NAMES.items():
        path = _INCLUDE / header
        if path.is_file() and not (bcc and header == "bpf/bpf_helpers.h"):
            found.update(re.findall(pattern, path.read_text(), re.MULTILINE))
    if bcc:
        sources = "".join(path.read_text() for path in kernel.ROOT.glob("bpf/*.bcc.c"))
        found.update(re.findall(r"^(BPF_[A-Z_]+)\(", sources, re.MULTILINE))
    return sorted(found)
