"""Lab 04: a learner's LRU map beside one of the course's own, packet by packet and key by key."""

import ctypes
import platform
import random
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from helpers import kernel, sandbox
from helpers.answers import Answer, Raised
from helpers.lab import Lab, NotYet, the_program
from helpers.libbpf import MapCreateOpts, lib
from helpers.maps import BpfMap
from helpers.program import Program, load

ROOM, WRITES = 10, 15  # entries; and keys, of which the learner says how many will be left
NEW = 30  # keys that come once, after which no other is left that came once before
SECONDS = kernel.patience(5)  # that a function of the learner's may take
NO_COMMON_LRU = 1 << 1  # BPF_F_NO_COMMON_LRU
NAMES = ["TCP", "UDP"]
VERDICTS = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"]


class LruBehaviour(Lab):
    title = "What an LRU hash forgets"
    parts = ("program", "answer")
    hints = (
        "The program first. It meets a port that is in the map, or one that is not, and it should "
        "know which before it writes anything. Chapter 05 has a table of what keeps an entry "
        "alive: which of your calls are in it?",
        "Next to every entry the kernel keeps one bit. A program's lookup that finds the entry "
        "sets it, and so does a write to a key that is there, from Python too. Reading from "
        "Python does not. Which of the three can `keep()` use, and what should it write?",
        "When the map needs room, the kernel goes through the entries from the oldest on and "
        "takes those whose bit is not set. Write ten keys on paper, mark the ones that came "
        "again, and cross out the rest from the left: what you crossed out, in that order, is "
        "what `forgets()` returns.",
    )

    def verify(self, prog: Program, answer: Answer) -> str:
        # Each CPU has a list of free entries, so all of this happens on one.
        [cpu] = kernel.online_cpus()[:1]
        answer.pin(cpu)
        [said] = sandbox.on_cpus([cpu], lambda: Trial(prog, answer).run())
        return said


class Packet(NamedTuple):
    """``protocol`` is "TCP" or "UDP"; ``port`` is the source, ``to`` the destination."""

    protocol: str
    port: int
    to: int

    def frame(self) -> bytes:
        rest = bytes(16 + random.randrange(60))
        number = {"TCP": 6, "UDP": 17}[self.protocol]
        return _ip(4, number, struct.pack("!HH", self.port, self.to) + rest)

    def __str__(self) -> str:
        return f"A packet of {self.protocol} from port {self.port}"


class Trial:
    """One check. What should happen to a map is what happens to one that the course drives."""

    def __init__(self, prog: Program, answer: Answer) -> None:
        self.prog, self.answer = prog, answer
        self.name = the_program(prog, "xdp")
        self.recent = _the_map(prog)
        self.sent = dict[int, int]()  # packets, by port

    def run(self) -> str:
        with _course() as course:
            self.course = course
            seen = self.packets()
            self.other_packets()
            self.any_packets()
        predicted, left = self.writes()
        for _ in range(3):
            self.kept()
        self.forgotten(*seen)
        for times in (0, 2):
            self.forgotten(*_drive(times))
        return (
            f"{sum(self.sent.values())} packets from {len(self.sent)} ports went through your "
            "program, and after each the map held what it should. Of "
            f"{WRITES} keys you predicted {predicted} in the end; here, on Linux "
            f"{platform.release().split('-')[0]} with {kernel.cpus()} possible CPUs, {left} are "
            f"left. The key that you kept outlived {NEW} others, and three maps forgot their ports "
            "in the order that your function says."
        )

    # --- the program

    def packets(self) -> tuple[list[int], list[int], list[set[int]]]:
        """Ten ports fill the map, some come again, and new ones come, once each.

        Returns the ten, those that came again, and which of the ten were gone after each new one.
        """
        ports = _numbers(ROOM + NEW)
        first, new = ports[:ROOM], ports[ROOM:]
        for port in [first[0], *first]:
            self.send(port)
        # The newest first: if that costs others, the program writes. Then the oldest: if that
        # does, the entry was taken out.
        again = [first[9], first[0], random.choice(first[1:9]), first[9]]
        for port in again:
            self.send(port)
        gone = list[set[int]]()
        for port in new:
            self.send(port)
            gone.append(set(first) - set(self.recent))
        return first, [first[0], *again], gone

    def other_packets(self) -> None:
        before = _totals(self.recent)
        for what, frame in _others():
            self.run_on(frame, what)
            if _totals(self.recent) != before:
                raise NotYet(
                    f"{what} was sent, and `recent` changed.",
                    "The map is for ports of TCP and UDP over IPv4. What must your program know "
                    "about a packet before it may believe what stands where the ports would be?",
                )

    def any_packets(self) -> None:
        """Ports that are there, that were there, and new ones, in any order."""
        for port in _numbers(NEW):
            self.send(
                random.choice([port, *map(random.choice, (list(self.recent), list(self.sent)))])
            )

    def send(self, port: int) -> None:
        """Send one packet to the learner's program and to the course's, and compare the maps."""
        # The first new port is one of UDP, the second of TCP: who leaves one out is told so.
        protocol = ["UDP", "UDP", "TCP", random.choice(NAMES)][min(3, sum(self.sent.values()))]
        packet = Packet(protocol, port, _numbers(1, [port])[0])
        before = _totals(self.course["cache"])
        self.run_on(packet.frame(), str(packet))
        self.course.run("remember", data=packet._replace(protocol="UDP").frame())
        self.sent[port] = self.sent.get(port, 0) + 1
        want, got = _totals(self.course["cache"]), _totals(self.recent)
        if got != want:
            raise NotYet(*self.explain(packet, before, want, got))

    def run_on(self, frame: bytes, what: str) -> None:
        done = self.prog.run(self.name, data=frame)
        if done.retval != VERDICTS.index("XDP_PASS"):
            verdict = dict(enumerate(VERDICTS)).get(done.retval, str(done.retval))
            raise NotYet(
                f"{what} was sent, and `{self.name}` returned {verdict}.",
                "Your program only watches. What becomes of the network of a machine on which it "
                "runs?",
            )
        if done.data != frame:
            raise NotYet(
                f"{what} went in, and came out with other bytes.",
                "Your program only watches. Does it write to the packet what it should write to a "
                "variable of its own?",
            )

    def explain(
        self, packet: Packet, before: dict[int, int], want: dict[int, int], got: dict[int, int]
    ) -> tuple[str, str]:
        """A packet came, and the map holds something else than it should."""
        port = packet.port
        if not before:
            return _explain_first(packet, got)
        if got.keys() == want.keys():
            return self.explain_counts(port, want, got)
        if port in before:
            return self.explain_known(port, before, want, got)
        if port not in got:
            return (
                f"`recent` held {len(before)} of {ROOM} ports. {packet} came, which was new, and "
                "is not in the map.",
                f"There is room. What does your program do with {packet.protocol}?"
                if len(before) < ROOM
                else "What does your program do with a new port when the map is full, and who "
                "would make room for it?",
            )
        return self.explain_evicted(before, want, got)

    def explain_counts(
        self, port: int, want: dict[int, int], got: dict[int, int]
    ) -> tuple[str, str]:
        if got[port] == want[port]:
            other = next(one for one in want if got[one] != want[one])
            return (
                f"A packet came from port {port}, and the count of port {other} went to "
                f"{got[other]}.",
                "Whose value does your program write to?",
            )
        number = "1 packet" if want[port] == 1 else f"{want[port]} packets"
        seen = f"{number} came from port {port} since it is in the map, and its count is "
        if want[port] == 1 and not got[port]:
            idea = "The packet that brings a port into the map is a packet too. Who counts it?"
        elif want[port] > 1 and got[port] == 1:
            idea = "The first was counted. What does your program do when it finds the port?"
        else:
            idea = "How much does your program add for one packet, and in how many places?"
        return f"{seen}{got[port]}.", idea

    def explain_known(
        self, port: int, before: dict[int, int], want: dict[int, int], got: dict[int, int]
    ) -> tuple[str, str]:
        lost = [one for one in self.sent if one in want.keys() - got.keys()]
        seen = f"`recent` held {len(before)} of {ROOM} ports. One of them, {port}, came again, and "
        again = [one for one in lost if before[one] > 1]
        if port != list(self.sent)[-1]:
            return (
                f"{seen}{len(lost)} went for it. When the newest came again, none did.",
                "When a port comes again, does it keep its entry, or is the entry that it has "
                "afterwards a new one?",
            )
        if again:
            return (
                f"{seen}{len(lost)} went for it: even {again[0]}, which came {before[again[0]]} "
                "times, when others came once.",
                "Which of your calls asks the kernel for a free entry before it knows whether the "
                "port is there? And which sets the bit of an entry that is new?",
            )
        return (
            f"{seen}{len(lost)} went for it.",
            "Chapter 05 measures what a write to a key that is there may cost. How else can a "
            "program change a value, once it has a pointer to it?",
        )

    def explain_evicted(
        self, before: dict[int, int], want: dict[int, int], got: dict[int, int]
    ) -> tuple[str, str]:
        """A new port came, and not the right ones made room."""
        lost = [port for port in self.sent if port in want.keys() - got.keys()]
        stayed = [port for port in self.sent if port in got.keys() - want.keys()]
        again = [port for port in lost if before.get(port, 0) > 1]
        if not again:
            return (
                f"A new port came, and made others go. `recent` holds {len(got)}, and of the "
                f"same packets a map of this kernel keeps {len(want)}. Ports that should have "
                f"stayed: {_few(lost)}; gone: {_few(stayed)}.",
                "Which of your calls set an entry's reference bit, or take an entry out?",
            )
        seen = f"Port {again[0]} came {before[again[0]]} times. A new port came, and it is gone"
        once = [port for port in stayed if before.get(port) == 1]
        seen += f", while port {once[0]}, which came once, is there." if once else "."
        if again[0] == next(iter(self.sent)):  # it came again later than others did
            return (
                seen,
                "The reference bit tells the kernel who came again. When a port comes again, does "
                "it keep its entry, or is the entry that it has afterwards a new one?",
            )
        return (
            seen,
            "The reference bit tells the kernel who came again. Look at what your program does "
            "with a port that is new: which of its calls sets the bit then, and what is a bit "
            "worth that all entries have?",
        )

    # --- the functions

    def ask(self, name: str, *args: Any) -> Any:
        return self.answer.call(name, *args, seconds=SECONDS)

    def writes(self) -> tuple[int, int]:
        """What was predicted, and what is left, of keys that the learner writes."""
        predicted = self.ask("predict")
        if type(predicted) is not int or not 0 <= predicted <= WRITES:
            raise NotYet(
                f"`predict()` returned {predicted!r}.",
                f"A new map of {ROOM} is told {WRITES} different keys. From 0 to {WRITES}, how "
                "many do you think it holds afterwards? A guess may be wrong.",
            )
        few = random.randint(3, 8)
        mine, course, keys = self.written(_numbers(few))
        self.evicted_of(mine, keys)
        mine, course, keys = self.written(_numbers(WRITES))
        left = len(course)
        self.evicted_of(mine, keys)
        taken = random.choice(list(course))
        for one in (mine, course):
            del one[taken]
        others = _numbers(2, keys)
        self.evicted_of(mine, random.sample([*keys, *others], WRITES + 2))
        new = _numbers(3, [*keys, *others])
        for one in (mine, course):
            _write(one, new)
        if mine.keys() != course.keys():
            raise NotYet(
                "`evicted()` was called, and after it new keys came. The map forgot other keys "
                "than one on which it had not been called.",
                "Looking should leave no trace, not even in an entry's bit. What does your "
                "function do to the map, and puts it back?",
            )
        return predicted, left

    def written(self, keys: list[int]) -> tuple[BpfMap, BpfMap, list[int]]:
        """The learner writes the keys to a new map, and the course to another."""
        mine, course = _new_map(self.recent), _new_map(self.recent)
        self.ask("insert", mine, keys)
        _write(course, keys)
        got, want = _totals(mine), _totals(course)
        seen = f"`insert()` was given {len(keys)} keys and a new map, which then holds {len(got)}"
        if not got:
            raise NotYet(f"{seen}.", "Which of its lines writes to the map?")
        if strange := [key for key in got if key not in keys]:
            raise NotYet(
                f"{seen}. One is {strange[0]}, and was not among the keys.",
                "What does `insert()` write under which key?",
            )
        counts = {got[key] for key in got} - {0}
        if counts:
            raise NotYet(
                f"{seen}. A count there is {counts.pop()}.",
                "No packet came from these ports. What is their count?",
            )
        if got.keys() != want.keys():
            if keys[-1] not in got:
                idea = (
                    "The key that was written last is always there. In which order does your "
                    "function write them?"
                )
            elif len(got) > len(want):
                idea = "Did all keys go through the map, or did your function choose some?"
            else:
                idea = "How often, and in what order, does your function write each key?"
            raise NotYet(
                f"{seen}. Written once each and in their order, they leave {len(want)}.", idea
            )
        return mine, course, keys

    def evicted_of(self, recent: BpfMap, keys: list[int]) -> None:
        before = _values(recent)
        want = [key for key in keys if key not in before]
        said = self.ask("evicted", recent, keys)
        if _values(recent) != before:
            raise NotYet(
                f"`evicted()` was called, and changed the map: it held {len(before)} keys, and "
                f"holds {len(recent)}.",
                "To look is not to touch. Which of its lines writes, or deletes?",
            )
        got = _listed("evicted", said)
        if got == want:
            return
        there = [key for key in keys if key in before]
        seen = (
            f"{len(keys)} keys were given to `evicted()`. {len(want)} of them are not in the map, "
            f"and it returned {len(got)}"
        )
        if got == there:
            raise NotYet(f"{seen}: those that are there.", "Which did the map lose?")
        if sorted(got) == sorted(want):
            raise NotYet(
                f"{seen}: the right ones, in another order.",
                "They should come in the order in which they were given. What kind of object "
                "forgets an order?",
            )
        wrong = next(key for key in [*got, *want] if (key in got) != (key in want))
        lost = "has lost it" if wrong in want else "has it" if wrong in there else "never had it"
        raise NotYet(
            f"{seen}. Key {wrong} is {'' if wrong in got else 'not '}among those, and the map "
            f"{lost}.",
            "Do you ask the map, or do you know beforehand what it should have lost?",
        )

    def kept(self) -> None:
        """A key that is kept once, while there is room, stays when nothing else does."""
        recent = _new_map(self.recent)
        keys = _numbers(6)
        absent, *new = _numbers(NEW + 1, keys)
        key = random.choice(keys[:-2])
        copies = kernel.cpus()
        for one in keys:
            values = [random.randrange(1, 1 << 40) for _ in range(copies)]
            recent[one] = values if recent.per_cpu else values[0]
        self.keep(recent, absent, "which is not in the map")
        self.keep(recent, key, "which is")
        lived, usual = _lives(recent, key, new), self.usual(keys, key, new)
        if more := [one for one in keys if one != key and one in recent]:
            raise NotYet(
                f"`keep()` was called for one key. After {NEW} new ones, {len(more)} others of "
                "those before are there as well.",
                "The map has room for a few. Whose bit did your function set?",
            )
        if key not in recent:
            newer = lived > usual
            raise NotYet(
                f"`keep()` was called for a key, and then {NEW} new keys came. It was gone after "
                f"{lived}; without `keep()`, after {usual}.",
                "That is one turn more, and no bit. Whatever is newest now is oldest later: what "
                "tells the kernel that an entry which is there was used?"
                if newer
                else "What you did left no trace in the map. Chapter 05 has a table of what keeps "
                "an entry alive: which of it can Python do?",
            )

    def keep(self, recent: BpfMap, key: int, which: str) -> None:
        """It must change nothing that can be seen."""
        before = _values(recent)
        seen = f"`keep()` was called for a key {which}"
        try:
            self.ask("keep", recent, key)
        except Raised as raised:
            raise NotYet(
                f"{seen}, and raised {raised} ({raised.where}).",
                "A key can be evicted at any moment before. What should a function do that finds "
                "nothing to keep?",
            ) from None
        after = _values(recent)
        if new := after.keys() - before.keys():
            raise NotYet(
                f"{seen}, and afterwards the map holds {len(new)} more.",
                "To keep is not to add. What does your function write when the lookup finds "
                "nothing?",
            )
        if lost := before.keys() - after.keys():
            raise NotYet(
                f"{seen}, and afterwards {len(lost)} of {len(before)} are gone.",
                "There was room. Which of its lines deletes?",
            )
        for one in before:
            if after[one] != before[one]:
                raise NotYet(
                    f"{seen}. Its packets were {_total(before[one])}, and are "
                    f"{_total(after[one])} now."
                    if one == key
                    else f"{seen}, and the packets of another were changed.",
                    "No packet came. What may a function write that is to change nothing but a "
                    "bit?",
                )

    def usual(self, keys: list[int], key: int, new: list[int]) -> int:
        """How long it lives when nobody keeps it."""
        recent = _new_map(self.recent)
        _write(recent, keys)
        return _lives(recent, key, new)

    def forgotten(self, first: list[int], again: list[int], gone: list[set[int]]) -> None:
        """Hold what the learner says will be forgotten against what was."""
        order = _listed("forgets", self.ask("forgets", first, again))
        came = f"{ROOM} ports came, and {len(set(again))} of them again."
        if strange := [port for port in order if port not in first or order.count(port) > 1]:
            times = "twice or more" if strange[0] in first else "and it never came"
            raise NotYet(
                f"{came} The list of `forgets()` has port {strange[0]}, {times}.",
                "Each port that the map will forget is in it once. Where does yours come from?",
            )
        for count, lost in enumerate(gone, 1):
            head = order[: len(lost)]
            if set(head) == lost:
                continue
            after = f"{came} After {count} new ones "
            unsaid = [port for port in first if port in lost and port not in head]
            still = [port for port in head if port not in lost]
            if not still:
                raise NotYet(
                    f"{after}port {unsaid[0]} is forgotten, and the list of `forgets()` ends "
                    f"before it, after {len(order)}.",
                    "What would have kept it? Did it come again?",
                )
            seen = (
                f"{after}port {unsaid[0]} is forgotten, and port {still[0]}, which stands before "
                "it in the list of `forgets()`, is there."
            )
            if still[0] in again:
                raise NotYet(
                    seen,
                    f"Port {still[0]} came again. What does that change in its entry, and what "
                    "does the kernel do when it finds such an entry?",
                )
            raise NotYet(
                seen,
                "Neither came again. Which of the two is nearer to the end of the kernel's list, "
                "and where do new entries go into it?",
            )
        if still := order[len(gone[-1]) :]:
            raise NotYet(
                f"{came} Then {len(gone)} new ones came, once each. Port {still[0]} is in the list "
                "of `forgets()`, and in the map.",
                "An exact LRU would have forgotten it long ago. The kernel does not know when a "
                "port came again, it knows that it did: what follows for a port that came again?",
            )


# --- maps -----------------------------------------------------------------------------------


def _the_map(prog: Program) -> BpfMap:
    """The map ``recent``, if it is declared as the task says."""
    if "recent" not in prog:
        names = ", ".join(f"`{one}`" for one in prog.maps) or "none"
        raise NotYet(
            f"Your program has no map `recent`. Its maps: {names}.",
            "Whoever reads a map finds it by its name. Where is yours declared, and as what?",
        )
    recent = prog["recent"]
    if recent.type not in ("lru_hash", "lru_percpu_hash"):
        raise NotYet(
            f"`recent` is a map of type {recent.type}.",
            "When a hash is full it refuses what is new, and an array has no keys to forget. Which "
            "type makes room by itself?",
        )
    if recent.flags & NO_COMMON_LRU:
        raise NotYet(
            f"`recent` was made with the flag BPF_F_NO_COMMON_LRU: room for {recent.max_entries}, "
            f"split among {kernel.cpus()} possible CPUs.",
            f"One CPU should be able to use all {ROOM} entries. Who shares a list with whom in "
            "your map?",
        )
    if recent.max_entries != ROOM:
        raise NotYet(
            f"`recent` has room for {recent.max_entries}, and the task says {ROOM}.",
            "Is your number what the map holds at most, or what you want to put into it?",
        )
    for what, layout, size in (("key", recent.key, 4), ("value", recent.value, 8)):
        if layout.size != size or not isinstance(layout.decode(bytes(size)), int):
            raise NotYet(
                f"The {what} of `recent` is of type {layout.ctype}, with {layout.size} bytes; the "
                f"task gives it one integer of {size}.",
                "What does somebody see who looks a port up with the bytes that the task says?"
                if what == "key"
                else "What becomes of a count that grows beyond your type?",
            )
    return recent


def _new_map(like: BpfMap) -> BpfMap:
    """An empty map of the same declaration: what a list went through changes what it does next."""
    opts = MapCreateOpts(ctypes.sizeof(MapCreateOpts), map_flags=like.flags)
    fd = lib().bpf_map_create(
        *(kernel.MAP_TYPES.index(like.type), like.name.encode()),
        *(like.key.size, like.value.size, like.max_entries, ctypes.byref(opts)),
    )
    return BpfMap(fd, name=like.name)


def _write(recent: BpfMap, keys: Iterable[int]) -> None:
    for key in keys:
        recent[key] = [0] * kernel.cpus() if recent.per_cpu else 0


def _lives(recent: BpfMap, key: int, new: list[int]) -> int:
    """Write the new keys: after how many is the key gone? All of them are written."""
    lives = len(new)
    for count, one in enumerate(new, 1):
        _write(recent, [one])
        if key not in recent:
            lives = min(lives, count)
    return lives


def _values(recent: BpfMap) -> dict[int, Any]:
    return dict(recent.items())


def _totals(recent: BpfMap) -> dict[int, int]:
    return {key: _total(value) for key, value in recent.items()}


def _total(value: Any) -> int:
    return int(sum(value)) if isinstance(value, list) else int(value)


# --- packets --------------------------------------------------------------------------------


def _course() -> Program:
    """Chapter 05's program, which counts packets of UDP by their source port in ``cache``."""
    return load("lru.bpf.c", defines={"FLOWS": ROOM})


def _drive(times: int) -> tuple[list[int], list[int], list[set[int]]]:
    """The same as ``Trial.packets()``, of the course's program, ``times`` ports coming again."""
    ports = _numbers(ROOM + NEW)
    first, new = ports[:ROOM], ports[ROOM:]
    again = random.sample(first, times)
    gone = list[set[int]]()
    with _course() as course:
        for port in [*first, *again]:
            course.run("remember", data=Packet("UDP", port, 1).frame())
        for port in new:
            course.run("remember", data=Packet("UDP", port, 1).frame())
            gone.append(set(first) - set(course["cache"]))
    return first, again, gone


def _numbers(count: int, but: Iterable[int] = ()) -> list[int]:
    """So many different ports, of which none reads the same with its bytes exchanged."""
    taken, found = set(but), dict[int, None]()
    while len(found) < count:
        one = random.randrange(1024, 1 << 16)
        if one >> 8 != one & 255 and one not in taken:
            found[one] = None
    return list(found)


def _ip(version: int, protocol: int, rest: bytes) -> bytes:
    """A frame around ``rest``. The kernel looks at no checksum before XDP, and nor do we."""
    if version == 6:  # where IPv4 has its header's length and its protocol, this has the same
        source = b"\xfd" + bytes([protocol]) + bytes(14)
        head = struct.pack("!IHBB", 0x65 << 24, len(rest), protocol, 64) + source + source
    else:
        head = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(rest), 0, 64, protocol, 0)
        head += bytes([10, 0, 0, 1, 10, 0, 0, 2])
    return bytes(12) + struct.pack("!H", {4: 0x0800, 6: 0x86DD}[version]) + head + rest


def _others() -> list[tuple[str, bytes]]:
    """Packets that are no business of the map."""
    ports = struct.pack("!HH", *_numbers(2))
    return [
        ("An IPv6 packet", _ip(6, 17, ports + bytes(40))),
        ("An ICMP packet", _ip(4, 1, ports + bytes(40))),
        ("A frame that ends before its ports", _ip(4, 17, b"")),
    ]


# --- words ----------------------------------------------------------------------------------


def _listed(name: str, said: Any) -> list[int]:
    if not isinstance(said, list | tuple) or any(type(one) is not int for one in said):
        what = "a set, which has no order" if isinstance(said, set) else f"{str(said)[:80]}"
        raise NotYet(
            f"`{name}()` returned {what}.",
            "The task asks for a list of keys, which are integers. What does your function have "
            "in the end, and what does its last line return?",
        )
    return list(said)


def _explain_first(packet: Packet, got: dict[int, int]) -> tuple[str, str]:
    seen = f"{packet} to port {packet.to} was sent, and "
    if not got:
        return (
            f"{seen}`recent` is empty.",
            "A lookup of a new port finds nothing. What does your program do then?",
        )
    if packet.port in got and len(got) == 1:
        return (
            f"{seen}its count is {got[packet.port]}.",
            "The packet that brings a port into the map is a packet too. Who counts it, and how "
            "often?",
        )
    [key, *_] = got
    if key == (packet.port >> 8 | (packet.port & 255) << 8):
        return (
            f"{seen}the key in `recent` is {key}: {key:#06x} instead of {packet.port:#06x}.",
            "In which order does a network send the bytes of a number, and in which does this CPU "
            "keep them?",
        )
    if key == packet.to:
        return f"{seen}the key in `recent` is {key}.", "Which end of a packet is its source?"
    return f"{seen}a key in `recent` is {key}.", "Where does your program take the key from?"


def _few(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports[:3])) + (" …" if ports[3:] else "") if ports else "none"
