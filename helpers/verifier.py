"""From the verifier's log to a diagnostic: which expression, which rule, what to write instead.

All of it comes from the log and from BTF line information, so any kernel will do. What is not
recognised is shown as it is, beside its source line, and never explained by guesswork.
"""

import re
from dataclasses import replace
from itertools import pairwise

from helpers import kernel
from helpers.diagnostics import Diagnostic, Mark, argument, code, expression
from helpers.lineinfo import Function, LineInfo, Place
from helpers.rules import Told, recognise
from helpers.walk import FULL, Step, Walk, read

__all__ = ["FULL", "explain"]

_BCC_FILE = "main.c"  # what BCC calls the copy that it compiles
_TAIL = 2_000_000  # characters of a log that are read: its end
_TYPES = {
    "scalar": "a number",
    "inv": "a number",
    "fp": "the address of a local variable",
    "ctx": "the context",
    "map_ptr": "a map",
    "map_value": "a pointer into a map's value",
    "pkt": "a pointer into the packet",
    "pkt_end": "the end of the packet",
    "ringbuf_mem": "a reservation in a ring buffer",
    "alloc_mem": "a reservation in a ring buffer",
}


def explain(
    log: str, source: str, name: str, lines: LineInfo | None = None, program: str = ""
) -> Diagnostic:
    """The diagnostic for the ``log`` of a program whose C is ``source``, of the file ``name``.

    With the ``lines`` of its object, and the name of the ``program`` in it, the expression is
    known. Where no columns are, as with BCC, it is looked for in the line, and the whole line is
    marked if it could be more than one.
    """
    walk = read(log[-_TAIL:])
    view = _View(walk, source, name, lines, program)
    said = walk.said[0] if walk.said else ""
    known = recognise(walk)
    if not known:
        here = view.mark(walk.end) or view.named()
        error = "the verifier refused this program"
        return Diagnostic(error, name, here, said=said, log=log)
    rule, told = known
    here, cause = view.where(told), None
    if rule.cause and (before := rule.cause(told)) and before is not walk.end:
        cause = view.mark(before, rule.cause_is)
        if cause and _aside(before, cause):
            start, end = code(cause.text)
            cause = replace(cause, start=start, end=end)
    whole = here and (here.start, here.end) == code(here.text)
    if here and whole and not (lines and lines.columns):
        here = _by_variable(here, cause) or here
    names = _names(told, here, cause, source)
    return Diagnostic(
        rule.error.format(**names),
        name,
        here,
        cause,
        rule.help.format(**names),
        next((one for one in walk.said if re.search(rule.says, one)), said),
        rule=rule.name,
        log=log,
    )


def _aside(step: Step, mark: Mark) -> bool:
    """Is the column that of something else: of what a constant, or an argument, is made for?"""
    constant = re.search(r" = (-?\d+|0x\w+)$", step.code)
    return bool(constant or (re.match(r"\w+\s*\(", mark.marked) and "call " not in step.code))


class _View:
    """The learner's source, as the steps of a walk came from it."""

    def __init__(
        self, walk: Walk, source: str, name: str, lines: LineInfo | None, program: str
    ) -> None:
        self._walk, self._name, self._lines = walk, name, lines
        self._functions = _layout(walk, lines, program) if lines else {}
        self._text = source.splitlines()
        self._bare = [line.strip() for line in self._text]

    def mark(self, step: Step | None, note: str = "") -> Mark | None:
        """The expression that a step came from."""
        while step:
            if place := self._place(step.insn):
                mark = self._at(place, note)
                return _call(mark, step.code) if self._alone(step.insn) else mark
            if step.text and not (step.sure and self._functions.get(self._start(step.insn))):
                return self._line(step.text, step.file, step.line, note)
            # Code of the compiler's own belongs to no line: what led there does.
            step = self._walk.steps[step.before] if step.before >= 0 else None
        return None

    def named(self, note: str = "") -> Mark | None:
        """The line that the log named last."""
        text, file, line = self._walk.seen
        return self._line(text, file, line, note) if text else None

    def where(self, told: Told) -> Mark | None:
        """The place of a verdict, which may name an instruction, or a register of a call."""
        groups = told.match.groupdict()
        step, number = self._walk.end, groups.get("insn") or groups.get("from")
        if number and (last := self._walk.last(int(number))):
            step = last
        if step and not self._walk.whole:
            # An old kernel's log that ran full: its end is not where the verdict was.
            step = self._walk.follows(groups["reg"]) if groups.get("reg") else None
            return self.mark(step) or self.mark(self._walk.end, "the log was full here")
        if step is None:
            return self._unwalked(int(number) if number else None, "calls" in groups)
        mark = self.mark(step)
        if mark and groups.get("reg") and step.code.startswith("call bpf_"):
            called = _helper(step)
            if mark.text[mark.start :].startswith((called, f"bpf_{called}")):
                found = argument(mark.text, mark.start, int(groups["reg"]))
                mark = replace(mark, start=found[0], end=found[1]) if found else mark
        return mark

    def _unwalked(self, insn: int | None, calls: bool) -> Mark | None:
        """The place of a verdict that came before the first step, or after the last one."""
        place: Place | None = None
        if self._lines and insn is not None:
            place = self._place(insn)
        elif self._lines and calls and (main := self._functions.get(0)):
            place = self._lines.deepest(main)
        elif self._lines:
            place = self._lines.open_end()
        return self._at(place, "") if place else self.named()

    def _start(self, insn: int) -> int:
        return max(start for start in self._walk.starts if start <= insn)

    def _alone(self, insn: int) -> bool:
        """Is the instruction a call like no other of its line, whose column is not known?"""
        start = self._start(insn)
        function = self._functions.get(start)
        if not self._lines or self._lines.columns or not function:
            return False
        return self._lines.only_call(function, insn - start)

    def _place(self, insn: int) -> Place | None:
        """What line information says of an instruction."""
        start = self._start(insn)
        function = self._functions.get(start)
        return self._lines.place(function, insn - start) if self._lines and function else None

    def _at(self, place: Place, note: str) -> Mark:
        mark = self._line(place.text, place.file, place.line, note)
        if place.column:
            start = len(mark.text.encode()[: place.column - 1].decode(errors="ignore"))
            first, last = expression(mark.text, start)
            return replace(mark, start=first, end=last)
        return mark

    def _line(self, text: str, file: str, line: int, note: str) -> Mark:
        """A line as the log names it, whole."""
        number: int | None = line or None
        if not line or file == _BCC_FILE:  # kernels before 6.9 name the text alone
            file, number = self._name, None
            if self._bare.count(text.strip()) == 1:
                number = self._bare.index(text.strip()) + 1
        if file == self._name and number:
            if number <= len(self._text):
                text = self._text[number - 1]
            else:
                number = None
        return Mark(file, number, text, *code(text), note)


def _layout(walk: Walk, lines: LineInfo, program: str) -> dict[int, Function]:
    """Which function of an object begins at which instruction of the program that was loaded.

    The loader lays the functions that a program calls behind it, one after the other. The log
    tells where they begin, and what stands in them which is which.
    """
    own = [function for function in lines.functions if function.name == program]
    found = {0: own[0]} if own else {}
    starts = sorted(walk.starts)
    for start, end in pairwise([*starts[1:], 1 << 32]):
        steps = [step for step in walk.steps if start <= step.insn < end and step.sure]

        def fits(function: Function, start: int = start, steps: list[Step] = steps) -> bool:
            for step in steps:
                place = lines.place(function, step.insn - start)
                if (place.text.strip() if place else "") != step.text:
                    return False
            return function not in own

        fitting = [function for function in lines.functions if fits(function)]
        if len(fitting) == 1:
            found[start] = fitting[0]
    return found


def _helper(step: Step | None) -> str:
    """The name of the helper that a step calls; empty if it calls none."""
    found = re.match(r"call (\w+)#", step.code) if step else None
    return found[1] if found else ""


def _call(mark: Mark, what: str) -> Mark:
    """The mark, drawn in to the call that an instruction is, in either dialect."""
    helper = re.match(r"call bpf_(?:map_)?(\w+?)(?:_elem)?#", what)
    name = rf"\w*\b(?:bpf_\w*|\w+\.)?{helper[1]}\w*\s*\(" if helper else ""
    return _only(mark, name) or mark


def _by_variable(here: Mark, cause: Mark | None) -> Mark | None:
    """Where a line follows the pointer that an earlier one made, as far as its text tells."""
    made = _made(cause)
    return _only(here, rf"\*\s*{made}\b|\b{made}\s*(?:->|\[)") if made else None


def _only(mark: Mark, pattern: str) -> Mark | None:
    """The mark, drawn in to the expression that begins so, if the line has no other like it."""
    first, last = code(mark.text)
    found = [*re.finditer(pattern, mark.text[first:last])] if pattern else []
    if len(found) != 1:
        return None
    start, end = expression(mark.text, first + found[0].start())
    return replace(mark, start=start, end=end)


def _made(cause: Mark | None) -> str:
    """The variable that the marked expression of a line is assigned to; empty if none is seen."""
    assigned = r"\b(\w+)\s*=(?!=)"
    made = re.findall(assigned, cause.text) if cause else []
    if cause and len(set(made)) > 1:
        made = re.findall(rf"{assigned}\s*(?:\([^()]*\)\s*)?$", cause.text[: cause.start])
    return made[0] if made else ""


def _names(told: Told, here: Mark | None, cause: Mark | None, source: str) -> dict[str, str]:
    """What the braces in a rule's texts stand for."""
    names = {key: value for key, value in told.match.groupdict().items() if value}
    shown = here.text[here.start : here.end] if here else ""
    used = re.search(r"[A-Za-z_]\w*", shown)
    made = _made(cause)
    index = re.search(r"\[\s*([A-Za-z_]\w*)\s*\]", shown)
    end = re.search(r"(\w+)\s*=[^,;=]*->\s*data_end\b", source)
    names["pass"] = "XDP_PASS" if "xdp_md" in source else "0"
    names["helper"] = names.get("helper") or _helper(told.walk.end) or "the helper"
    named = made and re.search(rf"\b{made}\b", shown)
    names["var"] = made if named else used[0] if used else "pointer"
    names["index"] = index[1] if index else "index"
    names["past"] = f"&{shown} + 1" if "[" in shown else f"{used[0] if used else 'pointer'} + 1"
    names["end"] = end[1] if end else "data_end"
    if kind := names.get("type"):
        names["type"] = _TYPES.get(kind, f"of the type {kind}")
    if number := names.get("map"):
        kinds = kernel.MAP_TYPES
        names["map"] = kinds[int(number)] if int(number) < len(kinds) else f"number {number}"
    names["range"] = _range(names.get("range", ""))
    return names


def _range(text: str) -> str:
    """The kernel's ways to write a range, in words."""
    if found := re.match(r"\[(-?\d+), (-?\d+)\]", text):
        return f"{found[1]} to {found[2]}"
    if found := re.match(r"\(0x(\w+); 0x(\w+)\)", text):  # the bits that are known, and those not
        known, open_ = int(found[1], 16), int(found[2], 16)
        return f"{known} to {known | open_}" if open_ else str(known)
    return text
