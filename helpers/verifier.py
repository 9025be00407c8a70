"""From the verifier's log to a message: which line, which rule, what to write instead.

What the kernel says is matched against rules that we have met and tested; anything else is shown
as it is, beside its source line, and never explained by guesswork.
"""

import re
from dataclasses import dataclass

_SOURCE = re.compile(r"^; (?P<text>.*?)(?: @ (?P<file>[^@]+):(?P<line>\d+))?$")
_STEP = re.compile(r"^(; |\d+: |from \d+)")  # what it walked through, as opposed to its verdict
_NOISE = re.compile(r"^(verification time|stack depth|(cur|old) state:|R\d+(_w)?=|-- |\s|$)")


@dataclass(frozen=True)
class Rule:
    """``says`` matches the kernel's sentence; ``cause`` the earlier source line to show, if any."""

    says: str
    error: str
    help: str
    cause: str = ""
    cause_is: str = ""


RULES = [
    Rule(
        r"invalid mem access 'map_value_or_null'",
        "the lookup may have returned NULL, and this line follows the pointer anyway",
        "check the pointer before this line, as in  if (!value) return XDP_PASS;",
        r"bpf_map_lookup_elem|\.lookup\(",
        "NULL when the key is absent",
    ),
    Rule(
        r"invalid mem access '(ringbuf_)?(alloc_)?mem_or_null'",
        "the reservation may have returned NULL, and this line follows the pointer anyway",
        "check the pointer before this line, as in  if (!event) return 0;",
        r"bpf_ringbuf_reserve",
        "NULL when the ring is full",
    ),
    Rule(
        r"invalid access to packet",
        "this line reads packet bytes that may lie behind the packet's end",
        "compare with data_end before this line, as in  if ((void *)(eth + 1) > data_end) return "
        "XDP_PASS;",
    ),
    Rule(
        r"invalid access to map value|(min|max) value is (outside|negative)|unbounded memory",
        "this line may reach outside the map's value",
        "check the index against the size of the value before this line",
    ),
    Rule(
        r"invalid (indirect )?(read|access) (from|to) stack|invalid read from stack",
        "this line passes stack bytes that were never written; padding between fields counts too",
        "zero the whole variable first, as in  struct conn_key key = {};  "
        "or __builtin_memset(&key, 0, sizeof(key));",
    ),
    Rule(
        r"!read_ok",
        "this line uses a variable that has no value yet",
        "give it a value on every path that leads here",
    ),
    Rule(
        r"combined stack size|invalid (variable-offset )?write to stack",
        "the program needs more than the 512 bytes of stack that it has",
        "move the large variable into a map, such as a per-CPU array of one entry",
    ),
    Rule(
        r"back-edge|infinite loop detected|too many instructions|program is too large",
        "the verifier cannot see this loop end",
        "give the loop a constant bound, as in  for (int i = 0; i < 16; i++)",
    ),
    Rule(
        r"is not a known constant",
        "the kernel must know this size before the program runs",
        "reserve the largest size, or send a record of any length with bpf_ringbuf_output()",
    ),
    Rule(
        r"Unreleased reference",
        "a path through the program keeps what it reserved",
        "submit or discard the reservation on every path",
    ),
    Rule(
        r"unknown func|cannot use helper|not allowed in|helper call is not allowed",
        "this type of program may not call this helper",
        "look up which program types have it in bpf-helpers(7)",
    ),
    Rule(
        r"GPL.restricted|cannot call GPL",
        "this helper is only for programs under a GPL-compatible license",
        'declare  char LICENSE[] SEC("license") = "Dual MIT/GPL";',
    ),
]


@dataclass(frozen=True)
class Line:
    """A source line as the log names it; ``number`` is None when it cannot be told."""

    text: str
    number: int | None


def explain(log: str, source: str, name: str) -> str:
    """The diagnostic for a verifier ``log`` of a program whose C text is ``source``."""
    said, lines = _read(log, source, name)
    rule = next((r for r in RULES if re.search(r.says, "\n".join(said))), None)
    here = lines[-1] if lines else None
    cause = None
    if rule and rule.cause:
        cause = next((s for s in reversed(lines[:-1]) if re.search(rule.cause, s.text)), None)
    out = [rule.error if rule else "the verifier refused this program"]
    if here:
        out += _picture(here, cause, name, rule.cause_is if rule else "")
    if rule:
        out.append(f"help: {rule.help}")
    out.append(f"(the kernel said: {said[0] if said else 'nothing'})")
    return "\n".join(out)


def _read(log: str, source: str, name: str) -> tuple[list[str], list[Line]]:
    """The verifier's sentences, and the source lines that it walked through to get there."""
    rows = log.partition("\nprocessed ")[0].splitlines()  # BCC adds hints of its own behind that
    last = max((i for i, row in enumerate(rows) if _STEP.match(row)), default=-1)
    said = [row.strip() for row in rows[last + 1 :] if not _NOISE.match(row)]
    text = [line.strip() for line in source.splitlines()]
    seen = [match for row in rows if (match := _SOURCE.match(row))]
    # BCC compiles a rewritten copy: our lines, further down, some of them changed. Those that are
    # the same and unique tell how far their neighbours were moved.
    moved = {}
    for match in seen:
        if (
            match["line"]
            and match["file"].strip() != name
            and text.count(match["text"].strip()) == 1
        ):
            moved[int(match["line"])] = text.index(match["text"].strip()) + 1
    lines = []
    for match in seen:
        words, number = match["text"].strip(), None
        if match["line"]:
            number = given = int(match["line"])
            if match["file"].strip() != name:
                near = min(moved, key=lambda known: abs(known - given), default=None)
                number = None if near is None else given - near + moved[near]
        elif text.count(words) == 1:  # kernels before 6.9 give the text without the number
            number = text.index(words) + 1
        known = number is not None and 0 < number <= len(text)
        lines.append(Line(text[number - 1], number) if known and number else Line(words, None))
    return said, lines


def _picture(here: Line, cause: Line | None, name: str, cause_is: str) -> list[str]:
    width = len(str(here.number or (cause and cause.number) or ""))
    place = f"{name}:{here.number}" if here.number else name
    rows = [f"{' ' * width}--> {place}", f"{' ' * width} |"]
    shown = [(cause, "-", cause_is)] if cause and cause.number != here.number else []
    for line, mark, note in [*shown, (here, "^", "")]:
        rows.append(f"{line.number or '':>{width}} | {line.text}")
        rows.append(f"{' ' * width} | {mark * len(line.text)} {note}".rstrip())
    return [*rows, f"{' ' * width} |"]
