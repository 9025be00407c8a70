"""Maps that two CPUs insert into and delete from at full speed, while frame() and items() read.

What the kernel guarantees, and what we do:

- A hash, of whatever kind, is read bucket by bucket under the lock that inserting and deleting
  take: a key comes once, one that stays is never missing, and what a program put there by
  bpf_map_update_elem() is whole.
- That holds for a per-CPU hash too, with one value for each CPU.
- A value with a bpf_spin_lock inside is whole, if all who write it hold the lock: we read under it.
- An array has all its keys at any time.
- A trie has no such lock. Keys may come twice or be missing: ``complete`` has to say so.
- A value that a program writes through a pointer, without a lock, may be torn: half of it old, half
  new. Of such a value only each aligned field of 8 bytes is whole.

A value here is one number, again and again; its upper half is the key.
"""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from helpers import kernel, load, sandbox
from helpers.maps import BpfMap
from tests.faults import Part

STAY, COME_AND_GO, WORDS = 8, 200, 24
SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct plain { __u64 n[WORDS]; };
struct locked { struct bpf_spin_lock lock; __u64 n[WORDS]; };
struct prefix { __u32 length; __u32 key; };
#define MAP(name, kind, k, v, n, flags) \\
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, n); __type(key, k); \\
		 __type(value, v); __uint(map_flags, flags); } name SEC(".maps");
MAP(hash, HASH, __u32, struct plain, STAY + COME_AND_GO, 0)
MAP(sparse, HASH, __u32, struct plain, STAY + COME_AND_GO, BPF_F_NO_PREALLOC)
MAP(lru, LRU_HASH, __u32, struct plain, 1 << 14, 0) /* never full: it forgets nothing by itself */
MAP(cpu_hash, PERCPU_HASH, __u32, struct plain, STAY + COME_AND_GO, 0)
MAP(trie, LPM_TRIE, struct prefix, struct plain, STAY + COME_AND_GO, BPF_F_NO_PREALLOC)
MAP(locked_hash, HASH, __u32, struct locked, STAY + COME_AND_GO, 0)
MAP(array, ARRAY, __u32, struct plain, STAY, 0)
MAP(locked_array, ARRAY, __u32, struct locked, STAY, 0)

#define WRITE(v, number) ({ \\
	_Pragma("unroll") for (int i = 0; i < WORDS; i++) \\
		((v)->n[i] = number); })
#define BEGIN \\
	__u32 dice = bpf_get_prandom_u32(); \\
	__u32 key = dice >> 31 ? dice % STAY : STAY + dice % COME_AND_GO; \\
	__u64 number = (__u64)key << 32 | bpf_get_prandom_u32()
/* What stays is written in place, what comes and goes is inserted or deleted. */
#define CHURN(map, the_key) \\
	SEC("xdp") int churn_##map(struct xdp_md *ctx) { \\
		BEGIN; \\
		struct plain *there, fresh; \\
		WRITE(&fresh, number); \\
		if (key < STAY) { \\
			there = bpf_map_lookup_elem(&map, the_key); \\
			if (there) \\
				WRITE(there, number); \\
		} else if (dice & 1 << 30) \\
			bpf_map_update_elem(&map, the_key, &fresh, BPF_ANY); \\
		else \\
			bpf_map_delete_elem(&map, the_key); \\
		return XDP_PASS; \\
	}
CHURN(hash, &key)
CHURN(sparse, &key)
CHURN(lru, &key)
CHURN(trie, (&(struct prefix){ 32, key }))

/* Never in place: that would be no less torn for having a copy for each CPU. */
SEC("xdp") int churn_cpu_hash(struct xdp_md *ctx)
{
	BEGIN;
	struct plain fresh;

	WRITE(&fresh, number);
	if (key < STAY || dice & 1 << 30)
		bpf_map_update_elem(&cpu_hash, &key, &fresh, BPF_ANY);
	else
		bpf_map_delete_elem(&cpu_hash, &key);
	return XDP_PASS;
}

SEC("xdp") int churn_locked_hash(struct xdp_md *ctx)
{
	BEGIN;
	struct locked *there, fresh = {};

	WRITE(&fresh, number);
	if (key < STAY) {
		there = bpf_map_lookup_elem(&locked_hash, &key);
		if (!there)
			return XDP_PASS;
		bpf_spin_lock(&there->lock);
		WRITE(there, number);
		bpf_spin_unlock(&there->lock);
	} else if (dice & 1 << 30)
		bpf_map_update_elem(&locked_hash, &key, &fresh, BPF_ANY);
	else
		bpf_map_delete_elem(&locked_hash, &key);
	return XDP_PASS;
}

SEC("xdp") int churn_array(struct xdp_md *ctx)
{
	BEGIN;
	struct plain *there = bpf_map_lookup_elem(&array, &key);

	if (there)
		WRITE(there, number);
	return XDP_PASS;
}

SEC("xdp") int churn_locked_array(struct xdp_md *ctx)
{
	BEGIN;
	struct locked *there = bpf_map_lookup_elem(&locked_array, &key);

	if (!there)
		return XDP_PASS;
	bpf_spin_lock(&there->lock);
	WRITE(there, number);
	bpf_spin_unlock(&there->lock);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""
MAPS = "hash sparse lru cpu_hash trie locked_hash array locked_array".split()
WHOLE = ["cpu_hash", "locked_hash", "locked_array"]  # all values of these
WHOLE_FROM = {"hash": STAY, "sparse": STAY, "lru": STAY}  # and those of these keys
SECONDS, PATIENCE = 0.5, 60.0  # of reading one map; for one reading


def one(number: int) -> None:
    rng = random.Random(number)
    names = MAPS if number == 0 else rng.sample(MAPS, 3)
    defines = {"STAY": STAY, "COME_AND_GO": COME_AND_GO, "WORDS": WORDS}
    with load(text=SOURCE, name="moving.bpf.c", defines=defines) as prog:
        for name in names:
            it, stop = prog[name], threading.Event()
            _fill(it)

            def churn(name: str = name, stop: threading.Event = stop) -> None:
                while not stop.is_set():  # seldom asked: Python runs in turns, and we read in it
                    prog.run(f"churn_{name}", repeat=100_000)

            with ThreadPoolExecutor(1) as pool:
                writing = pool.submit(sandbox.on_cpus, (kernel.online_cpus() * 2)[:2], churn)
                try:
                    _read_for_a_while(it)
                finally:
                    stop.set()
                writing.result()


def _fill(it: BpfMap) -> None:
    """The keys that stay."""
    for key in range(STAY):
        words = [key << 32] * WORDS
        value = ((0,), words) if it.name.startswith("locked") else (words,)
        at = (32, key) if it.type == "lpm_trie" else key
        it[at] = [value] * kernel.cpus() if it.per_cpu else value


def _read_for_a_while(it: BpfMap) -> None:
    end = time.monotonic() + SECONDS
    readings = 0
    while time.monotonic() < end or readings < 3:
        begun = time.monotonic()
        df = it.frame()
        _look(it, df)
        stay = set(df.key[df.key < STAY])
        if df.attrs["complete"]:
            assert len(stay) == STAY, (
                f"{it.name}: complete, and {STAY - len(stay)} keys are missing"
            )
        else:
            assert it.type == "lpm_trie", f"{it.name} lost its place"
        _look(it, _frame(it, list(it.items())))
        key = random.randrange(STAY)
        if it.name in ("locked_hash", "locked_array"):
            it[key] = it[key]  # under the lock as well
            _look(it, _frame(it, [(key, it[key])]))
        readings += 1
        assert time.monotonic() < begun + PATIENCE, f"{it.name}: a reading took too long"


def _frame(it: BpfMap, items: list[tuple]) -> pd.DataFrame:
    """What items() gave, in the form of frame()."""
    rows = [
        {"key": getattr(key, "key", key), "cpu": cpu, "n": value.n}
        for key, values in items
        for cpu, value in enumerate(values if it.per_cpu else [values])
    ]
    return pd.DataFrame(rows)


def _look(it: BpfMap, df: pd.DataFrame) -> None:
    """Each key once, each field a number of its own key's, and values whole where they must be."""
    once = ["key", "cpu"] if it.per_cpu else ["key"]
    assert not df.duplicated(once).any(), f"{it.name}: a key came twice"
    key, fields = df.key.to_numpy("u8"), np.array(df.n.tolist(), "u8")
    written = fields.any(axis=1)  # what another CPU inserted is zero on this one
    written |= not (it.per_cpu or it.is_array)
    assert ((fields >> np.uint64(32))[written] == key[written, None]).all(), (
        f"{it.name}: a value is another key's"
    )
    torn = (fields != fields[:, :1]).any(axis=1)
    must = np.full(len(df), it.name in WHOLE) | (key >= WHOLE_FROM.get(it.name, 1 << 32))
    assert not (torn & must).any(), f"{it.name}: {(torn & must).sum()} of {len(df)} values are torn"


PART = Part(one, rounds=100, short=2, unit="three maps, read while two CPUs insert and delete")
