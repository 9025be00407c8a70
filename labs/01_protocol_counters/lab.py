"""Lab 01: packets of known protocols go in on every CPU, and each CPU's copy must say so."""

import functools
import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from helpers import kernel, sandbox
from helpers.answers import Answer, Raised
from helpers.errors import Unsupported
from helpers.lab import Lab, NotYet, the_map, the_program
from helpers.maps import BpfMap
from helpers.program import Program, load

NAMES = ("TCP", "UDP", "ICMP", "other")
TCP, UDP, ICMP, OTHER = range(4)
NUMBERS = {4: (6, 17, 1), 6: (6, 17, 58)}  # of TCP, UDP and ICMP, in each version of IP
NEITHER = {1, 6, 17, 58}  # to be fair, 1 is not sent in IPv6, nor 58 in IPv4
VERDICTS = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"]
# Two CPUs at once: how many packets each, and how often at most. A plain array lost some in the
# first round in 200 of 200 trials.
REPEAT, ROUNDS = 100_000, 10
# The same, to find out what CPUs share that they should not: a global variable was noticed in 38 of
# 40 rounds, and in 32 of 40 beside four programs that kept both CPUs busy.
MANY, TIMES = 2_000_000, 10
MAP = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");
"""

Copies = list[list[int]]  # for each index, one number for each possible CPU


@dataclass(frozen=True)
class Packet:
    """A frame, what it is called in the plural, where it counts, and what to ask if it does not."""

    what: str
    index: int
    frame: bytes
    idea: str


class ProtocolCounters(Lab):
    title = "Protocol counters"
    parts = ("program", "answer")
    hints = (
        "Four numbers that are always there are an array, and a copy of each for every CPU makes "
        "it a per-CPU array: chapter 04 declares one. How many entries has yours, and how wide is "
        "a value?",
        "Go in two steps. First find the index: begin with that of `other`, and change it only "
        "when `packet.type` says IP, the whole IP header lies before `packet.end`, and its "
        "`protocol` (in IPv6 `nexthdr`) is a number that you know. Then look up that index, in one "
        "place, so that no packet gets by.",
        "The lookup gives a pointer to the copy of the CPU that the program runs on, or NULL; add "
        "to what it points to. In Python, `counters[0]` is a list: what the lookup found on each "
        "CPU. What is one number for all of them?",
    )

    # To fall off the end of a function is no error in C, and gives whatever a register holds.
    flags = ("-Werror=return-type",)

    def verify(self, prog: Program, answer: Answer) -> str:
        trial = Trial(prog, answer)
        trial.first_packets()
        for packets in (plain(), six(), tagged(), pieces(), cut_short()):
            trial.one_by_one(packets)
        trial.mixed()
        trial.at_once()
        carried = trial.real_traffic()
        with load(text=MAP, name="counters.bpf.c") as another:
            reading = Reading(answer, another["counters"])
            reading.judge(trial.counters, "your own map")
            for _ in range(2):
                reading.fill()
                reading.judge(another["counters"], "a map that the check has filled")
        return (
            f"{trial.kinds:,} packets were sent one by one, {trial.mix:,} mixed on "
            f"{len(trial.cpus)} CPUs at once, and {carried:,} over the sandbox's cable. Each was "
            "counted once, under its protocol, in the copy of its CPU; and your sums are right, of "
            "your map and of another."
        )


class Trial:
    """One check of one program."""

    def __init__(self, prog: Program, answer: Answer) -> None:
        self.prog, self.answer = prog, answer
        self.cpus = kernel.online_cpus()
        if len(self.cpus) < 2:
            raise Unsupported("two CPUs", "one", "Give the machine a second one.")
        self.kinds = self.mix = 0
        self.name = the_program(prog, "xdp")
        self.counters = the_map(prog, "counters", {}, {})
        self.declared()

    # --- the map

    def declared(self) -> None:
        """Is the map what the task says? If it is not, show what that costs."""
        counters = self.counters
        if counters.type == "array":
            self.shared()
        if counters.type != "percpu_array":
            raise NotYet(
                f"`counters` is a map of type {counters.type}, not a per-CPU array.",
                "Which type has all of its entries before the first packet comes, and for each CPU "
                "a copy that no other one touches?",
            )
        if counters.value.size != 8 or not isinstance(counters.value.decode(bytes(8)), int):
            raise NotYet(
                f"A value of `counters` is {counters.value.ctype}, of {counters.value.size} bytes. "
                "The task says __u64.",
                "How long does it take a network of a million packets a second to fill up 32 bits, "
                "and what stands there after that?",
            )
        if counters.max_entries < 4:
            raise NotYet(
                f"`counters` has {counters.max_entries} entries, and the task speaks of 4 indexes.",
                "An array of n entries begins at index 0. Where does it end, and what does a "
                "lookup behind that give?",
            )
        if counters.max_entries > 4:
            raise NotYet(
                f"`counters` has {counters.max_entries} entries, and the task speaks of 4 indexes.",
                "Which number does your program take for an index, and which four does the task "
                "give to the protocols?",
            )

    def shared(self) -> None:
        """Two CPUs add in one array. If they lose nothing, its type is all there is to say."""
        if self.counters.value.size not in (4, 8):
            return
        frame, before = ether(0x0800, ipv4(6)), self.all_added()
        for count in range(REPEAT, (ROUNDS + 1) * REPEAT, REPEAT):
            sandbox.side_by_side(lambda _: self.prog.run(self.name, data=frame, repeat=REPEAT))
            added = self.all_added() - before
            if 0 < added < 2 * count:
                raise NotYet(
                    f"Two CPUs sent {count:,} packets each, at the same time. Of {2 * count:,}, "
                    f"your counters show {added:,}. Their map is a plain array.",
                    "To add one, a CPU reads the number and writes it back. Which map gives each "
                    "CPU a number of its own, so that none comes between?",
                )

    def all_added(self) -> int:
        _, values = self.counters.raw()
        return int(values.view(f"u{self.counters.value.size}").sum())

    # --- the workload, from simple to hard

    def first_packets(self) -> None:
        """The same packet on every CPU, one after the other."""
        packet = next(plain())
        for cpu in self.cpus:
            count, before = random.randint(3, 9), self.read()
            sandbox.on_cpus([cpu], functools.partial(self.run, packet, count))
            after = self.read()
            moved = _moved(before, after)
            if moved == {(TCP, cpu): count}:
                continue
            if not moved and cpu == self.cpus[0]:
                self.nothing_moved(packet, count, cpu)
            [(index, where), *_] = moved or [(TCP, cpu)]
            if len(moved) == 1 and where == cpu != self.cpus[0] and index != TCP:
                raise NotYet(
                    f"TCP packets over IPv4 were sent. On CPU {self.cpus[0]} they counted under "
                    f"index 0, and on CPU {cpu} under index {index}.",
                    "Each entry of a per-CPU array has a copy for every CPU already. Who chooses "
                    "between the copies, and what does the index stand for?",
                )
            self.explain(packet, count, cpu, before, after)

    def one_by_one(self, packets: Iterator[Packet]) -> None:
        cpu = random.choice(self.cpus)

        def send() -> None:
            after = self.read()
            for packet in packets:
                count, before = random.randint(2, 9), after
                self.kinds += count
                self.run(packet, count)
                after = self.read()
                if _moved(before, after) != {(packet.index, cpu): count}:
                    self.explain(packet, count, cpu, before, after)

        sandbox.on_cpus([cpu], send)

    def mixed(self) -> None:
        """A mix of its own on each CPU, all at once, on counters that are about to leave 32 bits.

        What a counter holds before is not the program's business, nor is it always zero.
        """
        to_send = mixes(self.cpus)
        wanted = _wanted(to_send)
        before = [[(1 << 32) - (count + 1) // 2 for count in copies] for copies in wanted]
        self.write(before)

        def send(cpu: int) -> None:
            for packet in to_send[cpu]:
                self.run(packet, 1)

        sandbox.on_cpus(self.cpus, send)
        after = self.read()
        self.mix = sum(map(sum, wanted))
        for index, cpu in _places():
            if after[index][cpu] == before[index][cpu] + wanted[index][cpu]:
                continue
            seen = (
                f"Python set the {NAMES[index]} counter of CPU {cpu} to {before[index][cpu]:,}. "
                f"Then {wanted[index][cpu]:,} packets came, and it shows {after[index][cpu]:,}."
            )
            if after[index][cpu] == (before[index][cpu] + wanted[index][cpu]) % (1 << 32):
                raise NotYet(
                    seen,
                    "A counter has 64 bits. How many of them does your program read and write, and "
                    "what type says so?",
                )
            raise NotYet(
                seen,
                "A counter may be set to anything, from Python, at any time. Where does your "
                "program take the number from that it adds to?",
            )

    def at_once(self) -> None:
        """Two CPUs send packets of two protocols, many and fast."""
        indexes = dict(zip(self.cpus, (TCP, UDP), strict=False))
        frames = {cpu: ether(0x0800, ipv4(NUMBERS[4][at])) for cpu, at in indexes.items()}

        def send(cpu: int) -> None:
            self.prog.run(self.name, data=frames[cpu], repeat=MANY)

        # Two runs of a program share what is in its maps, such as that of its global variables.
        others = self.prog.maps.keys() - {"counters", ".rodata"}
        for _ in range(TIMES if others else 1):
            before = self.read()
            sandbox.side_by_side(send)
            moved = _moved(before, self.read())
            for cpu, index in indexes.items():
                found = {at[0]: n for at, n in moved.items() if at[1] == cpu}
                if found == {index: MANY}:
                    continue
                raise NotYet(
                    f"{MANY:,} packets of {NAMES[index]} were sent on CPU {cpu}, while another "
                    f"CPU sent others. Its copy counted {_listed(found)}.",
                    "Alone, each CPU counted right. What does your program keep, besides the map, "
                    "where every CPU reads and writes it?",
                )

    def real_traffic(self) -> int:
        """Frames that cross a cable, on each CPU in turn; returns how many."""
        to_send = mixes(self.cpus)
        wanted = _wanted(to_send)
        self.write(_zeros())
        with sandbox.pair() as net:
            self.prog.attach(self.name, net.server)
            for cpu, mix in to_send.items():
                net.send([packet.frame for packet in mix], cpu=cpu)
        found = self.read()
        for index, cpu in _places():
            if found[index][cpu] != wanted[index][cpu]:
                raise NotYet(
                    f"Over a cable, {wanted[index][cpu]} packets of {NAMES[index]} came in on CPU "
                    f"{cpu}. Its copy counted {found[index][cpu]}.",
                    "Packets made for a test and those of an interface look alike. What else of "
                    "its context does your program use?",
                )
        return sum(map(sum, wanted))

    # --- sending and looking

    def run(self, packet: Packet, count: int) -> None:
        """Send it ``count`` times, on the CPU of this thread."""
        # Not by repeat=count: for that, the kernel patches its own code, which takes 20 ms.
        for _ in range(count):
            done = self.prog.run(self.name, data=packet.frame)
            if done.retval != VERDICTS.index("XDP_PASS"):
                verdict = dict(enumerate(VERDICTS)).get(done.retval, str(done.retval))
                raise NotYet(
                    f"{_sentence(packet.what)} were sent, and `{self.name}` returned {verdict}.",
                    "The program only counts. What becomes of such packets on a machine where it "
                    "runs?",
                )
            if done.data != packet.frame:
                raise NotYet(
                    f"{_sentence(packet.what)} went in, and came out with other bytes.",
                    "The program only counts. Does it write to the packet what it should write to "
                    "a variable of its own?",
                )

    def read(self) -> Copies:
        return _copies(self.counters)

    def write(self, copies: Copies) -> None:
        self.counters.update(dict(enumerate(copies)))

    # --- saying what is wrong

    def nothing_moved(self, packet: Packet, count: int, cpu: int) -> None:
        """The first packets count nowhere. Where, then, do they count, or who is to count them?"""
        seen = f"{count} {packet.what} were sent on CPU {cpu}, and the four counters are all 0"
        with suppress(NotYet, Raised):
            self.answer.call("totals", self.counters)
        if any(map(any, self.read())):
            raise NotYet(
                f"{seen}. After `totals()` had been called, they were not.",
                "The numbers came from your Python. Who sees the packets, and so can count them?",
            )
        raise NotYet(
            f"{seen}.",
            "A lookup gives a pointer to a number in the map. Which line of yours changes the "
            "number, and not the pointer, or a copy?",
        )

    def explain(self, packet: Packet, count: int, cpu: int, before: Copies, after: Copies) -> None:
        moved = _moved(before, after)
        seen = f"{count} {packet.what} were sent on CPU {cpu}"
        right = packet.index, cpu
        if not moved:
            raise NotYet(
                f"{seen}, and no counter moved.",
                f"Every packet counts once: these under {NAMES[packet.index]}. Which line of your "
                "program do they leave it by?",
            )
        if {index for index, _ in moved} == {packet.index} and right not in moved:
            [(_, there), *_] = moved
            raise NotYet(
                f"{seen}. It was the copy of CPU {there} that counted them.",
                "Whose copy does your program ask for? Two CPUs that write to one copy are where "
                "a plain array begins.",
            )
        if list(moved) == [right]:
            was, now = (copies[packet.index][cpu] for copies in (before, after))
            raise NotYet(*_explain_amount(seen, packet, count, was, now))
        if right in moved:
            raise NotYet(
                f"{seen}. They counted {_listed({i: n for (i, _), n in moved.items()})}.",
                "A packet has one protocol. On which way through your program is it counted twice?",
            )
        found = ", ".join(NAMES[index] for index, _ in moved)
        raise NotYet(f"{seen}. They counted as {found}, not as {NAMES[packet.index]}.", packet.idea)


class Reading:
    """The learner's ``totals()``, called with one map after another."""

    def __init__(self, answer: Answer, another: BpfMap) -> None:
        self.answer, self.another, self.last = answer, another, dict[str, float]()

    def fill(self) -> None:
        """Give every copy of the other map a number, for CPUs that are not there, too.

        Their sums need more bits than a float has, and no more than an int64. Two copies may be
        equal: under the last index, all are.
        """
        cpus = kernel.cpus()
        most = (1 << 62) // cpus
        fill = [[random.randrange(most // 2, most) for _ in range(cpus)] for _ in NAMES]
        fill[OTHER] = fill[OTHER][:1] * cpus
        self.another.update(dict(enumerate(fill)))

    def judge(self, counters: BpfMap, whose: str) -> None:
        before = _copies(counters)
        told = self.answer.call("totals", counters)
        after = _copies(counters)
        if after != before:
            index, cpu = next(iter(_moved(before, after)))
            raise NotYet(
                f"While `totals()` read {whose}, the {NAMES[index]} counter of CPU {cpu} went from "
                f"{before[index][cpu]:,} to {after[index][cpu]:,}.",
                "Packets keep coming while Python reads. What becomes of one that is counted "
                "between your reading and your writing?",
            )
        sums = _sums(told)
        if sums != dict(zip(NAMES, map(sum, before), strict=True)):
            self.explain(sums, before, whose)
        if floats := [name for name in NAMES if isinstance(sums[name], float)]:
            raise NotYet(
                f"`totals()` returned {sums[floats[0]]!r} under {floats[0]!r}: a float.",
                "A count is an integer, and here it was right. From what number on does a float "
                "leave integers out?",
            )
        self.last = sums

    def explain(self, told: dict[str, float], copies: Copies, whose: str) -> None:
        wanted = dict(zip(NAMES, map(sum, copies), strict=True))
        name = next(name for name in NAMES if told[name] != wanted[name])
        numbers = copies[NAMES.index(name)]
        shown = ", ".join(f"{number:,}" for number in numbers[:8])
        seen = f"For {whose}, `totals()` says {told[name]:,} {name} packets. "
        if told == self.last:
            raise NotYet(
                f"{seen}It said the same of another map, and there it was right.",
                "`totals()` is called again and again, while packets come. When does yours read?",
            )
        if self.says_the_same_of_another(told):
            raise NotYet(
                f"{seen}The map holds {wanted[name]:,}, and whatever map it is given, it says the "
                "same.",
                "Which of its lines reads the map?",
            )
        if _alike(told, list(wanted.values())):
            raise NotYet(
                f"{seen}There were {wanted[name]:,}.",
                "A float has 53 bits for the digits, and a counter has 64. Which step of yours "
                "goes through a float?",
            )
        for numbers_told, what, idea in _mistakes(copies):
            if _alike(told, numbers_told):
                raise NotYet(f"{seen}The copies are {shown}: that is {what}.", idea)
        if sorted(told.values()) == sorted(wanted.values()):
            raise NotYet(
                f"{seen}There were {wanted[name]:,}: the sums are right, under other names.",
                "Which index does the task give to which protocol?",
            )
        raise NotYet(
            f"{seen}The copies are {shown}, and there were {wanted[name]:,}.",
            f"One index has {len(numbers)} numbers, one for each CPU that there could be. Which of "
            "them, and of which index, are in your sum?",
        )

    def says_the_same_of_another(self, told: dict[str, float]) -> bool:
        self.fill()
        return bool(self.answer.call("totals", self.another) == told)


def _mistakes(copies: Copies) -> Iterator[tuple[Sequence[float], str, str]]:
    """What somebody who does not sum over the CPUs may say: the numbers, the words, the idea."""
    yield (
        [sum(map(sum, copies))] * 4,
        "the sum of all four protocols",
        "Over what does your sum run, and which part of it belongs to one name?",
    )
    for cpu in range(kernel.cpus()):
        yield (
            [copy[cpu] for copy in copies],
            f"the one of CPU {cpu} alone",
            "On which CPUs do packets arrive, and which of the copies does your sum take?",
        )
    yield (
        [max(copy) for copy in copies],
        "the largest",
        "Each copy counts other packets than the next. Of which question is the largest the "
        "answer, and of which the sum?",
    )
    yield (
        [sum(copy) / len(copy) for copy in copies],
        "their mean",
        "Two packets arrive, each on a CPU of its own. How many are there?",
    )
    yield (
        [sum(set(copy)) for copy in copies],
        "the sum of those that differ",
        "Two CPUs may have counted equally many packets. Are those the same packets?",
    )
    yield (
        [sum(copy) & 0xFFFFFFFF for copy in copies],
        "the lower half of their sum",
        "A counter has 64 bits, and so has a sum of counters. How many has yours?",
    )
    rows = [number for copy in copies for number in copy]
    yield (
        [*rows, *[0] * 4][:4],
        "a row of the frame",
        "How many rows of the frame, or numbers of the map, belong to one index?",
    )


def _sums(told: Any) -> dict[str, float]:
    """What ``totals()`` returned, if it has the right form."""
    if told is None:
        raise NotYet(
            "`totals()` returned None.",
            "What a function prints is for people. What does it give back to whoever called it?",
        )
    if not isinstance(told, dict):
        raise NotYet(
            f"`totals()` returned {_kind(told)}, not a dict.",
            "Whoever asks for the number of UDP packets knows a name. How do they find it in what "
            "you return?",
        )
    if set(told) != set(NAMES):
        raise NotYet(
            f"The keys that `totals()` returned are {', '.join(map(repr, told)) or 'none'}.",
            f"The task has four names: {', '.join(map(repr, NAMES))}. Which of yours differ, even "
            "by one letter?",
        )
    for name, number in told.items():
        if not isinstance(number, int | float):
            raise NotYet(
                f"Under {name!r}, `totals()` returned {_kind(number)}, not a number.",
                "A per-CPU map gives one number for each CPU. Which one number says how many "
                "packets there were?",
            )
    return {name: told[name] for name in NAMES}


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, list | tuple | str) else "an object"


def _alike(told: dict[str, float], numbers: Sequence[float]) -> bool:
    """Equal, but for what a float rounds."""
    return all(
        abs(one - other) <= abs(other) * 1e-12
        for one, other in zip(told.values(), numbers, strict=True)
    )


# --- copies of counters ---------------------------------------------------------------------


def _copies(counters: BpfMap) -> Copies:
    return [counters[index] for index in range(4)]


def _zeros() -> Copies:
    return [[0] * kernel.cpus() for _ in NAMES]


def _wanted(mixed: dict[int, list[Packet]]) -> Copies:
    copies = _zeros()
    for cpu, mix in mixed.items():
        for packet in mix:
            copies[packet.index][cpu] += 1
    return copies


def _places() -> Iterator[tuple[int, int]]:
    return ((index, cpu) for index in range(4) for cpu in range(kernel.cpus()))


def _moved(before: Copies, after: Copies) -> dict[tuple[int, int], int]:
    """By how much each copy changed, of those that did: {(index, cpu): difference}."""
    return {
        (index, cpu): after[index][cpu] - before[index][cpu]
        for index, cpu in _places()
        if after[index][cpu] != before[index][cpu]
    }


def _listed(found: dict[int, int]) -> str:
    return " and ".join(f"{n:,} {NAMES[index]}" for index, n in found.items()) or "none"


def _explain_amount(seen: str, packet: Packet, count: int, was: int, now: int) -> tuple[str, str]:
    """The right counter moved, by a wrong number."""
    seen = f"{seen}. Its {NAMES[packet.index]} counter went from {was:,} to {now:,}."
    if now == 1:
        return seen, "What stood there before is gone. Does your program add, or does it replace?"
    if now - was == 2 * count:
        return seen, "Each was counted twice. On which two lines does one packet come by?"
    if now - was == count * len(packet.frame):
        return (
            seen,
            f"Each was {len(packet.frame)} bytes long. What does the task count, and what yours?",
        )
    return seen, "How much does your program add for one packet?"


def _sentence(words: str) -> str:
    return words if words[0].isupper() else words[0].upper() + words[1:]


# --- packets ----------------------------------------------------------------------------------


def ether(kind: int, payload: bytes, *tags: int) -> bytes:
    """A frame of that type from client to server, behind VLAN tags of those types."""
    macs = bytes.fromhex((sandbox.SERVER_MAC + sandbox.CLIENT_MAC).replace(":", ""))
    shown = b"".join(struct.pack("!HH", tag, random.randrange(1 << 16)) for tag in tags)
    return macs + shown + struct.pack("!H", kind) + payload


def ipv4(protocol: int, *, options: int = 0, fragment: int = 0, length: int = 60) -> bytes:
    """A packet with random bytes above IP: ``options`` in words, ``length`` of those bytes."""
    decoy = _decoy(protocol)
    size = 20 + 4 * options
    header = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x40 | size // 4, 0, size + length, decoy << 8 | decoy, fragment, 64, protocol, 0),
        *(bytes([10, *random.randbytes(3)]) for _ in range(2)),
    ) + bytes([1] * 4 * options)  # option 1: nothing
    return header[:10] + _checksum(header) + header[12:] + random.randbytes(length)


def ipv6(protocol: int, *, above: bytes | None = None) -> bytes:
    """A packet whose next header is ``protocol``; where IPv4 has that, it names another one."""
    above = random.randbytes(60) if above is None else above
    source = bytes([0xFD, _decoy(protocol), *random.randbytes(14)])
    target = bytes([0xFD, *random.randbytes(15)])
    return struct.pack("!IHBB", 6 << 28, len(above), protocol, 64) + source + target + above


def _decoy(protocol: int) -> int:
    """The number of another protocol, for the places where somebody might look by mistake."""
    return 17 if protocol == 6 else 6


def _checksum(header: bytes) -> bytes:
    total = sum(word for (word,) in struct.iter_unpack("!H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


def plain() -> Iterator[Packet]:
    """IPv4, and what is no IP at all."""
    idea = (
        "Follow one through your program. What does `packet.type` say, with what is it compared, "
        "and to which index does it come?"
    )
    for index, number in enumerate(NUMBERS[4]):
        yield Packet(f"{NAMES[index]} packets over IPv4", index, ether(0x0800, ipv4(number)), idea)
    for number in range(256):
        if number not in NEITHER:
            yield Packet(
                f"IPv4 packets of protocol {number}",
                OTHER,
                ether(0x0800, ipv4(number)),
                "Four counters, 256 protocols: which index is right for those that nobody asked "
                "about?",
            )
    idea = "They are not IP. What is it that your program takes for the protocol of such a frame?"
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes([6] * 38)
    yield Packet("ARP packets", OTHER, ether(0x0806, arp), idea)
    # Numbers on either side of those of IP, in both orders of their bytes.
    for kind in (0x26, 0x600, 0x7FF, 0x801, 0x22F0, 0x86DC, 0x86DE, 0x8847, 0x88E1, 0xFFFF):
        frame = ether(kind, bytes([6] * 60))
        yield Packet(f"frames of the unknown type {kind:#06x}", OTHER, frame, idea)


def six() -> Iterator[Packet]:
    """IPv6: the one next header that the IPv6 header names."""
    for index, number in enumerate(NUMBERS[6]):
        yield Packet(
            f"{NAMES[index]} packets over IPv6",
            index,
            ether(0x86DD, ipv6(number)),
            "IPv6 has a type of its own, a header of its own, and in it a `nexthdr`. Which numbers "
            "does the task list for that?",
        )
    idea = (
        "The task goes by `nexthdr` of the IPv6 header alone. Which number stands there, and what "
        "may stand behind it?"
    )
    for number in range(256):
        if number not in NEITHER:
            frame = ether(0x86DD, ipv6(number))
            yield Packet(f"IPv6 packets whose next header is {number}", OTHER, frame, idea)
    for index, number in enumerate(NUMBERS[6]):
        options = bytes([number, 0, 1, 4, 0, 0, 0, 0])  # a hop-by-hop header that holds padding
        frame = ether(0x86DD, ipv6(0, above=options + random.randbytes(40)))
        yield Packet(
            f"IPv6 packets with {NAMES[index]} behind an extension header", OTHER, frame, idea
        )


def tagged() -> Iterator[Packet]:
    """All that, behind a VLAN tag or two."""
    for index in range(3):
        for version, kind, packet in ((4, 0x0800, ipv4), (6, 0x86DD, ipv6)):
            yield Packet(
                f"{NAMES[index]} packets over IPv{version} with a VLAN tag",
                index,
                ether(kind, packet(NUMBERS[version][index]), 0x8100),
                "A VLAN tag puts four bytes in front of the IP header. What does the type before "
                "it say, and where is the type of what comes after?",
            )
    idea = "What stands behind their tag, and what does your program need to know of it?"
    for kind in (0x0806, 0x600, 0x88E1, 0xFFFF):
        frame = ether(kind, bytes([6] * 60), 0x8100)
        yield Packet("frames with a VLAN tag and no IP", OTHER, frame, idea)
    for outer in (0x8100, 0x88A8):
        yield Packet(
            "TCP packets with two VLAN tags",
            OTHER,
            ether(0x0800, ipv4(6), outer, 0x8100),
            "The task speaks of one tag. What does the type behind the first one say here?",
        )


def pieces() -> Iterator[Packet]:
    """IPv4 with options, and in fragments."""
    for index, number in enumerate(NUMBERS[4]):
        for options in range(1, 11):
            yield Packet(
                f"{NAMES[index]} packets with IPv4 options",
                index,
                ether(0x0800, ipv4(number, options=options)),
                "Options come at the end of an IPv4 header. Do they move the byte that names the "
                "protocol?",
            )
        for what, fragment in (("first", 0x2000), ("middle", 0x2007), ("last", 0x00B9)):
            yield Packet(
                f"{what} fragments of {NAMES[index]} packets",
                index,
                ether(0x0800, ipv4(number, fragment=fragment)),
                "Only the first fragment has ports. What does every fragment have, and is the "
                "protocol in it?",
            )


def cut_short() -> Iterator[Packet]:
    """Frames that end too early, and some that end just in time."""
    for tags in ((), (0x8100,)):
        for version, kind, whole, size in ((4, 0x0800, ipv4, 20), (6, 0x86DD, ipv6, 40)):
            for index in range(3):
                frame = ether(kind, whole(NUMBERS[version][index]), *tags)
                begin = len(frame) - 60 - size
                yield Packet(
                    f"{NAMES[index]} packets that end right behind their IPv{version} header",
                    index,
                    frame[: begin + size],
                    "Nothing comes after the IP header, but all of that is there. Does your "
                    "program wait for a byte that it does not need?",
                )
                for length in range(14, begin + size):
                    yield Packet(
                        f"frames of {length} bytes that end within their headers",
                        OTHER,
                        frame[:length],
                        f"An IPv{version} header has {size} bytes. What may your program believe "
                        "of one that is not all there, and where does such a packet count?",
                    )


def mixes(cpus: list[int]) -> dict[int, list[Packet]]:
    """Packets in any order for each CPU: of each counter's, another number on each of them.

    No CPU has the most of all four, nor the fewest.
    """
    kinds = [*plain(), *six(), *tagged(), *pieces(), *cut_short()]
    mixed = dict[int, list[Packet]]((cpu, []) for cpu in cpus)
    for index in range(4):
        choice = [packet for packet in kinds if packet.index == index]
        sizes = random.sample(range(20, 50 + 2 * len(cpus)), len(cpus))
        sizes.sort(reverse=index % 2 == 1)
        for mix, size in zip(mixed.values(), sizes, strict=True):
            mix += random.choices(choice, k=size)
    for mix in mixed.values():
        random.shuffle(mix)
    return mixed
