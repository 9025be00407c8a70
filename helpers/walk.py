"""The verifier's log, read: which instructions it walked over, on which way, and its verdict."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

# What a log is made of: the C, the instructions that came from it, and branches taken up again.
_SOURCE = re.compile(
    r"^(?:; |\d+: (?!\(|R\d))(?P<text>.*?)(?: @ (?P<file>[^@\s]+):(?P<line>\d+))?$"
)
_STEP = re.compile(r"^(?P<insn>\d+): \([0-9a-f]{2}\) (?P<code>.*?)(?:\s*;\s?(?P<state>.*))?$")
_AGAIN = re.compile(r"\s+\d+: R\d")  # what is printed behind a branch that is taken up again
_BRANCH = re.compile(r"^from (\d+) to \d+")
_STATE = re.compile(r"^(\d+: R\d| R\d| frame\d)")
_NOISE = re.compile(
    r"^(verification time|stack depth|(cur|old) state:|R\d+(_\w+)?=|-- |\s|$|mark_precise|last_idx"
    r"|regs=|parent |arg#\d+ reference type|reg type unsupported|Validating |Func#|func#|caller:"
    r"|callee:)"
)

_SLOT = re.compile(r"\*\(u64 \*\)\(r10 [-+]\d+\)$")  # of the stack, read or written as a whole
_ARGUMENTS = {"r1", "r2", "r3", "r4", "r5"}


FULL = "-- the log was full here, and the verifier went on"


@dataclass(frozen=True)
class Step:
    """An instruction that the verifier walked over, and the C that the log names for it.

    ``text`` is empty where it names none, ``line`` 0 on kernels before 6.9. It is not ``sure``
    where a branch was taken up again: the log leaves out what it said before, though it took that
    back. ``before`` is the place in ``Walk.steps`` of the step that led here, or -1.
    """

    insn: int
    code: str
    state: str
    text: str
    file: str
    line: int
    sure: bool
    before: int

    @property
    def calls(self) -> int | None:
        """The instruction at which the function begins that it calls."""
        found = re.match(r"call pc([+-]\d+)", self.code)
        return self.insn + 1 + int(found[1]) if found else None


class Trace(NamedTuple):
    """Where a register's value comes from: the step that made it, and the way from there."""

    step: Step
    path: list[Step]  # from that step to the end, both included


@dataclass(frozen=True)
class Walk:
    """``steps`` in the order in which they were taken; ``said`` is the verdict, in sentences.

    ``starts`` are the instructions at which functions begin. ``seen`` is the C that was named
    last: all there is when the program was refused before the first step. The walk is not
    ``whole`` where the log ran full: then its end is not where the verdict was.
    """

    steps: list[Step]
    said: list[str]
    starts: set[int]
    seen: tuple[str, str, int]
    whole: bool = True

    @property
    def end(self) -> Step | None:
        """The step at which the walk ended."""
        return self.steps[-1] if self.steps else None

    def path(self) -> Iterator[Step]:
        """The steps that led to the end, backwards."""
        at = len(self.steps) - 1
        while at >= 0:
            yield self.steps[at]
            at = self.steps[at].before

    def last(self, insn: int) -> Step | None:
        """The last time that it walked over an instruction."""
        return next((step for step in reversed(self.steps) if step.insn == insn), None)

    def follows(self, register: str) -> Step | None:
        """The one instruction that follows the pointer in a register; None if several do."""
        found = [step for step in self.steps if re.search(rf"\*\)\(r{register} ", step.code)]
        return found[-1] if len({step.insn for step in found}) == 1 else None

    def origin(self, register: int) -> Trace | None:
        """The step that made what a register holds at the end, through copies and the stack.

        None where it cannot be told: it is an argument of the program, say.
        """
        name, level, at, path = f"r{register}", 0, 0, list[Step]()
        for step in self.path():
            after = path[-1] if path else None
            path.append(step)
            if after is None:
                continue  # the step that was refused
            if step.code == "exit":  # backwards into a function that was called
                at += 1
                level += name == "r0" and level == at - 1
            elif (target := step.calls) is not None and after.insn == target:  # and out of it
                at -= 1
                if level > at:
                    if name not in _ARGUMENTS:
                        return None
                    level = at
            elif level != at:
                continue
            elif name == "r0" and step.code.startswith("call "):
                return Trace(step, path[::-1])
            elif step.code.startswith((f"{name} = ", f"w{name[1:]} = ")):
                made = step.code.partition(" = ")[2]
                if not (re.match(r"r\d+$", made) or _SLOT.match(made)):
                    return Trace(step, path[::-1])
                name = made
        return None


def read(log: str) -> Walk:
    """Take a log apart."""
    rows = log.partition("\nprocessed ")[0].splitlines()  # BCC adds hints of its own behind that
    steps, starts, latest = list[Step](), {0}, dict[int, int]()
    text, file, line, before, last = "", "", 0, -1, -1
    fresh, sure = False, False  # fresh: a function begins here, that is verified by itself
    for i, row in enumerate(rows):
        if found := _STEP.match(row):
            insn, (what, *again) = int(found["insn"]), _AGAIN.split(found["code"])
            if fresh:
                starts.add(insn)
            state = found["state"] or ""
            steps.append(Step(insn, what.strip(), state, text, file, line, sure, before))
            sure = sure and not again
            latest[insn] = before = len(steps) - 1
            if (target := steps[-1].calls) is not None:
                starts.add(target)
            last, fresh = i, False
        elif branch := _BRANCH.match(row):
            last, before, sure = i, latest.get(int(branch[1]), before), False
        elif row.startswith("Validating "):
            last, before, fresh, sure = i, -1, True, False
        elif _STATE.match(row):
            last = i
        elif found := _SOURCE.match(row):
            # Line 0 is code of the compiler's own, which belongs to no line.
            last, text, file, sure = i, found["text"].strip(), found["file"] or "", True
            line = int(found["line"] or 0)
    said = [row.strip() for row in rows[last + 1 :] if not _NOISE.match(row)]
    return Walk(steps, said, starts, (text, file, line), FULL not in rows)
