"""Two CPUs add to one counter, in three ways: what arrives, live."""

from collections.abc import Mapping
from html import escape
from threading import Thread

from helpers import kernel, sandbox
from helpers.program import Program, load
from helpers.widgets.view import View, as_text, button

WAYS = {
    "plain": ("add_plain", "shared"),
    "atomic": ("add_atomic", "shared"),
    "per-CPU": ("add_per_cpu", "per_cpu"),
}
SLICE = 20_000  # additions of a CPU, after which it looks whether it is to stop
ADDS = 100  # additions a run of the program


class Race(View):
    """See ``race()``."""

    def __init__(self, additions: int = 2_000_000) -> None:
        self.program: Program = load("per_cpu.bpf.c", defines={"ADDS": ADDS})
        self.additions, self.cpus = additions, kernel.online_cpus()[:2]
        self.made = dict.fromkeys(WAYS, 0)
        self.counted = dict.fromkeys(WAYS, "")
        self._way = ""  # that runs now
        self._thread: Thread | None = None
        super().__init__()

    def close(self) -> None:
        super().close()
        if self._thread:
            self._thread.join()
        self.program.close()

    def start(self, way: str) -> None:
        """Let both CPUs add in that way, in the background; one way at a time."""
        if self._way:
            return
        self._way, self.made[way] = way, 0
        for name in {place for _, place in WAYS.values()}:
            one = self.program[name]
            one[0] = [0] * kernel.cpus() if one.per_cpu else 0
        self._thread = Thread(target=self._add, args=[way], daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the additions that were started are made."""
        if self._thread:
            self._thread.join()

    def _add(self, way: str) -> None:
        function, _ = WAYS[way]

        def work() -> None:
            for _ in range(0, self.additions, SLICE):
                if self.closed:
                    return
                self.program.run(function, repeat=SLICE // ADDS)
                with self._lock:
                    self.made[way] += SLICE

        sandbox.on_cpus(self.cpus, work)
        with self._lock:
            self.counted[way], self._way = self._count(way), ""

    def _count(self, way: str) -> str:
        held = self.program[WAYS[way][1]][0]
        return f"{sum(held):,}" if isinstance(held, list) else f"{held:,}"

    def act(self, action: str, given: Mapping[str, str]) -> None:
        if action == "start" and given["way"] in WAYS:
            self.start(given["way"])

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Each way: what was added, what the map holds, and what was lost."""
        found = []
        for way, made in self.made.items():
            counted = self._count(way) if way == self._way else self.counted[way]
            done = bool(counted) and way != self._way
            lost = f"{made - int(counted.replace(',', '')):,}" if done else ""
            found.append((way, f"{made:,}" if counted else "", counted, lost))
        return found

    def body(self) -> str:
        rows = "".join(
            f'<tr data-key="{way}"><td class="word">{way}</td><td>{made}</td><td>{counted}</td>'
            f"<td{_alarm(lost)}>{lost}</td><td>{button('start', f'run {way}', way=way)}</td></tr>"
            for way, made, counted, lost in self.rows()
        )
        heads = "".join(f'<th class="word" scope="col">{escape(w)}</th>' for w in HEADS)
        state = f"Running: {self._way}." if self._way else "Nothing runs."
        first, second = self.cpus
        return (
            f"<table><caption>CPU {first} and CPU {second} add 1, {self.additions:,} times each. "
            f"{state}</caption><thead><tr>{heads}<th></th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def text(self) -> str:
        first, second = self.cpus
        told = f"CPU {first} and CPU {second} add 1, {self.additions:,} times each"
        return "\n".join([told, as_text(HEADS, self.rows())])


HEADS = ["way", "added", "in the map", "lost"]


def _alarm(lost: str) -> str:
    return ' class="moved"' if lost not in ("", "0") else ""


def race(additions: int = 2_000_000) -> Race:
    """Two CPUs add to one counter ``additions`` times each: plainly, atomically, or each its own.

    The counters move while the programs run. What the map holds in the end, against what was
    added, are the lost updates.
    """
    return Race(additions)
