"""Ring and perf buffers, drained into a DataFrame."""

import contextlib
import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from helpers import kernel, load, sandbox
from helpers.libbpf import TestRunOpts, lib
from tests.bench.measure import Row, Work, together
from tests.bench.tables import touched

_EVENT = """
struct event { __u64 ns; __u64 number; __u64 bytes; __u32 pid; __u32 cpu; };
static __always_inline void fill(struct event *e)
{
	e->ns = bpf_ktime_get_ns();
	e->number = e->ns + 1;
	e->bytes = 1500;
	e->pid = 7;
	e->cpu = bpf_get_smp_processor_id();
}
/* 1 to 64 bytes of text */
struct text { __u32 length; char text[64]; };
static __always_inline __u32 write(struct text *t)
{
	__u32 n = 1 + (bpf_get_prandom_u32() & 63);

	__builtin_memset(t->text, 'x', 64);
	t->length = n;
	return 4 + n;
}
"""
_OURS = (
    """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct line { __u32 length; char text[]; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, BYTES); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4);
	 __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	 __type(value, __u64); } lost SEC(".maps");
"""
    + _EVENT
    + """
struct event *unused __attribute__((unused));
struct line *unused_too __attribute__((unused));
static int count(long error)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&lost, &zero);

	if (n && error)
		++*n;
	return XDP_PASS;
}
SEC("xdp") int to_ring(struct xdp_md *ctx)
{
	struct event e;

	fill(&e);
	return count(bpf_ringbuf_output(&ring, &e, sizeof(e), BPF_RB_NO_WAKEUP));
}
SEC("xdp") int text_to_ring(struct xdp_md *ctx)
{
	struct text t;
	__u32 size = write(&t);

	return count(bpf_ringbuf_output(&ring, &t, size, BPF_RB_NO_WAKEUP));
}
SEC("xdp") int to_perf(struct xdp_md *ctx)
{
	struct event e;

	fill(&e);
	return count(bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &e, sizeof(e)));
}
char L[] SEC("license") = "Dual MIT/GPL";
"""
)
_BCC = (
    _EVENT.replace("__u", "u")
    + """
BPF_RINGBUF_OUTPUT(ring, PAGES);
BPF_PERF_OUTPUT(perf);
int to_ring(struct xdp_md *ctx)
{
	struct event e;

	fill(&e);
	ring.ringbuf_output(&e, sizeof(e), BPF_RB_NO_WAKEUP);
	return XDP_PASS;
}
int text_to_ring(struct xdp_md *ctx)
{
	struct text t;
	u32 size = write(&t);

	ring.ringbuf_output(&t, size, BPF_RB_NO_WAKEUP);
	return XDP_PASS;
}
int to_perf(struct xdp_md *ctx)
{
	struct event e;

	fill(&e);
	perf.perf_submit(ctx, &e, sizeof(e));
	return XDP_PASS;
}
"""
)
_FIELDS = ["ns", "number", "bytes", "pid", "cpu"]


class Event(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("ns", "number", "bytes")]
    _fields_ += [(name, ctypes.c_uint32) for name in ("pid", "cpu")]


class Peer:
    """BCC, the way its users write it: a callback for each record, then a DataFrame."""

    def __init__(self, room: int) -> None:
        bcc = kernel.import_bcc()
        text = _BCC.replace("PAGES", str(room // mmap.PAGESIZE))
        self.module = bcc.BPF(text=text.encode(), cflags=["-w"])
        names = ("to_ring", "text_to_ring", "to_perf")
        self.functions = {n: self.module.load_func(n.encode(), bcc.BPF.XDP).fd for n in names}
        self.rows: list[tuple[Any, ...]] = []
        self.on_record: Callable[[Any, int], None] = self.event
        self.source = self.module[b"ring"]
        self.source.open_ring_buffer(lambda ctx, data, size: self.on_record(data, size))

    def perf(self, pages: int) -> None:
        self.source = self.module[b"perf"]
        self.source.open_perf_buffer(lambda cpu, data, size: self.event(data, size), pages)

    def event(self, data: Any, size: int) -> None:
        e = ctypes.cast(data, ctypes.POINTER(Event)).contents
        self.rows.append((e.ns, e.number, e.bytes, e.pid, e.cpu))

    def text(self, data: Any, size: int) -> None:
        raw = ctypes.string_at(data, size)
        self.rows.append((int.from_bytes(raw[:4], "little"), raw[4:].decode()))

    def produce(self, name: str, records: int) -> None:
        opts = TestRunOpts(ctypes.sizeof(TestRunOpts), repeat=records)
        packet = ctypes.create_string_buffer(64)
        opts.data_in, opts.data_size_in = ctypes.addressof(packet), 64
        run = lib().bpf_prog_test_run_opts
        sandbox.on_cpus([0], lambda: run(self.functions[name], ctypes.byref(opts)))

    def drain(self, consume: Callable[[], object], names: list[str]) -> pd.DataFrame:
        self.rows = []
        consume()
        return pd.DataFrame(self.rows, columns=names)


@contextlib.contextmanager
def peer(room: int) -> Iterator[Peer]:
    one = Peer(room)
    try:
        yield one
    finally:
        for cpu in list(getattr(one.source, "_open_key_fds", ())):
            del one.source[cpu]
        kernel.free_bcc(one.module)


def _room(records: int, each: int) -> int:
    """A buffer for so many records of so many bytes: the next power of two."""
    return 1 << (records * each).bit_length()


def ring_buffer(quick: bool) -> list[Row]:
    records = 100_000 if quick else 1_000_000
    room, rounds = _room(records, 40), 3 if quick else 5
    with load(text=_OURS, name="streams.bpf.c", defines={"BYTES": room}) as prog:
        events = prog.events("ring")
        fill = Work(lambda: events.frame(0), lambda: _produce(prog, "to_ring", records))
        whole = mmap.mmap(
            prog["ring"].fd, 2 * room, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE
        )
        source = [np.frombuffer(whole, "u1", 32 * records, mmap.PAGESIZE)]
        target = touched(1, 32 * records)[0]
        mine, copy = together(2 * rounds, fill, lambda: np.copyto(target, source[0]))
        rows = [np.frombuffer(whole, "u8", 5 * records, mmap.PAGESIZE).reshape(records, 5)]
        columns = [touched(1, 8 * records)[0].view("u8") for _ in range(4)]

        def cut() -> None:
            for i, column in enumerate(columns):
                column[:] = rows[0][:, 1 + i]

        (words,) = together(rounds, cut)
        fill.before()
        assert len(fill.run()) == records and events.lost == 0
        source.clear()
        rows.clear()
        whole.close()
    with load(text=_OURS, name="streams.bpf.c", defines={"BYTES": room}) as prog:
        lines = prog.events("ring", record="line")
        texts = Work(lambda: lines.frame(0), lambda: _produce(prog, "text_to_ring", records // 4))
        (mine_text,) = together(rounds, texts)
    with peer(room) as theirs:
        consume = theirs.module.ring_buffer_consume
        work = Work(
            lambda: theirs.drain(consume, _FIELDS), lambda: theirs.produce("to_ring", records)
        )
        (by_callback,) = together(2, work)
        assert len(theirs.rows) == records
        theirs.on_record = theirs.text
        work = Work(
            lambda: theirs.drain(consume, ["length", "text"]),
            lambda: theirs.produce("text_to_ring", records // 4),
        )
        (text_by_callback,) = together(2, work)
        assert len(theirs.rows) == records // 4
    what = f"ring buffer, {records:,} of 32 bytes"
    of_text = f"ring buffer, {records // 4:,} of 5 to 68 bytes"
    cutting = (
        f"copying 4 columns, word by word, takes {words / copy:.1f} times as long as the bytes"
    )
    return [
        Row(what, mine, "BCC's callbacks", by_callback, 15, cutting, True),
        Row(what, mine, "one copy of the bytes", copy, 2, cutting),
        Row(of_text, mine_text, "BCC's callbacks", text_by_callback, 5,
            "a str in Python for each record", True),
    ]  # fmt: skip


def _produce(prog: Any, name: str, records: int) -> None:
    sandbox.on_cpus([0], lambda: prog.run(name, repeat=records))


def full_speed(quick: bool) -> list[Row]:
    """Drain a small ring while one CPU fills it as fast as it can."""
    records = 400_000 if quick else 5_000_000
    with load(text=_OURS, name="streams.bpf.c", defines={"BYTES": 1 << 24}) as prog:
        events = prog.events("ring")
        work = threading.Thread(target=_produce, args=(prog, "to_ring", records))
        work.start()
        read = 0
        while work.is_alive():
            read += len(events.frame(0.001))
        work.join()
        read += len(events.frame(0))
        lost = events.lost or 0
        assert read + lost == records
    what = f"lost of {records:,}, drained at full speed"
    return [Row(what, lost, "none", 0, 0, "room for the time until the reader runs again", unit="")]


def perf_buffer(quick: bool) -> list[Row]:
    records = 50_000 if quick else 1_000_000
    pages = _room(records, 48) // mmap.PAGESIZE
    with load(text=_OURS, name="streams.bpf.c", defines={"BYTES": 1 << 20}) as prog:
        events = prog.events("perf", pages=pages)
        work = Work(lambda: events.frame(0), lambda: _produce(prog, "to_perf", records))
        (mine,) = together(3, work)
        work.before()
        assert len(work.run()) == records and events.lost == 0
    with peer(1 << 20) as theirs:
        theirs.perf(pages)
        consume = theirs.module.perf_buffer_consume
        work = Work(
            lambda: theirs.drain(consume, _FIELDS), lambda: theirs.produce("to_perf", records)
        )
        (by_callback,) = together(2, work)
        assert len(theirs.rows) == records
    what = f"perf buffer, {records:,} of 32 bytes"
    bound = "a pass over memory, new pages for the columns"
    return [Row(what, mine, "BCC's callbacks", by_callback, 10, bound, True)]


WORKS = [ring_buffer, full_speed, perf_buffer]
