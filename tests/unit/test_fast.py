"""Each fast path gives what the slow one gives, while others write, too."""

import functools
import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import kernel, load, rings, sandbox
from helpers.btf import gather
from helpers.errors import LayoutError
from helpers.maps import BpfMap
from helpers.program import Program
from tests.bench import measure
from tests.ctypes_of import maps
from tests.unit.test_frame_is_bpftool import fill

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define MAP(name, kind, k, v, n, flags) \\
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, n); __type(key, k); \\
		 __type(value, v); __uint(map_flags, flags); } name SEC(".maps");
struct flow { __u32 net; __u16 port; };
struct seen { __u64 packets; __s16 change; _Bool open; char name[8]; __u8 mac[6]; __u16 few[3];
	      __u32 low : 5; __u32 high : 27; };
struct prefix { __u32 length; __u32 net; };
MAP(hash, HASH, struct flow, struct seen, 5000, 0)
MAP(array, ARRAY, __u32, __u64, 300, 0)
MAP(lru, LRU_HASH, __u32, __u64, 300, 0)
MAP(cpu_hash, PERCPU_HASH, struct flow, __u32, 300, 0)
MAP(cpu_array, PERCPU_ARRAY, __u32, __u64, 30, 0)
MAP(trie, LPM_TRIE, struct prefix, __u64, 3000, BPF_F_NO_PREALLOC)
char L[] SEC("license") = "Dual MIT/GPL";
"""
FIRST = kernel.online_cpus()[:1]
TYPES = ["hash", "array", "lru", "cpu_hash", "cpu_array", "trie"]


@pytest.fixture(scope="module")
def prog() -> Iterator[Program]:
    with load(text=SOURCE, name="fast.bpf.c") as loaded:
        yield loaded


def some(rng: random.Random, it: BpfMap, size: int) -> None:
    """Fill a map with entries that Python could have written."""
    for i in range(size):
        key = i if it.is_array else (i, i & 7) if it.key.ctype == "struct flow" else i
        key = (32, i << 8) if it.name == "trie" else key
        value: object = rng.randrange(1 << 16)
        if it.name == "hash":
            name = rng.choice(["", "a", "eth0", "12345678"])
            few = tuple(rng.randrange(9) for _ in range(3))
            value = (rng.getrandbits(64), -i, i % 2, name, rng.randbytes(6), few, i & 31, i)
        it[key] = [value] * kernel.cpus() if it.per_cpu else value


def held(it: BpfMap) -> dict[bytes, bytes]:
    keys, values = it.raw()
    return {k.tobytes(): v.tobytes() for k, v in zip(keys, values, strict=True)}


# --- frames into maps ---------------------------------------------------------------------


@given(maps(), st.integers(0, 2**32), st.sampled_from(["bytes", "ascii"]))
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_a_frame_is_written_as_a_loop_writes(
    declared: tuple[str, str, int], seed: int, alphabet: str
) -> None:
    text, _, size = declared
    with load(text=text) as first, load(text=text) as second, load(text=text) as third:
        fill(first["it"], min(size, 60), random.Random(seed), alphabet)
        df, entries, refused = first["it"].frame(), list(first["it"].items()), False
        try:
            for key, value in entries:
                second["it"][key] = value
        except LayoutError:  # members of a union that do not agree once they are decoded
            refused = True
        if refused:
            with pytest.raises(LayoutError):
                third["it"].update(df)
        else:
            third["it"].update(df)
            assert held(third["it"]) == held(second["it"])


@pytest.mark.parametrize("name", TYPES)
def test_a_frame_goes_there_and_back(prog: Program, name: str) -> None:
    with load(text=SOURCE, name="fast.bpf.c") as other:
        some(random.Random(name), prog[name], 30)
        df = prog[name].frame()
        other[name].update(df.sample(frac=1, random_state=1))
        assert held(other[name]) == held(prog[name])
        pd.testing.assert_frame_equal(
            other[name].frame().sort_values([*df.columns[:3]], ignore_index=True),
            df.sort_values([*df.columns[:3]], ignore_index=True),
        )
        other[name].update(df[:0])  # nothing at all is fine, too


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda df: df.drop(columns="port"), "lacks the column 'port'"),
        (lambda df: df.assign(prot=1), "one column too many, 'prot'"),
        (lambda df: pd.concat([df, df[["net"]]], axis=1), "twice the column 'net'"),
        (lambda df: df.assign(port=[80, 70000]), "70000 does not fit port of row 1 .__u16"),
        (lambda df: df.assign(net=[-1, 2]), "-1 does not fit net of row 0 .__u32"),
        (lambda df: df.assign(packets=[1, None]), "nan does not fit packets of row 1 .__u64"),
        (lambda df: df.assign(packets=[1.5, 2]), "1.5 does not fit packets of row 0"),
        (lambda df: df.assign(name=["x", None]), "nan does not fit name of row 1 .char.8"),
        (lambda df: df.assign(name=["x", "123456789"]), "'123456789' does not fit name of row 1"),
        (lambda df: df.assign(low=[31, 32]), "32 does not fit low of row 1"),
        (lambda df: df.assign(few=[(1, 2, 3), (1, 2)]), "few of row 1"),
    ],
)
def test_a_frame_that_does_not_fit_writes_nothing(prog: Program, change, message: str) -> None:
    it = prog["hash"]
    it.clear()
    some(random.Random(0), it, 2)
    df, before = it.frame().sort_values("net", ignore_index=True), held(it)
    with pytest.raises(LayoutError, match=f"The frame for hash.* {message}"):
        it.update(change(df.assign(packets=7)))
    assert held(it) == before


def test_a_per_cpu_frame_has_a_row_for_each_cpu(prog: Program) -> None:
    it = prog["cpu_hash"]
    some(random.Random(0), it, 3)
    df, last = it.frame(), kernel.cpus() - 1
    for wrong in (df[:-1], df.assign(cpu=0), df.assign(cpu=df.cpu + 1), df.assign(cpu=df.cpu - 1)):
        with pytest.raises(LayoutError, match="one row for each of the .* from 0 on"):
            it.update(wrong)
    it.update(df.assign(value=df.cpu))
    assert it[0, 0][last] == last


# --- maps into frames ---------------------------------------------------------------------


@pytest.mark.parametrize("name", TYPES)
def test_bulk_reads_are_single_reads(prog: Program, name: str) -> None:
    it = prog[name]
    some(random.Random(name), it, 30)
    keys, values, complete = it._read_singly()
    assert complete
    assert held(it) == {k.tobytes(): v.tobytes() for k, v in zip(keys, values, strict=True)}
    assert len(it) == len(keys)


@pytest.mark.parametrize("name", ["hash", "trie"])
def test_what_stays_is_read_once_while_others_come_and_go(prog: Program, name: str) -> None:
    it, stop = prog[name], threading.Event()
    it.clear()
    some(random.Random(1), it, 1000)
    stays = it.frame()
    whole = set(held(it))
    rest = [(32, i << 8) if name == "trie" else (i, 1) for i in range(1000, 2400)]
    value = stays.iloc[0][it.value.names].tolist() if name == "hash" else 7

    def churn() -> None:
        while not stop.is_set():
            some_keys = random.sample(rest, 300)
            it.update({key: tuple(value) if name == "hash" else value for key in some_keys})
            for key in some_keys:
                it.pop(key, None)

    thread = threading.Thread(target=churn)
    thread.start()
    told, end = [], time.monotonic() + 0.7
    try:
        while time.monotonic() < end:
            keys, _, complete = it._read()
            found = [key.tobytes() for key in keys]
            assert len(set(found)) == len(found)
            assert not complete or whole <= set(found)
            told.append(complete)
    finally:
        stop.set()
        thread.join()
    assert told and (name == "trie" or all(told))  # a hash keeps its place


def test_a_trie_that_sends_us_back_for_ever_is_read_to_an_end(prog: Program, monkeypatch) -> None:
    it = prog["trie"]
    it.clear()
    some(random.Random(1), it, 200)
    monkeypatch.setattr("helpers.maps._BYTES", 1)  # 64 keys at a time
    batches = it._batches

    def sent_back() -> Iterator[tuple]:
        """Where we are is deleted each time, so the kernel begins again at the first key."""
        gone = {}
        for keys, values, whole in batches() or ():
            it.update(gone)
            yield keys, values, whole
            last = it.key.decode(keys[-1].tobytes())
            gone = {last: it.pop(last)}

    monkeypatch.setattr(it, "_batches", sent_back)
    df = it.frame()
    assert len(df) <= 200 and not df.attrs["complete"]


def test_tables_are_gathered_into_columns_of_any_length() -> None:
    parts = [np.arange(n, dtype="u2") for n in (3, 0, 5, 40)]
    whole = gather(({"a": part, "b": part.astype(object)} for part in parts), 4)
    assert whole["a"].tolist() == whole["b"].tolist() == np.concatenate(parts).tolist()
    assert whole["a"].dtype == "u2"


# --- streams ------------------------------------------------------------------------------


def produce(prog: Program, rng: random.Random, to: str) -> None:
    """Records alike, records of all lengths, and discarded ones."""
    for _ in range(rng.randrange(1, 12)):
        name, repeat = f"line_to_{to}", rng.choice([1, 1, 1, 2, 100])
        if to == "ring" and rng.random() < 0.3:
            name = "only_even"
        prog.run(name, data=bytes(14) + rng.randbytes(rng.randrange(1, 128)), repeat=repeat)


@pytest.mark.parametrize("chunk", [1 << 19, 1 << 10])
def test_a_ring_in_bulk_is_a_ring_by_callbacks(monkeypatch, chunk: int) -> None:
    if not rings.IN_BULK:
        pytest.skip("libbpf reads the rings of this processor: run it on x86-64")
    monkeypatch.setattr(rings, "_CHUNK", chunk)
    rng = random.Random(chunk)
    with load("event_buffers.bpf.c", defines={"RING_BYTES": 1 << 15}) as prog:
        bulk, single = rings.Ring(prog["ring"]), rings.Callbacks(prog["ring"], 1)
        for _ in range(12):
            produce(prog, rng, "ring")
            begin = int(bulk._consumer[0])
            found = [record for piece in bulk.take() for record in piece.rests()]
            tables = [piece.table(4).copy() for piece in bulk.take()]
            assert not tables  # all was taken
            bulk._consumer[0] = begin  # and is there again
            (by_callback,) = single.take()
            assert found == by_callback.rests()


def test_a_perf_buffer_in_bulk_is_one_by_callbacks() -> None:
    if not rings.IN_BULK:
        pytest.skip("libbpf reads the rings of this processor: run it on x86-64")
    with load("event_buffers.bpf.c") as one, load("event_buffers.bpf.c") as two:
        readers = rings.Perf(one["perf"], 4), rings.Callbacks(two["perf"], 4)
        for seed in range(8):
            for prog in (one, two):
                rng = random.Random(seed)
                sandbox.on_cpus(FIRST, functools.partial(produce, prog, rng, "perf"))
            first, second = (
                [record for piece in reader.take() for record in piece.rests()]
                for reader in readers
            )
            assert first == second
        assert readers[0].told == readers[1].told > 0


def test_records_that_could_not_be_used_are_there_again() -> None:
    with load("event_buffers.bpf.c") as prog:
        events = prog.events("ring")
        prog.run("line_to_ring", data=bytes(14) + b"short", repeat=100)
        with pytest.raises(LayoutError, match="a record of 9 bytes, and struct event has 16"):
            events.frame()
        assert events.delivered == 0
        assert len(events.raw()) == events.delivered == 100


def test_two_threads_share_a_stream() -> None:
    with load("event_buffers.bpf.c", defines={"RING_BYTES": 1 << 16}) as prog:
        events, seen, stop = prog.events("ring", lost="ring_lost"), list[int](), threading.Event()

        def read() -> None:
            while not stop.is_set():
                seen.extend(events.frame(0.01).number.tolist())

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            prog.run("to_ring", repeat=500)
        stop.set()
        for thread in threads:
            thread.join()
        seen.extend(events.frame(0).number.tolist())
        assert len(set(seen)) == len(seen) == events.delivered
        assert events.delivered + (events.lost or 0) == 25_000


@pytest.mark.parametrize("text", ["plain", "with\0nul", "grün", "\udcff"])
def test_texts_of_a_table_and_of_a_list_are_the_same(text: str) -> None:
    raw = text.encode(errors="surrogateescape")
    records = [b"\1\0\0\0" + raw] * 3
    loose = rings.Records.of(records)
    table = np.frombuffer(b"".join(b"head" + one for one in records), "u1").reshape(3, -1)
    alike = rings.Alike(table, 4, len(records[0]))
    assert loose.rests() == alike.rests() == records
    assert loose.rests(4) == alike.rests(4) == [raw] * 3
    assert loose.texts(4) == alike.texts(4) == ([text] * 3 if text == "plain" else None)
    assert loose.table(4).tolist() == alike.table(4).tolist() == [[1, 0, 0, 0]] * 3
    assert loose.shortest == alike.shortest == len(records[0])


# --- the table of ./course bench ----------------------------------------------------------


def test_the_table_says_what_was_met(tmp_path: Path) -> None:
    rows = [
        measure.Row("near", 1.2, "floor", 1.0, 1.3, "the floor"),
        measure.Row("far", 2e-3, "floor", 1e-3, 1.3, "the floor"),
        measure.Row("fast", 1e-6, "peer", 30e-6, 25, "the peer", True),
        measure.Row("lost", 0, "none", 0, 0, "", unit=""),
        measure.Row("open", 1.0, "floor", 0.5, None, ""),
    ]
    assert [row.met for row in rows] == [True, False, True, True, None]
    assert "2 ms floor 1 ms 2.00 ≤ 1.3 NO the floor" in " ".join(measure.table(rows).split())
    data, picture = measure.save(rows, measure.machine(), tmp_path)
    ratios = [row["ratio"] for row in json.loads(data.read_text())["rows"]]
    assert ratios == pytest.approx([1.2, 2, 30, 0, 2])
    assert picture.read_bytes().startswith(b"\x89PNG")
