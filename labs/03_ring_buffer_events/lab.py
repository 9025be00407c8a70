"""Lab 03: a process seeks where we tell it to, and each record comes, or is counted as lost."""

import json
import mmap
import platform
import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from helpers import kernel
from helpers.answers import Answer, Raised, Remote
from helpers.errors import PermissionNeeded, Unsupported
from helpers.lab import Lab, NotYet, the_map
from helpers.maps import BpfMap
from helpers.program import Program

RECORD = struct.Struct("<QIIi4xq16s")  # struct event of bpf/seek.h
COLUMNS = ["ns", "pid", "thread", "fd", "offset", "comm"]
HEADER = 8  # bytes that the kernel puts before each record
UNREAD = 200  # records that the ring must hold
LARGEST = 1 << 20  # bytes of a ring, so that one burst fills it
# Seeks of each of two threads, and how often at most. A plain addition lost some of the first round
# in 39 of 40 trials on a busy machine; in 31 of 40 when both threads did the same, in step.
REPEAT, ROUNDS = 100_000, 5
AWAKE = 2.0  # seconds after which a reader that should be woken is asleep
TRACEPOINT = "syscalls:sys_enter_lseek"
FUNCTION = f"__{'arm64' if platform.machine() == 'aarch64' else 'x64'}_sys_lseek"
KINDS = "tracepoint", "kprobe", "raw_tracepoint", "tracing"
COMPARE = "What does your program compare with `watched` before it sends anything?"
FDS = [-1, -(1 << 31), (1 << 31) - 1]
OFFSETS = [0, -1, 1 << 31, 1 << 32, -(1 << 63), (1 << 63) - 1]


class Event(NamedTuple):
    """One record: ``comm`` as bytes, up to its first NUL."""

    ns: int
    pid: int
    thread: int
    fd: int
    offset: int
    comm: bytes

    @classmethod
    def of(cls, record: bytes) -> "Event":
        ns, pid, thread, fd, offset, comm = RECORD.unpack(record)
        return cls(ns, pid, thread, fd, offset, comm.partition(b"\0")[0])

    @property
    def row(self) -> list[Any]:
        """As the task wants it in a frame."""
        return [*self[:-1], self.comm.decode(errors="replace")]


class RingBufferEvents(Lab):
    title = "Events through a ring buffer"
    parts = ("program", "answer")
    hints = (
        "Three maps: a ring buffer `events`, and two arrays of one entry, `lost` and `watched`. "
        "Chapter 06 declares a ring and what counts its losses; chapter 12 asks a map whom to "
        "watch. What should your program look at first, so that nobody else's seeks cost anything?",
        "Reserve room in the ring, write each field, submit. A full ring gives you no room: what "
        "does the reader learn of that, and who else could tell? Two threads of the process may "
        "meet a full ring at the same moment, on two CPUs.",
        "In Python, begin with `len(records[0])`, and add up the sizes of the six fields. C puts "
        "each number where its own size divides the offset, so some bytes belong to no field: "
        "which? `struct`, NumPy and `ctypes` each have a way to say so. Of the 16 bytes of `comm`, "
        "how many are the name?",
    )

    def attach(self, prog: Program) -> None:
        """Attach what is there: the kprobe where the kernel has them, else the tracepoint."""
        wanted = {name: kind for name, kind in prog.kinds.items() if kind in KINDS}
        probes = {name: kind for name, kind in wanted.items() if kind == "kprobe"}
        if not wanted:
            have = ", ".join(f"`{name}` of type {kind}" for name, kind in prog.kinds.items())
            raise NotYet(
                f"A tracepoint or a kprobe is needed, and yours are: {have or 'none'}.",
                'Who calls your program, and when? In libbpf\'s dialect `SEC("…")` says it.',
            )
        rest = {name: kind for name, kind in wanted.items() if name not in probes}
        if probes and not rest and not kernel.has_kprobes():
            raise Unsupported(
                "kprobes (CONFIG_KPROBES)",
                f"Linux {platform.release()}, built without",
                "Use the tracepoint syscalls/sys_enter_lseek: it has the same arguments.",
            )
        wanted = probes if probes and kernel.has_kprobes() else rest
        for name, kind in wanted.items():
            # BCC attaches functions of such a name when it loads them.
            if prog.dialect == "libbpf" or not name.startswith(("kprobe__", "tracepoint__")):
                _attach(prog, name, FUNCTION if kind == "kprobe" else TRACEPOINT)

    def verify(self, prog: Program, answer: Answer) -> str:
        maps = _the_ring(prog), _the_array(prog, "lost", 8), _the_array(prog, "watched", 4)
        self.attach(prog)
        with Seeker() as ours, Seeker() as other:
            trial = Trial(prog, *maps, ours, other)
            trial.nobody_is_watched()
            trial.one_seek()
            trial.another_thread()
            trial.many_seeks()
            trial.other_processes()
            trial.sleeping_reader()
            trial.burst()
            trial.two_cpus()
        read_records(answer, trial.kept)
        return (
            f"{trial.made:,} seeks of two processes and their threads: {trial.delivered:,} records "
            f"came, {trial.dropped:,} found the ring full and were counted, also on two CPUs at "
            "once, and none was of the process next door. Your frame has every field of the "
            "records, and of those that the check made up."
        )


# --- what is watched ------------------------------------------------------------------------


class Seeker:
    """A process of ours that seeks as it is told: see ``seeker.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -I and -S: nothing but the standard library, and so 20 ms to start.
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("seeker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        hello = self._hear()
        self.pid, self.file = hello["pid"], hello["file"]  # file: one that it has open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def seek(self, seeks: Sequence[tuple[int, int]], name: bytes = b"seeker") -> list[Event]:
        """Have its main thread seek, and say what records there should be: ``ns`` is 0."""
        [thread] = self._order({"seeks": seeks, "name": name.hex()})
        return [Event(0, self.pid, thread, fd, offset, name) for fd, offset in seeks]

    def burst(self, count: int, name: bytes = b"burst") -> "Burst":
        """Have a thread of its own seek ``count`` times."""
        [burst] = self.bursts([(None, random_fd(), count)], name)
        return burst

    def bursts(self, plans: Sequence[tuple[int | None, int, int]], name: bytes) -> list["Burst"]:
        """The same for each (CPU, fd, count), all at the same time."""
        # The low half of an offset is never 0, since where lseek() returns that, the loop ends.
        firsts = [random.randrange(1 << 20, 1 << 30) + (i + 1 << 32) for i in range(len(plans))]
        step = random.randrange(1, 1000)
        ids = self._order(
            {
                "threads": [
                    {"cpu": c, "fd": fd, "first": at, "step": step, "count": n, "name": name.hex()}
                    for (c, fd, n), at in zip(plans, firsts, strict=True)
                ]
            }
        )
        return [
            Burst(self.pid, thread, fd, at, step, n, name)
            for thread, (_, fd, n), at in zip(ids, plans, firsts, strict=True)
        ]

    def _order(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return json.loads(line)
        raise RuntimeError("the process that is watched ended before its work was done")


class Burst(NamedTuple):
    """Many seeks of one thread, to offsets that rise in steps."""

    pid: int
    thread: int
    fd: int
    first: int
    step: int
    seeks: int
    name: bytes

    def event(self, number: int) -> Event:
        """What record there should be of that seek: ``ns`` is 0."""
        offset = self.first + number * self.step
        return Event(0, self.pid, self.thread, self.fd, offset, self.name)

    def all(self) -> list[Event]:
        return [self.event(number) for number in range(self.seeks)]


def random_fd() -> int:
    """The number of a file that nobody has open: an lseek() of that is over at once."""
    return random.randrange(1 << 16, 1 << 31)


def random_seeks(count: int) -> list[tuple[int, int]]:
    """Any numbers do for an lseek() that fails."""
    seeks = list[tuple[int, int]]()
    while len(seeks) < count:
        fd = random.choice([*FDS, random_fd()])
        offset = random.choice([*OFFSETS, random.getrandbits(64) - (1 << 63)])
        if _unlike(fd, offset):
            seeks.append((fd, offset))
    return seeks


def _unlike(fd: int, offset: int) -> bool:
    """Is neither what the other reads like, without its sign or its upper half?"""
    return (fd - offset) % (1 << 32) != 0


def random_names() -> list[bytes]:
    """As long as a name can be, of other letters, cut within a letter, of one letter."""
    letters = bytes(random.choices(range(ord("a"), ord("z") + 1), k=15))
    other = "".join(random.choices("äöüßéñçø", k=7)).encode()
    cut = (letters[:12] + random.choice("☃☂♜♞").encode())[: random.choice([13, 14])]
    return [letters, other, cut, letters[:1]]


# --- the program ----------------------------------------------------------------------------


class Trial:
    """One check of one program. All that is read is kept for the answer."""

    def __init__(
        self,
        prog: Program,
        ring: BpfMap,
        lost: BpfMap,
        watched: BpfMap,
        ours: Seeker,
        other: Seeker,
    ) -> None:
        self.ring, self.lost, self.watched = ring, lost, watched
        self.ours, self.other = ours, other
        self.reader = prog.events("events", lost=None)
        self.room = (ring.max_entries - 1) // (HEADER + RECORD.size)
        self.kept = list[bytes]()
        self.made = self.delivered = self.dropped = self.counted = 0
        self.ends = [_ever_taken(ring)] * 2
        self.began = time.monotonic_ns()

    # --- the workload, from simple to hard

    def nobody_is_watched(self) -> None:
        count = random.randrange(5, 20)
        self.ours.seek(random_seeks(count))
        self.none_of(
            f"`watched` holds 0, as at first, and a process called lseek() {count} times",
            "Nobody is to be traced before the first process is named. How does your program know "
            "in whose call it is?",
        )

    def one_seek(self) -> None:
        self.watch(self.ours)
        seeks = [(random_fd(), random.randrange(1 << 40, 1 << 62))]
        self.all_of(self.ours.seek(seeks, random_names()[0]))

    def another_thread(self) -> None:
        count = random.randrange(5, 20)
        seeks = self.ours.burst(count).all()
        if not (records := self.read()):
            raise NotYet(
                "The watched process called lseek() once, and its record came. A second thread of "
                f"it called lseek() {count} times, and none of those came.",
                "A process has one number, and each of its threads another. Which of the two does "
                "`watched` hold, and which does your program compare it with?",
            )
        self.all_of(seeks, records)

    def many_seeks(self) -> None:
        """As many as must fit, under several names, and nobody reads meanwhile."""
        names = random_names()
        events = [
            event for name in names for event in self.ours.seek(random_seeks(UNREAD // 4), name)
        ]
        self.all_of(events)

    def other_processes(self) -> None:
        name = random_names()[0]
        count, few = random.randrange(20, 50), random.randrange(5, 20)
        self.other.seek(random_seeks(count), name)
        self.none_of(
            f"`watched` holds one process, and another called lseek() {count} times",
            COMPARE,
        )
        self.other.burst(2 * self.room, name)
        events = self.ours.seek(random_seeks(few), name)
        records, lost = self.read(), self.newly_lost()
        if len(records) < few or lost:
            raise NotYet(
                f"Another process called lseek() {2 * self.room:,} times, then the watched one "
                f"{few} times: {len(records)} records came, and `lost` rose by {lost:,}.",
                "Whatever is reserved takes room in the ring until the reader is past it, even if "
                "it is discarded. When does your program find out whose seek it is?",
            )
        self.all_of(events, records)
        self.watch(self.other)
        self.ours.seek(random_seeks(count))
        events, records = self.other.seek(random_seeks(few), name), self.read()
        if any(Event.of(record).pid == self.ours.pid for record in records):
            raise NotYet(
                f"`watched` was changed to another process, and {len(records)} records came, still "
                "of the first.",
                "When does your program look at `watched`, and how long does it believe that?",
            )
        self.all_of(events, records)
        self.watch(self.ours)

    def sleeping_reader(self) -> None:
        with select.epoll() as sleeper:
            sleeper.register(self.ring.fileno(), select.EPOLLIN)
            events = self.ours.seek(random_seeks(1))
            woken = sleeper.poll(AWAKE)
        self.all_of(events)
        if not woken:
            raise NotYet(
                "The ring was empty and its reader asleep. A record came, and nobody woke the "
                f"reader within {AWAKE:g} s.",
                "What does your program tell the kernel, when it submits, about waking the reader?",
            )

    def burst(self) -> None:
        """More than the ring holds while nobody reads; then the rest must be as before."""
        count = self.room + random.randrange(self.room // 4, self.room)
        burst = self.ours.burst(count)
        records, lost = self.read(), self.newly_lost()
        if len(records) + lost != count:
            seen = (
                f"{count:,} seeks while nobody read: {len(records):,} records came, and `lost` "
                f"rose by {lost:,}. {len(records):,} + {lost:,} is not {count:,}."
            )
            if not lost:
                raise NotYet(
                    seen,
                    "A full ring gives no room, and tells the reader nothing. Who is the only one "
                    "to notice?",
                )
            if len(records) + lost < count:
                raise NotYet(
                    seen, "What does your program do with the number that is in `lost` already?"
                )
            raise NotYet(seen, "How much does your program add, and on which of its paths?")
        self.made, self.dropped = self.made + count, self.dropped + lost
        self.in_order(burst, [Event.of(record) for record in records])
        self.all_of(self.ours.seek(random_seeks(20)))

    def two_cpus(self) -> None:
        cpus = kernel.online_cpus()[:2]
        if len(cpus) < 2:
            raise Unsupported("two CPUs", "one", "Give the machine a second one.")
        total = 2 * REPEAT
        for _ in range(ROUNDS):
            # Two kinds of files, so that the two threads do not fall into step.
            plans = [(cpus[0], random_fd(), REPEAT), (cpus[1], self.ours.file, REPEAT)]
            bursts = self.ours.bursts(plans, b"both")
            records, lost = self.read(), self.newly_lost()
            came = f"{len(records):,} records came, and `lost` rose by {lost:,}"
            if (gone := total - len(records) - lost) > 0:
                raise NotYet(
                    f"Two threads called lseek() {REPEAT:,} times each, on two CPUs at the same "
                    f"time: {came}. {gone:,} are in neither.",
                    "To add one, a CPU reads the number and writes it back. What becomes of your "
                    "count when both read before either writes?",
                )
            if gone:
                raise NotYet(
                    f"Two threads called lseek() {REPEAT:,} times each: {came}, which is "
                    f"{-gone:,} too many.",
                    "How much does your program add for one record that is lost?",
                )
            self.made, self.dropped = self.made + total, self.dropped + lost
            events = [Event.of(record) for record in records]
            for burst in bursts:
                self.in_order(burst, [one for one in events if one.thread == burst.thread])
            random.shuffle(cpus)

    # --- steps

    def watch(self, whom: Seeker) -> None:
        self.watched[0] = whom.pid

    def read(self) -> list[bytes]:
        """All that is in the ring, and how far the ring was filled then and before."""
        self.ends = [self.ends[1], _ever_taken(self.ring)]
        records = self.reader.raw()
        self.delivered += len(records)
        self.kept += records[:UNREAD]
        wrong = next((one for one in records if len(one) != RECORD.size), None)
        if wrong is not None:
            _explain_size(len(wrong))
        return records

    def newly_lost(self) -> int:
        """What ``lost`` says since we last asked."""
        value = self.lost[0]
        now = sum(value) if isinstance(value, list) else value
        before, self.counted = self.counted, now
        return now - before

    def none_of(self, what: str, idea: str) -> None:
        if records := self.read():
            raise NotYet(f"{what}: {len(records)} records came.", idea)
        if lost := self.newly_lost():
            raise NotYet(
                f"{what}: nothing came, and `lost` rose by {lost}.",
                "Is a record lost that nobody wanted?",
            )

    def all_of(self, events: list[Event], records: list[bytes] | None = None) -> None:
        """All of them came, in order and with the right fields, and none was lost."""
        records = self.read() if records is None else records
        lost = self.newly_lost()
        if len(records) != len(events):
            self.explain_count(len(events), records, lost)
        for want, record in zip(events, records, strict=True):
            self.compare(want, Event.of(record))
        if lost:
            raise NotYet(
                f"Each call of lseek() has its record, {len(events)} in all, and `lost` rose by "
                f"{lost}.",
                "When is a record lost, and on which path of your program do you know it?",
            )
        self.made += len(events)

    def in_order(self, burst: Burst, events: list[Event]) -> None:
        """Each of the events is one of the burst's, and they come in the same order."""
        last = -1
        for got in events:
            number, rest = divmod(got.offset - burst.first, burst.step)
            if rest or not last < number < burst.seeks:
                raise NotYet(
                    f"Of {burst.seeks:,} seeks to offsets that rise, {len(events):,} records came, "
                    f"and that of {got.offset:,} came twice, or out of order.",
                    "How often does your program send one event, and from where does it take it?",
                )
            self.compare(burst.event(number), got)
            last = number

    def explain_count(self, count: int, records: list[bytes], lost: int) -> NoReturn:
        made = "An lseek() was" if count == 1 else f"{count} calls of lseek() were"
        seen = f"{made} made by the watched process, and "
        if others := sum(Event.of(record).pid != self.watched[0] for record in records):
            raise NotYet(
                f"{seen}{len(records)} records came, {others} of other processes.", COMPARE
            )
        if not records and (taken := self.ends[1] - self.ends[0]):
            raise NotYet(
                f"{seen}your program took {taken} bytes of the ring for that, but no record came.",
                "What does the reader see of a record that is reserved, and what makes it whole?",
            )
        if not records:
            raise NotYet(
                f"{seen}no record came; `lost` rose by {lost}.",
                "Is your program called at all, and does it take this process for the watched one?",
            )
        if len(records) < count and lost:
            raise NotYet(
                f"{seen}{len(records)} records came; `lost` rose by {lost}. The ring has "
                f"{self.ring.max_entries:,} bytes.",
                f"A record takes {RECORD.size} bytes and {HEADER} more. How many of them should "
                "fit while nobody reads, and in what does your dialect count a ring's size?",
            )
        if len(records) == 2 * count:
            raise NotYet(
                f"{seen}{len(records)} records came: two of each.",
                "In how many places does your program send a record, or how many programs do?",
            )
        raise NotYet(
            f"{seen}{len(records)} records came; `lost` rose by {lost}.",
            "Which of the calls does your program send nothing of, or more than one record?",
        )

    def compare(self, want: Event, got: Event) -> None:
        now = time.monotonic_ns()
        wrong = [name for name in Event._fields[1:] if getattr(want, name) != getattr(got, name)]
        if wrong:
            _explain_fields(want, got, wrong)
        if not self.began <= got.ns <= now:
            raise NotYet(
                f"A record came with an `ns` of {got.ns:,}. The kernel's monotonic clock stood at "
                f"{self.began:,} before, and at {now:,} after.",
                "Which clock does your program read, in which unit, and where does it put it?",
            )


def _ever_taken(ring: BpfMap) -> int:
    """The bytes ever reserved in the ring: its producer's position, at the start of page 1."""
    page = mmap.PAGESIZE
    with mmap.mmap(ring.fileno(), page, prot=mmap.PROT_READ, offset=page) as position:
        return int.from_bytes(position[:8], sys.byteorder)


def _attach(prog: Program, name: str, target: str) -> None:
    door = Path("/sys/kernel/tracing/events", *TRACEPOINT.split(":"))
    try:
        prog.attach(name, target)
    except Unsupported as error:
        if not door.exists() and not kernel.has_kprobes():
            raise
        hook = error.need.removeprefix("a kernel with the hook ")
        raise NotYet(
            f"This kernel has no `{hook}` to attach `{name}` to.",
            "What exactly is the place called? For tracepoints the kernel keeps a folder of each, "
            "in `/sys/kernel/tracing/events`.",
        ) from None
    except PermissionNeeded:
        raise NotYet(
            f"The kernel does not attach `{name}` to its tracepoint: the program reads bytes that "
            "the event there does not have.",
            "Each tracepoint hands over a struct of its own, which its `format` file lists. Is "
            "yours the one at whose struct your program looks?",
        ) from None


def _the_ring(prog: Program) -> BpfMap:
    ring = the_map(prog, "events", {}, {})
    if ring.type != "ringbuf":
        raise NotYet(
            f"`events` is of type {ring.type}.",
            "Which type of map is one queue for all CPUs, from which a reader takes records in "
            "the order in which they were sent?",
        )
    if ring.max_entries > LARGEST:
        raise NotYet(
            f"`events` takes {ring.max_entries:,} bytes of the kernel's memory, and the task "
            f"gives it {LARGEST:,} at most.",
            "In what does your dialect count the size of a ring: in bytes, pages, or records?",
        )
    return ring


def _the_array(prog: Program, name: str, size: int) -> BpfMap:
    found = the_map(prog, name, {}, {})
    good = ("array", "percpu_array") if name == "lost" else ("array",)
    if found.type not in good:
        raise NotYet(
            f"`{name}` is of type {found.type}, and the task makes it an array.",
            f"Who else than your program uses `{name}`, and under which key?",
        )
    if found.value.size != size or not isinstance(found.value.decode(bytes(size)), int):
        raise NotYet(
            f"An entry of `{name}` has {found.value.size} bytes, and the task gives it one number "
            f"of {size}.",
            f"What does the other side read, or write, when the two do not agree on `{name}`?",
        )
    return found


def _explain_size(size: int) -> NoReturn:
    seen = f"A record of {size} bytes came, and `struct event` has {RECORD.size}."
    if size == struct.calcsize("P"):
        raise NotYet(seen, "Of what did your program take the size: of the record, or a pointer?")
    raise NotYet(
        seen, "Which type does your program send, and how large is it in C, with its gaps?"
    )


def _explain_fields(want: Event, got: Event, wrong: list[str]) -> NoReturn:
    if wrong[0] in ("pid", "thread"):
        seen = (
            f"Process {want.pid}, thread {want.thread}, called lseek(). The record says pid "
            f"{got.pid}, thread {got.thread}"
        )
        if (got.pid, got.thread) == (want.thread, want.pid):
            raise NotYet(
                f"{seen}: the two are exchanged.",
                "`bpf_get_current_pid_tgid()` gives two numbers in one. Which half is which, and "
                "what does the kernel call the thing that you call a process?",
            )
        raise NotYet(
            f"{seen}: wrong in {' and '.join(f'`{name}`' for name in wrong)}.",
            "Which half of `bpf_get_current_pid_tgid()` is which number, and who writes it to the "
            "record?",
        )
    seen = f"lseek({want.fd}, {want.offset}) was called"
    if "fd" in wrong and (got.fd == want.offset or got.offset == want.fd):
        raise NotYet(
            f"{seen}, and the record has the fd {got.fd} and the offset {got.offset}.",
            "In which order do the arguments come?",
        )
    if "fd" in wrong:
        raise NotYet(
            f"{seen}, and the record has the fd {got.fd}.",
            "Which argument of lseek() is the file, and where does your program put it?",
        )
    if "offset" in wrong and (got.offset ^ want.offset) & 0xFFFFFFFF == 0:
        raise NotYet(
            f"{seen}, and the record has the offset {got.offset}: the low 32 bits are right.",
            "Through which variable, of which size, does the offset go on its way?",
        )
    if "offset" in wrong:
        raise NotYet(
            f"{seen}, and the record has the offset {got.offset}.",
            "Which argument of lseek() is the offset, and where does your program put it?",
        )
    seen = f"A thread of the name {want.comm!r} called lseek(), and the record has {got.comm!r}"
    if got.comm and want.comm.startswith(got.comm):
        raise NotYet(
            f"{seen}: its first {len(got.comm)} bytes.",
            "A name has up to 15 bytes, and a NUL. How large does your program say the field is?",
        )
    raise NotYet(f"{seen}.", "Which helper writes the name to a record, and when?")


# --- the answer -----------------------------------------------------------------------------


def read_records(answer: Answer, kept: list[bytes]) -> None:
    """Records that are easy, those of the ring, hard ones, and none at all."""
    one, other = _made_up(3), _made_up(3)
    made_up = Frames(answer, "records that the check made up")
    if made_up.call(one) == made_up.call(other):
        raise NotYet(
            "`to_frame()` was given 3 records, then 3 others, and returned the same frame.",
            "Where does your function look at what it is given?",
        )
    made_up.compare(one)
    Frames(answer, "records from your ring").compare(kept)
    made_up.compare(_hard())
    made_up.compare(_hard()[:1])
    Frames(answer, "records").compare([])


def _made_up(count: int) -> list[bytes]:
    """Numbers that look the same in any reading are not among them."""
    return [
        _record(
            ns=random.randrange(1 << 50, 1 << 60),
            pid=random.randrange(1 << 16, 1 << 22),
            thread=random.randrange(1 << 16, 1 << 22),
            fd=random.randrange(3, 1000),
            offset=random.randrange(1 << 40, 1 << 60),
            comm=bytes(random.choices(range(ord("a"), ord("z") + 1), k=random.randrange(3, 16))),
        )
        for _ in range(count)
    ]


def _hard() -> list[bytes]:
    """All bits of each number, names of any bytes with old bytes behind, and one record twice."""
    records = [
        _record(
            ns=random.choice([0, (1 << 64) - 1, random.getrandbits(64)]),
            pid=random.choice([(1 << 32) - 1, random.getrandbits(32)]),
            thread=random.choice([(1 << 32) - 1, random.getrandbits(32)]),
            fd=fd,
            offset=offset,
            comm=name + (b"\0" + random.randbytes(15) if len(name) < 15 else b""),
        )
        for fd in [*FDS, random_fd()]
        for offset in [*OFFSETS, random.getrandbits(63)]
        if _unlike(fd, offset)
        for name in [random.choice([*random_names(), b""])]
    ]
    random.shuffle(records)
    records.insert(random.randrange(len(records)), records[0])
    return records


def _record(*, ns: int, pid: int, thread: int, fd: int, offset: int, comm: bytes) -> bytes:
    record = bytearray(RECORD.pack(ns, pid, thread, fd, offset, comm[:16]))
    record[20:24] = random.randbytes(4)  # C leaves the padding as it was
    return bytes(record)


class Frames:
    """Calls of ``to_frame()`` with one kind of records."""

    def __init__(self, answer: Answer, what: str) -> None:
        self.answer, self.what = answer, what

    def compare(self, records: list[bytes]) -> None:
        wanted = [Event.of(record).row for record in records]
        columns, rows = self.call(records)
        if sorted(map(str, columns)) != sorted(COLUMNS):
            have = ", ".join(f"`{name}`" for name in columns) or "none"
            if not records:
                raise NotYet(
                    f"`to_frame([])` gives a frame with the columns: {have}.",
                    "A ring may be empty when you read it. Which columns does whoever goes on with "
                    "your frame expect then?",
                )
            raise NotYet(
                f"The columns of your frame: {have}. The task names "
                f"{', '.join(f'`{name}`' for name in COLUMNS)}.",
                "Which of them is missing, or belongs to nobody?",
            )
        if len(rows) != len(records):
            seen = f"`to_frame()` was given {len(records)} {self.what}, and its frame has "
            if len(rows) == len(set(records)):
                raise NotYet(
                    f"{seen}{len(rows)} rows. That many of them are different.",
                    "Two records may be the same in every byte. Are they one event?",
                )
            raise NotYet(f"{seen}{len(rows)} rows.", "Which records does your function go through?")
        order = [columns.index(name) for name in COLUMNS]
        found = [[row[i] for i in order] for row in rows]
        if found != wanted and sorted(map(repr, found)) == sorted(map(repr, wanted)):
            raise NotYet(
                f"`to_frame()` was given {len(records)} {self.what}. Every row is right, and the "
                "order is another.",
                "The ring delivers in the order in which room was reserved. What orders your rows?",
            )
        for number, (want, got, record) in enumerate(zip(wanted, found, records, strict=True)):
            for name, one, other in zip(COLUMNS, want, got, strict=True):
                if type(one) is not type(other) or one != other:
                    seen = (
                        f"Record {number} of the {self.what} has `{name}` = {one!r}, and your "
                        f"frame says {other!r}"
                    )
                    if name == "comm":
                        _explain_name(f"{seen}.", one, other, record)
                    _explain_number(seen, one, other, dict(zip(COLUMNS, want, strict=True)))

    def call(self, records: list[bytes]) -> tuple[list[Any], list[list[Any]]]:
        try:
            frame = self.answer.call("to_frame", records)
        except Raised as raised:
            _explain_raised(raised, self.what, records)
        if not hasattr(frame, "columns"):
            known = frame is not None and not isinstance(frame, Remote)
            kind = f"a {type(frame).__name__}" if known else "nothing of the kind"
            raise NotYet(
                f"`to_frame()` was given {len(records)} {self.what}. It should return a frame, and "
                f"returned {'None' if frame is None else kind}.",
                "What stands behind `return`, on every path through your function?",
            )
        return list(frame.columns), frame.to_numpy().tolist()


def _explain_raised(raised: Raised, what: str, records: list[bytes]) -> NoReturn:
    seen = f"`to_frame()` was given {len(records)} {what}, and `{raised.where}` raised {raised}."
    if not records:
        raise NotYet(
            seen, "A ring may be empty when you read it. What is there to take apart then?"
        )
    if raised.kind == "UnicodeDecodeError":
        raise NotYet(
            seen,
            "A name is up to 15 bytes of any kind: letters of any language, perhaps cut in two at "
            "the end. What does the task say they become?",
        )
    if raised.kind == "error" or "buffer" in raised.text:
        raise NotYet(
            seen,
            f"Each record has {RECORD.size} bytes. How many do your fields add up to, and where "
            "does C put the others?",
        )
    raise NotYet(seen, "Call your function yourself, in a cell, with records from your ring.")


def _explain_name(seen: str, want: str, got: Any, record: bytes) -> NoReturn:
    if isinstance(got, bytes):
        raise NotYet(seen, "Those are bytes. What makes text of them, and in which encoding?")
    if not isinstance(got, str):
        raise NotYet(seen, "What kind of value is a name?")
    raw = record[32:48]
    if got.startswith(("b'", 'b"')):
        raise NotYet(
            seen, "`str()` of bytes shows how they are written in Python. What reads them as text?"
        )
    if got.rstrip("\0") == want:
        raise NotYet(seen, "The field has 16 bytes, whatever the name is. What fills the rest?")
    if "\0" in got or (b"\0" in raw and len(got) > len(want) and got.startswith(want)):
        raise NotYet(
            seen,
            "C takes the first NUL for the end of a text, and does not care what lies behind it. "
            "Where does your text end?",
        )
    if got in (want.replace("\ufffd", ""), want[:-1]):
        raise NotYet(
            seen,
            "Something of the name has gone. What does the task say of bytes that are no text?",
        )
    raise NotYet(seen, "In which encoding does your function read the name, and from which bytes?")


def _explain_number(seen: str, want: int, got: Any, fields: dict[str, Any]) -> NoReturn:
    if isinstance(got, str | bytes):
        raise NotYet(f"{seen}.", "That is text. What kind of value can you calculate with?")
    if isinstance(got, float):
        raise NotYet(
            f"{seen}.",
            "A float has 53 bits for its digits, and these numbers up to 64. Where do yours turn "
            "into floats?",
        )
    if not isinstance(got, int):
        raise NotYet(f"{seen}.", "What kind of value is a number of the record?")
    for bits in (32, 64):
        low = abs(want).to_bytes(8, "little")[: bits // 8]
        if got == int.from_bytes(low, "big"):
            raise NotYet(
                f"{seen}: its bytes in reverse.",
                "In which order does this CPU keep the bytes of a number?",
            )
        if (want - got) % (1 << bits) == 0 and abs(want) < 1 << bits:
            raise NotYet(
                f"{seen}: the same {bits} bits.",
                "Which fields of `struct event` have a sign, and which have none?",
            )
    if (want - got) % (1 << 32) == 0:
        raise NotYet(
            f"{seen}: its low 32 bits.", "How many bytes has this field, and how many do you read?"
        )
    for name, value in fields.items():
        if got == value:
            raise NotYet(
                f"{seen}, which is its `{name}`.",
                "Which number of the record does this column hold, and in which order are they?",
            )
    raise NotYet(
        f"{seen}.",
        "At which byte of the record does this field begin, and how many has it? C leaves a gap "
        "where a number would not be aligned.",
    )
