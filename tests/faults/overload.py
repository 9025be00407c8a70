"""Streams at 2, 10 and 50 times what their reader takes: delivered + lost = produced, exactly.

A turn produces so many times what the buffer holds, on two CPUs, and meanwhile the reader takes
what is there, once: no more than one record in 2, 10 or 50, and the rest must be lost. Each record
has a number, and the BPF program counts what it produced and what it could not put.
"""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from helpers import kernel, load, sandbox
from tests.faults import Part

KINDS = {"to_ring": "ring", "to_perf": "perf", "quietly": "ring", "copy_to_ring": "ring"}
LOADS = [2, 10, 50]
RECORD = {"ring": 8 + 16, "perf": (12 + 16 + 7) // 8 * 8}  # struct event of 16 bytes, with headers
TURNS = 40


def one(number: int) -> None:
    rng = random.Random(number)
    program = [*KINDS][number % len(KINDS)]
    name, times = KINDS[program], LOADS[number % len(LOADS)]
    pages = rng.choice([1, 2, 4])
    cpus = (kernel.online_cpus() * 2)[:2]
    queues = len({*cpus}) if name == "perf" else 1  # a perf buffer has one a CPU
    holds = queues * (pages * 4096 - 1) // RECORD[name]
    a_turn = times * holds // 2  # of each CPU
    with (
        load("event_buffers.bpf.c", defines={"RING_BYTES": pages * 4096}) as prog,
        prog.events(name, lost=f"{name}_lost", pages=pages) as events,
        ThreadPoolExecutor(1) as pool,
    ):
        seen = list[int]()
        for _ in range(TURNS):
            work = pool.submit(sandbox.on_cpus, cpus, lambda: prog.run(program, repeat=a_turn))
            time.sleep(rng.random() * 0.002)  # the reader comes early, late, or in between
            seen += events.frame(timeout=0).number.tolist()
            work.result()
        last = events.frame(timeout=0)
        seen += last.number.tolist()
        produced, lost = prog["produced"][0], sum(prog[f"{name}_lost"][0])
        assert produced == 2 * a_turn * TURNS
        assert len({*seen}) == len(seen) == last.attrs["delivered"], "a record came twice"
        assert 0 < len(seen) <= (TURNS + 1) * holds, "the reader took more than a turn's share"
        assert max(seen) < produced
        assert last.attrs["lost"] == lost
        assert len(seen) + lost == produced
        if name == "perf":
            _as_the_kernel_tells(cpus, pages, a_turn)


def _as_the_kernel_tells(cpus: list[int], pages: int, a_turn: int) -> None:
    """The same without the program's counter: a perf buffer tells of losses by its own records."""
    with (
        load("event_buffers.bpf.c") as prog,
        prog.events("perf", lost=None, pages=pages) as events,
        ThreadPoolExecutor(1) as pool,
    ):
        for _ in range(10):
            work = pool.submit(sandbox.on_cpus, cpus, lambda: prog.run("to_perf", repeat=a_turn))
            events.raw()
            work.result()
        events.raw()
        sandbox.on_cpus(cpus, lambda: prog.run("to_perf"))  # a loss is told with a later record
        events.raw()
        assert events.lost == sum(prog["perf_lost"][0]) > 0
        assert events.delivered + events.lost == prog["produced"][0]


PART = Part(one, rounds=100, short=2, unit="a stream at 2, 10 or 50 times what its reader takes")
