"""Lab 05: what a map counted must outlive its process, and the next process must go on with it."""

import ctypes
import json
import os
import random
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from helpers import kernel, open_map, sandbox
from helpers.answers import FIRST_USER, Answer, Raised
from helpers.attach import Function
from helpers.errors import NotFound
from helpers.lab import DAWDLE, Lab, NotYet, the_map, the_program
from helpers.libbpf import ProgInfo, lib
from helpers.maps import BpfMap
from helpers.program import Program, load

VALUE = {"packets": 8, "bytes": 8}  # bytes of each field
ROOM = 1024  # ports that the map must hold
LARGE = 8192  # a map with more room than this is not filled up
PATIENCE = 10.0  # seconds that the kernel may take to free what nobody holds
# Packets a CPU, and how often at most: see lab 02. And how often two CPUs meet new ports.
REPEAT, ROUNDS, MEETINGS = 100_000, 5, 15
VERDICTS = ["XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT"]


class Total(NamedTuple):
    """What was sent to one port, or what the map says of it."""

    packets: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return f"{_counted(self.packets, 'packet')} of {self.bytes:,} bytes"


Totals = dict[int, Total]  # by port


class MapPinning(Lab):
    title = "Map pinning"
    parts = ("program", "answer")
    loads = False  # the learner's Python loads it, in one process after the other
    hints = (
        "A map lives as long as somebody holds it: a file descriptor, a program or a pin. The "
        "first two go when the process is killed, so it is `begin()` that has to pin, at once: "
        "chapter 11 does it with a method of the map. And a program that nobody holds is gone, "
        "too: what must `begin()` return?",
        "`resume()` has two steps, and their order matters: open what is pinned, then load the "
        "program with that map in the place of a new one. `load()` has an argument for it, which "
        "names the map as the C does. Opening a path where nothing is pinned raises an error by "
        "itself.",
        "A pin is a name in a file system: `finish()` takes the name away, and touches neither "
        "what the map holds nor anybody else's pin. As for a path that is taken: what does "
        "`pin()` do then by itself, and which of your lines is in its way?",
    )

    def verify(self, program: Path, answer: Answer) -> str:
        with _folder() as folder:
            trial = Trial(program, folder)
            trial.first_process(answer)
            with Answer(answer.file, program) as second:
                trial.second_process(second)
            trial.two_cpus()
            with Answer(answer.file, program) as third:
                trial.third_process(third)
        return (
            f"The first process was killed, and bpftool read {len(trial.found):,} ports from your "
            "pin. The second went on with the same map, to "
            f"{sum(total.packets for total in trial.sent.values()):,} packets for "
            f"{len(trial.sent):,} ports, each counted. After the third, neither pin nor map is "
            "left."
        )


class Trial:
    """One check. ``sent`` is the truth: it goes on from process to process, as the map should."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.sent = program, Totals()
        self.last = dict[int, int]()  # the length of each port's last packet
        names = random.sample(range(1000, 10000), 2)
        self.pin, self.other = (folder / f"lab_05_{name}" for name in names)
        self.before = _pins()  # this kernel's own, if it has any
        self.found = Totals()  # by bpftool, when the first process was gone
        self.number = 0  # the map's id
        self.sport, *ports = random.sample(range(1, 65535), ROOM - 1)  # where all come from
        # The first reads differently backwards, and the ends of what 16 bits hold follow.
        first = next(port for port in ports if port >= ROOM and port >> 8 != port & 0xFF)
        self.ports = [first, 0, 65535, *(port for port in ports if port != first)]

    # --- the first process: begin, and die

    def first_process(self, answer: Answer) -> None:
        self.call_begin(answer)
        with self.pinned(answer) as ports:
            self.number = ports.id
            self.declared(ports)
            with self.running(ports, "begin") as prog:
                self.untouched(ports)
                self.first_packets(prog, ports)
                self.send(prog, self.some(self.ports[:40]))
                self.compare(_read(ports), ports)
        self.begin_again(answer)
        answer.kill()
        self.programs_gone()
        self.found = self.by_bpftool("The process was killed")

    def call_begin(self, answer: Answer) -> None:
        try:
            answer.call("begin", str(self.program), str(self.pin))
        except Raised:
            self.blame_the_program()
            raise

    def blame_the_program(self) -> None:
        """If the C is wrong by itself, say so: Python could not do anything about it."""
        with load(self.program) as prog:
            the_program(prog, "xdp")
            self.declared(the_map(prog, "ports", {}, VALUE))

    def pinned(self, answer: Answer) -> BpfMap:
        """The map at the pin; where there is none, what there is instead."""
        try:
            return open_map(pin=self.pin)
        except NotFound:
            pass
        if self.pin.exists():
            raise NotYet(
                "`begin` returned, and what is pinned at the path is no map.",
                "Programs and links can be pinned as well as maps. Which of them has the counts?",
            )
        if elsewhere := _pins() - self.before:
            where = min(elsewhere)
            raise NotYet(
                f"`begin` returned. Nothing is pinned at the path that it was given, but "
                f"something at {where}.",
                "Whoever looks for the map knows one path. Who chose the other?",
            )
        loaded = any(True for _ in self.loaded())
        answer.leave()
        if self.pin.exists():
            raise NotYet(
                "`begin` returned, and nothing was pinned. When the process ended by itself, it "
                "pinned something on its way out.",
                "A process that is killed, or crashes, runs nothing more. When is the last moment "
                "that you can count on?",
            )
        if not loaded:
            raise NotYet(
                "`begin` returned. No program of yours was in the kernel then, and nothing was "
                "pinned.",
                "Who sees the packets, and where do they leave their counts? What did your "
                "function make?",
            )
        raise NotYet(
            "`begin` returned. Your program was in the kernel, and nothing was pinned.",
            "Who holds the map now, and who will when this process is gone?",
        )

    def declared(self, ports: BpfMap) -> None:
        """Is it the map that the task describes?"""
        if ports.name != "ports":
            raise NotYet(
                f"What is pinned is a map named `{ports.name}`.",
                "A pin has a path of its own, and the map behind it another name. Which of your "
                "maps has the counts?",
            )
        with Program("", "libbpf", {}, {"ports": open_map(fd=ports.fd)}, lambda: None) as whole:
            the_map(whole, "ports", {}, VALUE)
        if not isinstance(ports.key.decode(bytes(ports.key.size)), int) or ports.key.size < 2:
            raise NotYet(
                f"A key of `ports` is {ports.key.ctype}, of {_counted(ports.key.size, 'byte')}.",
                "The key is a port, and nothing else: a number of how many bits?",
            )

    # --- packets, which only a program in the kernel can see

    def loaded(self) -> Iterator[tuple[Function, list[int]]]:
        """The learner's programs in this kernel, by their user, and the ids of their maps."""
        room = (ctypes.c_uint32 * 64)()
        for number in kernel.ids("prog"):
            fd = lib().bpf_prog_get_fd_by_id(number)
            if fd < 0:  # it went away meanwhile
                continue
            info = ProgInfo(nr_map_ids=len(room), map_ids=ctypes.addressof(room))
            size = ctypes.c_uint32(ctypes.sizeof(info))
            lib().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size))
            try:
                if info.created_by_uid == FIRST_USER + os.getpid():
                    name = info.name.decode(errors="replace")
                    yield Function(name, info.type, fd), room[: info.nr_map_ids]
            finally:
                os.close(fd)

    @contextmanager
    def running(self, ports: BpfMap, after: str) -> Iterator[Program]:
        """The program that counts in this map, as whoever sends packets to it sees it."""
        found, others = list[Function](), list[int]()
        for function, maps in self.loaded():
            if ports.id in maps:
                found.append(Function(function.name, function.kind, os.dup(function.fd)))
            else:
                others += maps
        try:
            if not found:
                self.no_program(others, after)
            functions = {function.name: function for function in found}
            yield Program("", "libbpf", functions, {}, lambda: None)
        finally:
            for function in found:
                os.close(function.fd)

    def no_program(self, others: Iterable[int], after: str) -> None:
        """No program uses the pinned map. Is there none, or does it use another?"""
        if after == "begin":
            self.blame_the_program()
        for number in others:
            with open_map(id=number) as one:
                if one.name != "ports":
                    continue
                if after == "begin":
                    raise NotYet(
                        "What `begin` pinned is a map named `ports`, and your program counts in "
                        "another map of that name.",
                        "Every `load()` makes maps of its own. Which of yours has a program that "
                        "writes to it?",
                    )
                there = _read(one)
                copied = there == self.sent
                raise NotYet(
                    f"`resume` loaded a program, and it counts in a new map with {len(there)} "
                    f"ports in it{', a copy of the old' * copied}. The pinned map has no program.",
                    "A copy is right until the next packet. Who else may have opened the pin, and "
                    "which map do they read?"
                    if copied
                    else "Every `load()` makes new maps, unless it is told of old ones. When does "
                    "it have to know of yours?",
                )
        raise NotYet(
            f"`{after}` returned, `ports` is pinned, and no program that counts in it is in the "
            "kernel.",
            "A program goes when nobody holds it any more. Who closed yours, or who should have "
            "kept it?",
        )

    def untouched(self, ports: BpfMap) -> None:
        if found := _read(ports):
            port, total = next(iter(found.items()))
            raise NotYet(
                f"No packet was sent yet, and the map says of port {port}: {total}.",
                "Counts come from packets, and packets from elsewhere. Which line of Python writes "
                "to the map?",
            )

    def first_packets(self, prog: Program, ports: BpfMap) -> None:
        """One packet, one more of another length, and some that are no business of the map."""
        name = the_program(prog, "xdp")
        for size in random.sample(range(1, 500), 2):
            self.send(prog, [(self.ports[0], size)])
            self.compare(_read(ports), ports)
        for what, frame in _others(self.sport, self.ports[0]):
            self.run(prog, name, frame, what)
            if _read(ports) != self.sent:
                raise NotYet(
                    f"{what[0].upper()}{what[1:]} was sent, and `ports` changed.",
                    "What does `parse()` say of such a packet?",
                )

    def some(self, ports: Iterable[int]) -> list[tuple[int, int]]:
        """A packet or two for each port, of different lengths, in any order."""
        sizes = random.sample(range(1, 500), 4)
        packets = [(port, random.choice(sizes)) for port in ports for _ in "12"[: _dice(2)]]
        random.shuffle(packets)
        return packets

    def send(self, prog: Program, packets: Iterable[tuple[int, int]]) -> None:
        name = the_program(prog, "xdp")
        for port, size in packets:
            frame = _udp(self.sport, port, size)
            self.run(prog, name, frame, f"a packet for port {port}")
            self.book(port, len(frame))

    def book(self, port: int, length: int) -> None:
        total = self.sent.get(port, Total())
        self.sent[port] = Total(total.packets + 1, total.bytes + length)
        self.last[port] = length

    def run(self, prog: Program, name: str, frame: bytes, what: str) -> None:
        done = prog.run(name, data=frame)
        if done.retval != VERDICTS.index("XDP_PASS"):
            verdict = dict(enumerate(VERDICTS)).get(done.retval, str(done.retval))
            raise NotYet(
                f"{what[0].upper()}{what[1:]} was sent, and `{name}` returned {verdict}.",
                "The program only counts. What happens to the network of a machine on which it "
                "runs?",
            )
        if done.data != frame:
            raise NotYet(
                f"{what[0].upper()}{what[1:]} went in, and came out with other bytes.",
                "The program only counts. Does it write to the packet what it should write to a "
                "variable of its own?",
            )

    # --- the path is taken

    def begin_again(self, answer: Answer) -> None:
        """Somebody begins once more, and the path is taken: by data that must stay."""
        try:
            answer.call("begin", str(self.program), str(self.pin))
            raised = False
        except Raised:
            raised = True
        seen = f"{len(self.sent)} ports were counted, and then `begin` was called with the same pin"
        number, found = self.now()
        if number != self.number:
            raise NotYet(
                f"{seen}. Now {'another map' if number else 'nothing'} is pinned there, and the "
                "counts are lost.",
                "A path that is taken may hold what somebody else counted for a week. Which of "
                "your lines removes it?",
            )
        if found != self.sent:
            raise NotYet(
                f"{seen}. The same map is pinned there, with {len(found)} ports in it.",
                "What is in the map may be all that somebody has. Which of your lines writes to "
                "it, or deletes?",
            )
        if not raised:
            raise NotYet(
                f"{seen}. The counts are still there, but no error was raised.",
                "Who begins expects to begin at zero. How would they learn that they do not?",
            )

    def now(self) -> tuple[int, Totals]:
        """The id of the map that is pinned, 0 for none, and what it holds."""
        try:
            with open_map(pin=self.pin) as ports:
                return ports.id, _read(ports) if ports.id == self.number else {}
        except NotFound:
            return 0, {}

    # --- between two processes

    def programs_gone(self) -> None:
        """With its process, the program must go; only the map stays."""

        def gone() -> bool:
            return not any(True for _ in self.loaded())

        if not _in_time(lambda: gone() or not all(map(_map_at, _pins() - self.before))):
            raise NotYet(
                "The process was killed, and your program is still in the kernel.",
                "What of yours holds it?",
            )
        if not gone():
            raise NotYet(
                "The process was killed, and your program is still in the kernel, pinned as well "
                "as the map.",
                "What should outlive the process, and what will the next one bring along itself?",
            )

    def by_bpftool(self, when: str) -> Totals:
        """Read the pin as anybody would, and hold it against what was sent."""
        number, _ = self.now()
        if not number:
            raise NotYet(
                f"{when}, and the pin is gone.",
                "Which line of yours runs when a process ends, and who else needs the pin then?",
            )
        command = [kernel.bpftool(), "-j", "map", "dump", "pinned", str(self.pin)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = Totals()
        with open_map(pin=self.pin) as ports:
            nothing = ["0x00"] * ports.value.size
            for entry in json.loads(done.stdout):
                copies = [copy["value"] for copy in entry.get("values", [entry])]
                if not ports.is_array or any(copy != nothing for copy in copies):
                    total = _sum(ports.value.decode(_bytes(copy)) for copy in copies)
                    found[ports.key.decode(_bytes(entry["key"]))] = total
            self.compare(found, ports)
        return found

    # --- the second process: go on

    def second_process(self, answer: Answer) -> None:
        self.call_resume(answer)
        number, found = self.now()
        if not number:
            raise NotYet(
                "A new process called `resume`, and now nothing is pinned at the path.",
                "This process may be killed as the first one was. Who holds the map then?",
            )
        if number != self.number:
            raise NotYet(
                "A new process called `resume`, and now another map is pinned at the path.",
                "Some other process may have opened the pin an hour ago. Which map does it read?",
            )
        if not found:
            raise NotYet(
                f"The pinned map held {len(self.sent)} ports. A new process called `resume`, and "
                "it holds none.",
                "To go on is to add to what is there. Which of your lines empties the map?",
            )
        self.same(found, "A new process called `resume`")
        with open_map(pin=self.pin) as ports, self.running(ports, "resume") as prog:
            self.send(prog, self.some(self.ports[:20]))
            self.compare(_read(ports), ports)
            # A map that evicts deals its room out to the CPUs: see that it has to.
            one, *_, last = [*kernel.online_cpus(), *kernel.online_cpus()]
            sandbox.on_cpus([last], lambda: self.send(prog, self.some(self.ports[20:60])))
            sandbox.on_cpus([one], lambda: self.send(prog, self.some(self.ports[60:])))
            self.compare(_read(ports), ports)
            self.fill_up(prog, ports)
        self.second_pin(answer)
        answer.leave()
        self.by_bpftool("The second process ended by itself, without `finish`")
        if not self.other.exists():
            raise NotYet(
                "A process pinned a map with `begin`, and ended by itself. The pin is gone.",
                "Which line of yours runs when a process ends, and who else needs the pin then?",
            )

    def call_resume(self, answer: Answer) -> None:
        try:
            answer.call("resume", str(self.program), str(self.pin))
        except Raised as raised:
            raise NotYet(
                f"A new process called `resume`, and `{raised.where}` raised "
                f"{str(raised).rstrip('.')}.",
                "This process has the path, and nothing of what the first one had in its hands. "
                "What does your function look for, and where?",
            ) from None

    def same(self, found: Totals, when: str) -> None:
        for port in {*found, *self.sent}:
            was, now = self.sent.get(port, Total()), found.get(port, Total())
            if was != now:
                raise NotYet(
                    f"{when}. Port {port} had {was} before, and has {now} now.",
                    "No packet came between the two. Which line of Python writes to the map?",
                )

    def fill_up(self, prog: Program, ports: BpfMap) -> None:
        """More ports than the map has room for: the last ones are not counted, and pass."""
        free = [port for port in range(65536) if port not in self.sent]
        room = ports.max_entries - len(self.sent)
        if ports.is_array or ports.max_entries > LARGE or room >= len(free):
            return
        self.send(prog, [(port, 60) for port in free[:room]])
        self.run(
            prog,
            the_program(prog, "xdp"),
            _udp(self.sport, free[room], 60),
            "to a full map, a packet for one port more",
        )
        self.compare(_read(ports), ports)

    def second_pin(self, answer: Answer) -> None:
        """Another map, with a pin of its own, which has nothing to do with the first."""
        answer.call("begin", str(self.program), str(self.other))
        seen = "In the second process, `begin` was called too, with another path"
        try:
            with open_map(pin=self.other) as another:
                if another.id != self.number:
                    self.untouched(another)
                    return
        except NotFound:
            raise NotYet(
                f"{seen}. Nothing is pinned there.",
                "The path is an argument. Where else does your function take it from?",
            ) from None
        raise NotYet(
            f"{seen}. It pinned the map of the first call again.",
            "Who begins wants a map of their own. Where does your function find the old one?",
        )

    # --- on two CPUs at once

    def two_cpus(self) -> None:
        """The same program, with a map of the check's own, and additions that take their time."""
        before = _pins()
        with load(self.program, flags=DAWDLE) as prog:
            try:
                self.add(prog)
                self.insert(prog)
            finally:
                for pin in _pins() - before:
                    if _map_at(pin) == prog["ports"].id:  # its declaration says so
                        pin.unlink()

    def add(self, prog: Program) -> None:
        """The entry is there before: what is tested is the addition."""
        ports, name, port = prog["ports"], the_program(prog, "xdp"), self.ports[0]
        frame = _udp(self.sport, port, 20)
        prog.run(name, data=frame)
        for count in range(REPEAT, (ROUNDS + 1) * REPEAT, REPEAT):
            sandbox.side_by_side(lambda _: prog.run(name, data=frame, repeat=REPEAT))
            sent = Total(2 * count + 1, (2 * count + 1) * len(frame))
            now = _read(ports).get(port, Total())
            seen = f"On two CPUs at once, {count:,} packets each came for one port."
            if now.packets != sent.packets:
                raise NotYet(
                    f"{seen} `packets` is {sent.packets - now.packets:,} short of "
                    f"{sent.packets:,}.",
                    "To add one, a CPU reads the number and writes it back. What becomes of your "
                    "count when both read before either writes?",
                )
            if now.bytes != sent.bytes:
                raise NotYet(
                    f"{seen} `packets` is right, and `bytes` is {sent.bytes - now.bytes:,} short "
                    f"of {sent.bytes:,}.",
                    "One of your two additions cannot be interrupted. What about the other?",
                )

    def insert(self, prog: Program) -> None:
        """The same ports on both CPUs, in the same order."""
        ports, name = prog["ports"], the_program(prog, "xdp")
        if ports.is_array:
            return  # all its entries are there from the beginning
        new, together = self.ports[1:800], threading.Barrier(2)
        frames = [_udp(self.sport, port, 20) for port in new]
        with sandbox.pair() as net:
            prog.attach(name, net.server)
            for _ in range(MEETINGS):
                sandbox.side_by_side(lambda cpu: net.send(frames, cpu=cpu, start=together.wait))
                now = _read(ports)
                if short := [port for port in new if now.get(port, Total()).packets != 2]:
                    raise NotYet(
                        f"The first packets for {len(new):,} ports came on two CPUs, one on each, "
                        f"at about the same time. Of {len(short):,} ports, `packets` does not "
                        "show 2.",
                        "Both CPUs looked the port up and found nothing, and both insert. What "
                        "becomes of the first CPU's count then, and what of the second's?",
                    )
                for port in new:
                    del ports[port]

    # --- the third process: clean up

    def third_process(self, answer: Answer) -> None:
        with open_map(pin=self.other) as another:
            neighbour = another.id
        answer.call("finish", str(self.pin))
        self.unpinned()
        self.resume_nothing(answer)
        if not self.other.exists():
            raise NotYet(
                "`finish` was given one path, and a pin beside it is gone as well.",
                "Whose are the other pins in that folder?",
            )
        answer.call("finish", str(self.other))
        answer.leave()
        self.freed([self.number, neighbour])

    def unpinned(self) -> None:
        number, found = self.now()
        if not number:
            return
        if not found:
            raise NotYet(
                "`finish` returned. The map is empty, and still pinned.",
                "An empty map takes its memory, too. What keeps it in the kernel?",
            )
        raise NotYet(
            f"`finish` returned, and the map with its {len(found):,} ports is still pinned.",
            "To close a map is to let go of a file descriptor. Who else holds it?",
        )

    def resume_nothing(self, answer: Answer) -> None:
        """Nothing is pinned: then there is nothing to go on with."""
        try:
            answer.call("resume", str(self.program), str(self.pin))
        except Raised:
            raised = True
        else:
            raised = False
        if self.pin.exists():
            raise NotYet(
                "`resume` was called with a path where nothing is pinned. Now a new map is.",
                "Its numbers begin at zero. How would anybody learn that those of last week are "
                "gone?",
            )
        if not raised:
            raise NotYet(
                "`resume` was called with a path where nothing is pinned, and raised no error.",
                "It has nothing to go on with. How does whoever called it learn that?",
            )

    def freed(self, numbers: list[int]) -> None:
        for pin in sorted(_pins() - self.before):
            if _map_at(pin) in numbers:
                raise NotYet(
                    f"`finish` was called, and the map is still pinned, at {pin}.",
                    "A map can have many pins, and the kernel frees it after the last. Who made "
                    "the second one?",
                )
        if not _in_time(lambda: not {*numbers} & {*kernel.ids("map")}):
            raise NotYet(
                "`finish` was called, all processes are gone, and the map is still in the kernel.",
                "What of yours holds it?",
            )

    # --- what the map should say

    def compare(self, found: Totals, ports: BpfMap) -> None:
        """Hold the map against what was sent, and say the plainest thing that is wrong."""
        if found == self.sent:
            return
        packets = sum(total.packets for total in self.sent.values())
        seen = f"{_counted(packets, 'packet')} for {_counted(len(self.sent), 'port')} came, and "
        missing = [port for port in self.sent if port not in found]
        extra = [port for port in found if port not in self.sent]
        if missing and extra:
            self.explain_key(missing[0], extra, seen)
        if missing or extra:
            self.explain_room(missing, extra, found, seen, ports)
        for port, sent in self.sent.items():
            self.explain_total(port, sent, found[port])

    def explain_key(self, port: int, extra: list[int], seen: str) -> None:
        if extra == [self.sport]:
            raise NotYet(
                f"{seen}`ports` says {extra[0]}, which is the port that they came from.",
                "A packet has two ports. Which of them was it sent to?",
            )
        if int.from_bytes(port.to_bytes(2, "little"), "big") in extra:
            raise NotYet(
                f"{seen}`ports` says {int.from_bytes(port.to_bytes(2, 'little'), 'big')} instead "
                f"of {port}: {port:#06x} with its bytes in reverse.",
                "In which order does a network send the bytes of a number, and in which does this "
                "CPU keep them?",
            )
        raise NotYet(
            f"{seen}`ports` says {extra[0]}, and not {port}.",
            "Where does your program take the port from?",
        )

    def explain_room(
        self, missing: list[int], extra: list[int], found: Totals, seen: str, ports: BpfMap
    ) -> None:
        kind = f"Its type is {ports.type}, with max_entries {ports.max_entries:,}."
        if ports.is_array and missing and min(missing) >= ports.max_entries:
            raise NotYet(
                f"{seen}`ports` does not know port {missing[0]}. {kind}",
                f"Its last index is {ports.max_entries - 1:,}. What is the largest port?",
            )
        if not found:
            raise NotYet(
                f"{seen}`ports` is empty.",
                "The first lookup of a port finds nothing. What does your program do then?",
            )
        if "lru" in ports.type:
            raise NotYet(
                f"{seen}`ports` holds {len(found):,}. {kind}",
                "A map of this type evicts entries. When it is full, who should go without a "
                "count: an old port, or a new one?",
            )
        if missing and len(found) >= ports.max_entries:
            raise NotYet(
                f"{seen}`ports` holds {len(found):,}. {kind}",
                "What does the task say about room?",
            )
        if missing:
            raise NotYet(
                f"{seen}`ports` holds {len(found):,}, without port {missing[0]}. {kind}",
                "What is different about this port?",
            )
        raise NotYet(
            f"{seen}`ports` holds {len(found):,}, among them port {extra[0]}, which got none.",
            "Where does your program take the port from?",
        )

    def explain_total(self, port: int, sent: Total, got: Total) -> None:
        if got.packets != sent.packets:
            raise NotYet(
                f"Port {port} got {_counted(sent.packets, 'packet')}, and `packets` is "
                f"{got.packets:,}.",
                "The packet that makes an entry is one, too. Who counts that one?"
                if got.packets == sent.packets - 1
                else "How much does your program add for a packet, and in how many places?",
            )
        if got.bytes != sent.bytes:
            last = got.bytes == self.last[port]
            raise NotYet(
                f"Port {port} got {sent}, and `bytes` is {got.bytes:,}"
                f"{', the length of the last' * last}.",
                "Is `bytes` told the new length, or the new sum?"
                if last
                else "Which bytes of a frame does the task count, and of which packets?",
            )


# --- small things ---------------------------------------------------------------------------


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for pins, open to the learner's process, which leaves nothing behind."""
    folder = kernel.PINS / f"lab_05_{random.randrange(1000, 10000)}"
    folder.mkdir(parents=True)
    kernel.OURS.chmod(0o711)
    for path in (kernel.PINS, folder):
        path.chmod(0o777)
    try:
        yield folder
    finally:
        for pin in folder.glob("*"):
            pin.unlink()
        folder.rmdir() if folder.exists() else None
        kernel.drop_pins()


def _pins() -> set[Path]:
    return {path for path in kernel.BPFFS.rglob("*") if not path.is_dir()}


def _map_at(pin: Path) -> int:
    """The id of the map that is pinned there; 0 when it is something else."""
    try:
        with open_map(pin=pin) as one:
            return one.id
    except NotFound:
        return 0


def _read(ports: BpfMap) -> Totals:
    """What the map says. Of an array, which has all entries, those that are not zero."""
    keys, values = ports.raw()
    found, there = Totals(), values.any(axis=1) | (not ports.is_array)
    step = (ports.value.size + 7) // 8 * 8 if ports.per_cpu else ports.value.size
    for key, value in zip(keys[there], values[there], strict=True):
        copies = [value[at : at + step].tobytes() for at in range(0, len(value), step)]
        found[ports.key.decode(key.tobytes())] = _sum(map(ports.value.decode, copies))
    return found


def _sum(copies: Iterable[Any]) -> Total:
    """The sum over the CPUs."""
    values = list(copies)
    return Total(sum(one.packets for one in values), sum(one.bytes for one in values))


def _bytes(shown: list[str]) -> bytes:
    """Bytes as bpftool shows them: ["0x35", "0x00"]."""
    return bytes(int(one, 16) for one in shown)


def _in_time(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return held


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _dice(sides: int) -> int:
    return random.randint(1, sides)


# A test run looks at no checksum: frames are made by hand, which takes 1 µs, not 500.
def _udp(sport: int, dport: int, size: int, protocol: int = 17, kind: int = 0x0800) -> bytes:
    """An Ethernet frame with an IPv4 header, the ports, and so many bytes more."""
    link = bytes.fromhex("020000000002 020000000001") + struct.pack("!H", kind)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    network = struct.pack("!BBHIBBH", 0x45, 0, 28 + size, 0, 64, protocol, 0) + addresses
    return link + network + struct.pack("!HHHH", sport, dport, 8 + size, 0) + bytes(size)


def _others(sport: int, dport: int) -> list[tuple[str, bytes]]:
    """Packets that ``parse()`` does not know: the map must stay as it is, and they must pass."""
    return [
        ("an ICMP packet", _udp(sport, dport, 40, protocol=1)),
        ("an ARP packet", _udp(sport, dport, 40, kind=0x0806)),
        ("a frame that ends before its ports", _udp(sport, dport, 0)[:36]),
    ]
