"""How fast, as ratios inside one run: the machine cancels out.

.venv/bin/python tests/bench/ratios.py
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from helpers import compiler, kernel, load, open_map

ENTRIES = 200_000
TEXT = f"""
struct key {{ u32 src_ip; u32 dst_ip; u16 src_port; u16 dst_port; }};
struct value {{ u64 packets; u64 bytes; u64 start_ns; }};
BPF_HASH(table, struct key, struct value, {ENTRIES});
int nothing(void *ctx) {{ return 0; }}
"""


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """The median of some rounds, after one that is not counted."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def show(what: str, taken: float, against: float | None = None) -> None:
    ratio = f"{taken / against:8.1f} times as long" if against else ""
    print(f"{what:34}{1e3 * taken:9.1f} ms{ratio}", flush=True)


def loading() -> None:
    """A warm libbpf load against a BCC compile of the same program."""
    warm = seconds(lambda: load("hash.bpf.c").close(), 21)
    bcc = seconds(lambda: load("hash.bcc.c").close())
    text = compiler.find("hash.bpf.c").read_text()
    marks = iter(range(1000))
    fresh = seconds(lambda: load(text=f"{text}\n// {time.time_ns()} {next(marks)}").close())
    show("load of a kept libbpf object", warm)
    show("the same, compiled by clang", fresh, warm)
    show("the same in BCC", bcc, warm)


def reading() -> None:
    """frame() against BCC's own ways of reading, all of them into a DataFrame."""
    import pandas as pd

    bcc = kernel.import_bcc()
    module = bcc.BPF(text=TEXT.encode(), cflags=["-w"])
    table = module[b"table"]
    with open_map(fd=table.map_fd) as ours:
        ours.update({(i, i + 1, i & 0xFFFF, 80): (i, 2 * i, 3 * i) for i in range(ENTRIES)})
        bulk = seconds(ours.frame)

        def items() -> pd.DataFrame:
            rows = [
                (k.src_ip, k.dst_ip, k.src_port, k.dst_port, v.packets, v.bytes, v.start_ns)
                for k, v in table.items()
            ]
            return pd.DataFrame(rows, columns=list(ours.frame().columns))

        slow = seconds(items, 1)
        same = items().sort_values("src_ip", ignore_index=True)
        mine = ours.frame().sort_values("src_ip", ignore_index=True)
        assert (same.to_numpy() == mine.to_numpy()).all()
    kernel.free_bcc(module)
    show(f"frame() of {ENTRIES:,} entries", bulk)
    show("BCC items() into a DataFrame", slow, bulk)


def importing() -> None:
    """What a notebook waits for before its first cell."""

    def start(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True), 7)

    nothing = start("pass")
    ours, theirs = start("from helpers import load") - nothing, start("import pandas") - nothing
    show("from helpers import load", ours)
    show("import pandas", theirs, ours)


if __name__ == "__main__":
    loading()
    reading()
    importing()
