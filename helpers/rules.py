"""What the verifier objects to: its sentences, what they mean, and what to write instead.

A rule matches the kernel's sentence word for word, as it was met on a real kernel. Where one
sentence has several causes, the rule looks at the way that led there, and else leaves it alone.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from helpers.walk import Step, Trace, Walk

_RELEASES = re.compile(r"call bpf_ringbuf_(submit|discard)\b")
_MOVES_PACKET = re.compile(
    r"call bpf_(xdp_adjust_(head|tail|meta)|skb_(pull_data|change_\w+|adjust_room|store_bytes"
    r"|vlan_(push|pop))|l[34]_csum_replace|clone_redirect|msg_(pull|push|pop)_data)\b"
)
_MAY_SLEEP = r"bpf_(copy_from_user(_task)?|ima_(inode|file)_hash|sys_bpf|sys_close)"


class Told(NamedTuple):
    """What a rule may look at: the log, and the match of its sentence."""

    walk: Walk
    match: re.Match[str]


@dataclass(frozen=True)
class Rule:
    """``says`` matches the kernel's sentence; ``when`` has the last word on whether it applies.

    ``name`` is what tests call it. ``error`` and ``help`` hold names in braces: groups of
    ``says``, ``{pass}`` for what the program returns when all is well, ``{var}`` for the variable
    in question, ``{helper}`` for what is called. The group ``reg`` is the register that the kernel
    names, which in a call is an argument. ``cause`` finds the earlier step that led to it, and
    ``cause_is`` says what that line did.
    """

    name: str
    says: str
    error: str
    help: str
    cause: Callable[[Told], Step | None] | None = None
    cause_is: str = ""
    when: Callable[[Told], bool] | None = None


def _origin(told: Told) -> Trace | None:
    return told.walk.origin(int(told.match["reg"]))


def _made(told: Told) -> Step | None:
    """The step that made the value of the register that the kernel names."""
    trace = _origin(told)
    return trace.step if trace else None


def _varies(told: Told) -> Step | None:
    """As ``_made``, if what it made is no constant."""
    step = _made(told)
    return step if step and not re.search(r" = (-?\d+|0x\w+)$", step.code) else None


def _packet(word: str) -> Callable[[Told], Step | None]:
    """As ``_made``, if it read that pointer of the packet from the context."""

    def find(told: Told) -> Step | None:
        step = _made(told)
        read = step and re.search(r" = \*\(u32 \*\)\(r\d+ \+\d+\)$", step.code)
        return step if step and read and re.search(rf"->\s*{word}\b", step.text) else None

    return find


def _from_call(*calls: str) -> Callable[[Told], Step | None]:
    """As ``_made``, if it was one of these calls."""

    def find(told: Told) -> Step | None:
        step = _made(told)
        return step if step and any(f"call {name}#" in step.code for name in calls) else None

    return find


def _from(*calls: str) -> Callable[[Told], bool]:
    return lambda told: _from_call(*calls)(told) is not None


def _after(pattern: re.Pattern[str], held: str) -> Callable[[Told], Step | None]:
    """A call that made the register's value worthless, after ``held`` says what it had been."""

    def find(told: Told) -> Step | None:
        trace = _origin(told)
        if not trace or not re.search(held, f"{trace.step.code} {trace.step.text}"):
            return None
        calls = [step for step in trace.path[1:-1] if pattern.search(step.code)]
        return calls[-1] if calls else None

    return find


_released = _after(_RELEASES, r"call bpf_ringbuf_reserve#")
_packet_moved = _after(_MOVES_PACKET, r"\(r\d+ \+\d+\).*->\s*data\b")


def _overwritten(told: Told) -> Step | None:
    """The store that broke into a pointer on the stack, where the register was read from."""
    path = list(told.walk.path())[::-1]
    slot, read = 0, len(path)
    for i, step in enumerate(path):
        load = re.match(rf"r{told.match['reg']} = \*\(u64 \*\)\(r10 (-\d+)\)", step.code)
        if load:
            slot, read = int(load[1]), i
    pointer, broke = False, None
    for before, step in pairwise(path[:read] if slot else []):
        store = re.match(r"\*\(u(\d+) \*\)\(r10 (-\d+)\) = ", step.code)
        if not store:
            continue
        at, size = int(store[2]), int(store[1]) // 8
        if (at, size) == (slot, 8):
            known = re.search(rf"\bfp{slot}(_\w+)?=(?!scalar|inv)\w+\(", step.state)
            pointer, broke = bool(known or before.code.startswith("call bpf_")), None
        elif at < slot + 8 and slot < at + size:
            broke = step
    return broke if pointer else None


def _allocated(told: Told) -> Step | None:
    return told.walk.last(int(told.match["alloc"]))


def _at_exit(told: Told) -> bool:
    step = told.walk.end
    return bool(step and step.code == "exit" and not re.search(r"\breturn\b", step.text))


def _stores(told: Told) -> bool:
    step = told.walk.end
    return bool(step and re.match(r"(lock )?\*\(", step.code))


def _is_address_0(trace: Trace | None) -> bool:
    # An address of 64 bits, which is printed in hexadecimal, and that nobody has put in.
    return trace is not None and trace.step.code.endswith(" = 0x0")


def _is_null(trace: Trace | None) -> bool:
    return trace is not None and re.search(r"[rw]\d+ = 0$", trace.step.code) is not None


def _calls(told: Told) -> bool:
    return told.walk.end is not None and told.walk.end.code.startswith("call bpf_")


def _not_of_a_map(told: Told) -> bool:
    step = told.walk.end  # a map's own key or value may have no bytes: that is no size in the call
    return bool(step and re.match(r"call bpf_(?!map_)", step.code))


def _past_the_frame(told: Told) -> bool:
    at, size = int(told.match["off"]), int(told.match["size"])
    return at + size > 0 or at < -512


_LOOKUPS = ("bpf_map_lookup_elem", "bpf_map_lookup_percpu_elem")

RULES = [
    # --- pointers that may be NULL
    Rule(
        "null-check",
        r"R(?P<reg>\d+) invalid mem access 'map_value_or_null'",
        "the lookup may have returned NULL, and this line follows the pointer anyway",
        "check the pointer before this line, as in  if (!{var}) return {pass};",
        _from_call(*_LOOKUPS),
        "NULL when the key is absent",
    ),
    Rule(
        "null-check",
        r"R(?P<reg>\d+) invalid mem access '(ringbuf_|alloc_)?mem_or_null'",
        "the reservation may have returned NULL, and this line follows the pointer anyway",
        "check the pointer before this line, as in  if (!{var}) return {pass};",
        _from_call("bpf_ringbuf_reserve"),
        "NULL when the ring is full",
        _from("bpf_ringbuf_reserve"),
    ),
    Rule(
        "null-check",
        r"R(?P<reg>\d+) (invalid mem access '\w+_or_null_?'|pointer arithmetic on \w+_or_null_?)",
        "this pointer may be NULL, and this line uses it anyway",
        "check the pointer before this line, as in  if (!{var}) return {pass};",
        _made,
        "may give NULL",
    ),
    Rule(
        "inner-map-null",
        r"R(?P<reg>1) type=map_value_or_null expected=map_ptr",
        "the outer map may have returned NULL, and this line takes it for a map",
        "check what the outer lookup returned, as in  if (!{var}) return {pass};",
        _from_call(*_LOOKUPS),
        "NULL when there is no inner map",
    ),
    Rule(
        "null-argument",
        r"R(?P<reg>\d) type=\w+_or_null_? expected=",
        "this argument may be NULL, and {helper}() wants something to read or write",
        "check it before this line, as in  if (!{var}) return {pass};",
        _made,
        "may give NULL",
    ),
    # --- memory that ends
    Rule(
        "size-bounds",
        r"invalid access to map value, value_size=\d+ off=(?P<off>-?\d+) size=(?P<size>\d+)"
        r"|invalid access to memory, mem_size=\d+",
        "{helper}() is given more bytes than there are at that place",
        "give it the size of what you point to, as in  sizeof(value)",
        when=lambda told: _calls(told),
    ),
    Rule(
        "size-bounds",
        r"invalid (read from|write to|indirect access to) stack R\d+ off=(?P<off>-?\d+) "
        r"size=(?P<size>\d+)",
        "{helper}() is given more bytes than the local variable has",
        "give it the size of the variable, as in  sizeof(key)",
        when=lambda told: _calls(told) and _past_the_frame(told),
    ),
    Rule(
        "packet-far",
        r"invalid access to packet, off=(?P<off>6553\d) size=\d+, R(?P<reg>\d+)",
        "this loop may go on behind byte 65,535 of a packet, where the verifier follows no more",
        "give the loop a bound, as in  for (int i = 0; i < 1500; i++)",
    ),
    Rule(
        "packet-bounds",
        r"invalid access to packet, off=-?\d+ size=\d+, R(?P<reg>\d+)",
        "this line uses packet bytes that may lie behind the packet's end",
        "compare with {end} before this line, as in  if ((void *)({past}) > {end}) return {pass};",
        _packet("data"),
        "where the packet begins; its length is not known",
        lambda told: "min value is negative" not in told.match.string,
    ),
    Rule(
        "negative-index",
        r"R(?P<reg>\d+) min value is negative, either use unsigned index",
        "the index on this line may be negative",
        "make it unsigned, or check it before this line, as in  if ({index} < 0) return {pass};",
    ),
    Rule(
        "negative-index",
        r"invalid access to map value, value_size=\d+ off=-\d+ size=\d+",
        "this line may reach in front of the map's value",
        "make the index unsigned, or check it before this line, as in  "
        "if ({index} < 0) return {pass};",
    ),
    Rule(
        "value-bounds",
        r"invalid access to map value, value_size=(?P<size>\d+) off=-?\d+ size=\d+",
        "this line may reach outside the map's value, which has {size} bytes",
        "check the index against the size of the value before this line, as in  "
        "if ({index} >= SIZE) return {pass};",
    ),
    Rule(
        "value-bounds",
        r"R(?P<reg>\d+) (unbounded memory access, make sure to bounds check"
        r"|max value is outside of the allowed memory range)",
        "this line may reach outside the map's value",
        "check the index against the size of the value before this line, as in  "
        "if ({index} >= SIZE) return {pass};",
        when=_from(*_LOOKUPS),
    ),
    Rule(
        "memory-bounds",
        r"R(?P<reg>\d+) unbounded memory access, make sure to bounds check"
        r"|R\d+ max value is outside of the allowed memory range"
        r"|invalid access to memory, mem_size",
        "this line may reach outside the memory that it points into",
        "check the index or the size before this line",
    ),
    Rule(
        "pointer-range",
        r"math between \w+ pointer and (register with unbounded min value|-?\d+) is not allowed"
        r"|value -?\d+ makes \w+ pointer be out of bounds",
        "this line moves a pointer by a number that may be anything",
        "check the number before this line, or make it small, as in  index &= 7;",
    ),
    Rule(
        "stack-bounds",
        r"invalid (unbounded )?variable-offset (read|write|indirect access|access) (from|to) stack"
        r"|R\d+ unbounded (indirect )?variable offset stack access",
        "this line may reach outside a local array",
        "check the index against the size of the array before this line, or make it small, as in  "
        "index &= 15;",
    ),
    Rule(
        "stack-bounds",
        r"invalid (read from|write to|indirect access to) stack R\d+ off=(?P<off>-?\d+) "
        r"size=(?P<size>\d+)",
        "this line reaches outside a local array",
        "check the index against the size of the array before this line",
        when=_past_the_frame,
    ),
    Rule(
        "size-bounds",
        r"R(?P<reg>\d) (unbounded memory access, use 'var &= const'"
        r"|min value is negative, either use unsigned or 'var &= const')",
        "this size may be larger than the memory that {helper}() is given",
        "bound it before this line, as in  size &= 63;  or  if (size > sizeof(buffer)) "
        "return {pass};",
        _varies,
        "any number may come out here",
    ),
    Rule(
        "size-bounds",
        r"R(?P<reg>\d) invalid zero-sized read",
        "this size may be 0, and {helper}() wants one byte at least",
        "check it before this line, as in  if (!size) return {pass};",
    ),
    Rule(
        "size-bounds",
        r"^invalid zero-sized read$",  # before 6.8, of a register that it does not name
        "a size in this call may be 0, and {helper}() wants one byte at least",
        "check it before this line, as in  if (!size) return {pass};",
        when=_not_of_a_map,
    ),
    Rule(
        "constant-size",
        r"R(?P<reg>\d) (is not a known constant|unbounded size, use 'var &= const')",  # new, 5.10
        "the kernel must know this size before the program runs",
        "reserve the largest size, or send a record of any length with bpf_ringbuf_output()",
        _varies,
        "known when the program runs, not before",
    ),
    # --- values and pointers that are not what they seem
    Rule(
        "unwritten-stack",
        r"invalid (indirect )?(read|access) (from|to) stack|invalid read from stack",
        "this line uses stack bytes that were never written; padding between fields counts too",
        "zero the whole variable first, as in  struct conn_key key = {{}};  "
        "or __builtin_memset(&key, 0, sizeof(key));",
    ),
    Rule(
        "missing-return",
        r"R0 !read_ok",
        "the program may end here without a return value",
        "return a value on every path, as in  return {pass};",
        when=_at_exit,
    ),
    Rule(
        "no-value",
        r"R(?P<reg>\d+) !read_ok",
        "this line uses a variable that has no value yet",
        "give it a value on every path that leads here",
    ),
    Rule(
        "use-after-submit",
        r"R(?P<reg>\d+) (invalid mem access '(scalar|inv)'|type=(scalar|inv) expected=)",
        "this line uses a reservation that was given back already",
        "do all that you do with it before you submit or discard it",
        _released,
        "from here on it belongs to the reader",
        lambda told: _released(told) is not None,
    ),
    Rule(
        "packet-moved",
        r"R(?P<reg>\d+) invalid mem access '(scalar|inv)'",
        "this line uses a pointer into the packet from before the packet was changed",
        "read ctx->data and ctx->data_end again after the change, and compare again",
        _packet_moved,
        "all pointers into the packet end here",
        lambda told: _packet_moved(told) is not None,
    ),
    Rule(
        "lost-pointer",
        r"R(?P<reg>\d+) invalid mem access '(scalar|inv)'",
        "this pointer was kept on the stack, and part of it was overwritten there",
        "keep the pointer in a variable whose bytes nothing else writes",
        _overwritten,
        "writes over some bytes of the pointer",
        lambda told: _overwritten(told) is not None,
    ),
    Rule(
        "global-variable",
        r"R(?P<reg>\d+) invalid mem access '(scalar|inv)'",
        "this line uses a global variable, and programs in BCC's dialect have none",
        "keep it in an array map of one entry, or write the program in libbpf's dialect",
        when=lambda told: _is_address_0(_origin(told)),
    ),
    Rule(
        "null-check",
        r"R(?P<reg>\d+) invalid mem access '(scalar|inv)'",
        "this pointer is NULL on a way that leads here, and this line follows it anyway",
        "check the pointer before this line, as in  if (!{var}) return {pass};",
        _made,
        "NULL comes from here",
        when=lambda told: _is_null(_origin(told)),
    ),
    Rule(
        "no-pointer",
        r"R(?P<reg>\d+) invalid mem access '(scalar|inv)'",
        "this line follows a number as if it were a pointer",
        "read memory that is not the program's own with bpf_probe_read_kernel() or "
        "bpf_probe_read_user()",
        _made,
        "a number, for all that the verifier knows",
        lambda told: _origin(told) is not None,
    ),
    Rule(
        "lost-pointer",
        r"corrupted spill memory|attempt to corrupt spilled pointer on stack",
        "this pointer was kept on the stack, and part of it was overwritten there",
        "keep the pointer in a variable whose bytes nothing else writes",
    ),
    Rule(
        "argument-type",
        r"R(?P<reg>\d) type=(?P<type>\w+) expected=",
        "this argument of {helper}() is {type}, which is not what it takes",
        "look at the order of the arguments in bpf-helpers(7), and pass a variable by its address, "
        "as in  &key",
    ),
    Rule(
        "map-type",
        r"cannot pass map_type (?P<map>\d+) into func (?P<helper>\w+)#\d+",
        "{helper}() does not take a map of the type {map}",
        "look up in bpf-helpers(7) which types of map it is for",
    ),
    # --- arithmetic on pointers
    Rule(
        "pointer-arithmetic",
        r"R(?P<reg>\d+) pointer arithmetic on pkt_end prohibited",
        "this line moves data_end by a number, which the verifier does not allow",
        "move the calculation to the other side, as in  if (data + 14 > data_end)",
        _packet("data_end"),
        "the packet's end",
    ),
    Rule(
        "pointer-arithmetic",
        r"R(?P<reg>\d+) (pointer arithmetic on \w+ prohibited|pointer \S+ pointer prohibited"
        r"|bitwise operator \S+ on pointer prohibited|32-bit pointer arithmetic prohibited"
        r"|pointer arithmetic with \S+ operator prohibited)",
        "this line calculates with a pointer in a way that loses track of it",
        "add to pointers, and subtract from them, in 64 bits, and nothing else",
    ),
    Rule(
        "modified-context",
        r"dereference of modified ctx ptr|variable ctx access var_off",
        "this line reads the context at a place that the kernel does not know beforehand",
        "name the field: ctx->field, with no index and no arithmetic on ctx",
    ),
    Rule(
        "context-write",
        r"invalid bpf_context access off=(?P<off>\d+) size=(?P<size>\d+)",
        "this line writes to a part of the context that this type of program may only read",
        "keep your own value in a local variable, or in a map",
        when=_stores,
    ),
    Rule(
        "context-read",
        r"invalid bpf_context access off=(?P<off>\d+) size=(?P<size>\d+)",
        "this line reads a part of the context that this type of program does not have",
        "look at the struct that the program takes, and read whole fields of it",
    ),
    Rule(
        "read-only",
        r"write into map forbidden",
        "this line writes to a map that programs may only read; constants are in one",
        "leave out const, or use a variable of your own",
    ),
    Rule(
        "read-only",
        r"cannot write into packet|R\d+ cannot write into rdonly_",
        "this line writes to memory that this type of program may only read",
        "copy it into a variable of your own first",
    ),
    Rule(
        "misaligned",
        r"misaligned (?P<what>\w+ )?access off .*size (?P<size>\d+)",
        "this line takes {size} bytes at a place that is no multiple of {size}",
        "let the compiler place the field: no packed struct here, and no cast to a wider type",
    ),
    # --- ways through the program
    Rule(
        "unreleased",
        r"Unreleased reference id=\d+ alloc_insn=(?P<alloc>\d+)",
        "a path through the program keeps what it reserved, and ends here",
        "submit or discard a reservation on every path, and release a socket",
        _allocated,
        "given back on no path that ends there",
    ),
    Rule(
        "endless-loop",
        r"infinite loop detected at insn (?P<insn>\d+)|back-edge from insn (?P<from>\d+)",
        "the verifier cannot see this loop end",
        "give the loop a constant bound, as in  for (int i = 0; i < 16; i++)",
    ),
    Rule(
        "too-complex",
        r"The sequence of \d+ jumps is too complex",
        "the verifier gave up: 8,192 branches are still to be followed, and here is one more",
        "give the loop fewer turns, or fewer branches in each",
    ),
    Rule(
        "too-complex",
        r"BPF program is too large\. Processed \d+ insn",
        "the verifier gave up: it walks every turn of every loop, a million steps at most",
        "give the loop fewer turns, or let bpf_loop() turn it (Linux 5.17 and later)",
    ),
    Rule(
        "no-exit",
        r"last insn is not an exit or jmp|unreachable insn (?P<insn>\d+)",
        "the program's code ends here, or cannot be reached, and nothing says what it returns",
        "return a value on every path, as in  return {pass};",
    ),
    Rule(
        "return-value",
        r"At program exit the register R0 has .* should have been in (?P<range>.*)$",
        "the program returns a value that has no meaning for its type",
        "return one that has; the kernel takes those in {range}",
    ),
    Rule(
        "stack-size",
        r"combined stack size of (?P<calls>\d+) calls is (?P<size>\d+)",
        "the program needs {size} bytes, more than the 512 bytes of stack that it has",
        "move the large variable into a map, such as a per-CPU array of one entry",
    ),
    # --- what a program may call
    Rule(
        "sleepable",
        r"helper call might sleep in a non-sleepable prog"
        r"|sleepable helper (?P<helper>\w+)#\d+ in non-sleepable prog"  # 7.2
        rf"|unknown func {_MAY_SLEEP}#\d+|cannot use helper {_MAY_SLEEP}#\d+",
        "{helper}() may sleep, and this program runs where nothing may",
        'ask for a program that may sleep, where its type has such, as in  SEC("uprobe.s")',
    ),
    Rule(
        "unknown-helper",
        r"invalid func unknown#(?P<number>\d+)",
        "this kernel does not have helper number {number}",
        "look up in bpf-helpers(7) what it is called, and which Linux brings it",
    ),
    Rule(
        "helper-type",
        r"(unknown func|program of this type cannot use helper) (?P<helper>\w+)#\d+"
        r"|helper call is not allowed in probe",
        "this type of program may not call this helper, {helper}()",
        "look up which program types have it in bpf-helpers(7)",
    ),
    Rule(
        "license",
        r"cannot call GPL.restricted function from non-GPL",
        "{helper}() is only for programs under a GPL-compatible license",
        'declare  char LICENSE[] SEC("license") = "Dual MIT/GPL";',
    ),
]


def recognise(walk: Walk) -> tuple[Rule, Told] | None:
    """The first rule that applies to a verdict, and what it has to go by."""
    verdict = "\n".join(walk.said)
    for rule in RULES:
        match = re.search(rule.says, verdict, re.MULTILINE)
        if match and (rule.when is None or rule.when(Told(walk, match))):
            return rule, Told(walk, match)
    return None
