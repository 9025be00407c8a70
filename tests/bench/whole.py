"""Maps that are read whole, into a DataFrame."""

import json
import subprocess
import sys
from typing import Any

import pandas as pd

from helpers import kernel, load
from helpers.maps import BpfMap
from tests.bench.measure import Row, together
from tests.bench.tables import KEYS, VALUES, batches, bcc_table, connections, pairs, steps

CALLS = "the kernel's calls"
_OTHERS = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define MAP(name, kind, k, flags) \\
	struct {{ __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, {size}); __type(key, k); \\
		 __uint(map_flags, flags); __type(value, struct value); }} name SEC(".maps");
struct value {{ __u64 packets; __u64 bytes; __u64 start_ns; }};
struct prefix {{ __u32 length; __u32 net; }};
MAP(array, ARRAY, __u32, 0)
MAP(lru, LRU_HASH, __u32, 0)
MAP(trie, LPM_TRIE, struct prefix, BPF_F_NO_PREALLOC)
char L[] SEC("license") = "Dual MIT/GPL";
"""


def hash_map(quick: bool) -> list[Row]:
    size = 50_000 if quick else 1_000_000
    what = f"frame(), hash of {size:,}"
    with bcc_table("hash", size) as (table, ours):
        df = connections(size)
        ours.update(df)

        def items() -> pd.DataFrame:
            return _rows(table.items())

        def batch() -> pd.DataFrame:
            return _rows(table.items_lookup_batch())

        def bpftool() -> pd.DataFrame:
            command = [kernel.bpftool(), "-j", "map", "dump", "id", str(ours.id)]
            done = subprocess.run(command, check=True, capture_output=True)
            dumped = [entry["formatted"] for entry in json.loads(done.stdout)]
            return pd.DataFrame([entry["key"] | entry["value"] for entry in dumped])

        for way in (ours.frame, items, batch, bpftool) if quick else (ours.frame, batch):
            found = way().sort_values("src_ip", ignore_index=True)
            assert (found.to_numpy() == df.to_numpy()).all(), way
        mine, bare = together(5, ours.frame, batches(ours, size))
        by_batch, again = together(2, batch, ours.frame)
        by_item, by_tool = together(1, items, bpftool)
        mine, memory = min(mine, again), _peak(ours, size)

    def least(theirs: float) -> str:
        return f"{CALLS}: they alone are {theirs / bare:.1f} times as fast"

    return [
        Row(what, mine, "floor: bare lookup_batch", bare, 1.3, CALLS),
        Row(what, mine, "BCC items()", by_item, 25, least(by_item), True),
        Row(what, mine, "BCC items_lookup_batch()", by_batch, 4, least(by_batch), True),
        Row(what, mine, "bpftool map dump -j", by_tool, 60, least(by_tool), True),
        memory,
    ]


def _rows(items: Any) -> pd.DataFrame:
    rows = [
        (k.src_ip, k.dst_ip, k.src_port, k.dst_port, v.packets, v.bytes, v.start_ns)
        for k, v in items
    ]
    return pd.DataFrame(rows, columns=KEYS + VALUES)


_PEAK = """
import sys
from pathlib import Path
from helpers import open_map

def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

small, large = (open_map(id=int(number)) for number in sys.argv[1:])
small.frame()  # pandas is loaded, and has made a frame
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kib("VmRSS")
df = large.frame()
print(kib("VmHWM") - before, len(df))
"""


def _peak(ours: BpfMap, size: int) -> Row:
    """Pages that a new process had at most while it read, above what it had before."""
    with bcc_table("hash", 64) as (_, small):
        small.update(connections(64))
        line = [sys.executable, "-c", _PEAK, str(small.id), str(ours.id)]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
    used, read = map(int, done.stdout.split())
    assert read == size
    what, bound = f"peak memory, hash of {size:,}", "the frame, and a buffer to read into"
    least = size * (ours.key.size + ours.value.size) / 2**20
    return Row(what, used / 1024, "its keys and values", least, 2.2, bound, unit="MiB")


def per_cpu_hash(quick: bool) -> list[Row]:
    size = 20_000 if quick else 100_000
    what = f"frame(), per-CPU hash of {size:,}"
    with bcc_table("percpu_hash", size) as (table, ours):
        ours.update((key, [value] * kernel.cpus()) for key, value in pairs(connections(size)))

        def items() -> pd.DataFrame:
            rows = [
                (k.src_ip, k.dst_ip, k.src_port, k.dst_port, cpu, v.packets, v.bytes, v.start_ns)
                for k, slots in table.items()
                for cpu, v in enumerate(slots)
            ]
            return pd.DataFrame(rows, columns=[*KEYS, "cpu", *VALUES])

        mine, bare = together(9, ours.frame, batches(ours, size))
        (theirs,) = together(1, items)
    return [
        Row(what, mine, "floor: bare lookup_batch", bare, 1.5, CALLS),
        Row(what, mine, "BCC items()", theirs, 20, CALLS, True),
    ]


def other_types(quick: bool) -> list[Row]:
    size, value = 20_000 if quick else 200_000, (1, 2, 3)
    rows = []
    with load(text=_OTHERS.format(size=size), name="others.bpf.c") as prog:
        prog["array"].update(dict.fromkeys(range(size), value))
        prog["lru"].update(dict.fromkeys(range(size), value))
        prog["trie"].update({(32, i << 8): value for i in range(size)})
        for name, bound in (
            ("array", "the kernel takes entry after entry, inside one call"),
            ("lru", CALLS),
            ("trie", "read twice, to tell whether it moved; a walk from the root for each key"),
        ):
            it = prog[name]
            mine, bare = together(5, it.frame, batches(it, size))
            what = f"frame(), {it.type.replace('_', ' ')} of {len(it):,}"
            rows.append(Row(what, mine, "floor: bare lookup_batch", bare, None, bound))
        it = prog["lru"]
        mine, bare = together(3, it._read_singly, steps(it))
        what, bound = f"without batch calls, {len(it):,}", "two calls an entry, and Python between"
        rows.append(Row(what, mine, "floor: bare get_next_key, lookup", bare, None, bound))
    return rows


def growth(quick: bool) -> list[Row]:
    mine, bare = {}, {}
    least, most = 10_000, 100_000 if quick else 1_000_000
    for size in (1_000, least, 100_000, most):
        with bcc_table("hash", size) as (_, ours):
            ours.update(connections(size))
            rounds = max(5, min(50, 200_000 // size))
            taken = together(rounds, ours.frame, batches(ours, size))
            mine[size], bare[size] = (seconds / size for seconds in taken)
    bound = f"CPU caches: the bare calls take {bare[most] / bare[least]:.2f} times as long"
    what = f"time an entry, of {most:,}"
    return [Row(what, mine[most], f"of {least:,}", mine[least], 1.5, bound)]


WORKS = [hash_map, per_cpu_hash, other_types, growth]
