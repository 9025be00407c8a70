"""Ring and perf buffers: every record delivered or counted as lost; pins; programs as values."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import kernel, load, open_map, sandbox
from helpers.errors import BpfError, Closed, LayoutError, NotFound, Unsupported
from helpers.program import Program

HEAD = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
STREAMS = (
    HEAD
    + """
struct where { __u16 cpu; __u16 spare; };
struct event { __u64 n; struct where at; char comm[16]; };
struct line { __u32 length; char text[]; };
struct event *unused __attribute__((unused));
struct line *unused_too __attribute__((unused));
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } second SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); __uint(key_size, 4);
	 __uint(value_size, 4); } perf SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	 __type(value, __u64); } lost SEC(".maps");
__u64 produced;

static void count_lost(void)
{
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&lost, &zero);

	if (n)
		++*n;
}

SEC("xdp")
int to_ring(struct xdp_md *ctx)
{
	struct event e = { .n = __sync_fetch_and_add(&produced, 1),
			   .at.cpu = bpf_get_smp_processor_id(), .comm = "tester" };

	if (bpf_ringbuf_output(&ring, &e, sizeof(e), 0))
		count_lost();
	return XDP_PASS;
}

SEC("xdp")
int to_perf(struct xdp_md *ctx)
{
	struct event e = { .n = __sync_fetch_and_add(&produced, 1),
			   .at.cpu = bpf_get_smp_processor_id(), .comm = "tester" };

	if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &e, sizeof(e)))
		count_lost();
	return XDP_PASS;
}

SEC("xdp")
int of_any_length(struct xdp_md *ctx)
{
	struct { __u32 length; char text[12]; } l = { .text = "abcdefghijkl" };

	for (l.length = 1; l.length <= 12; l.length++)
		bpf_ringbuf_output(&second, &l, 4 + l.length, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""
)


@pytest.fixture
def prog() -> Iterator[Program]:
    with load(text=STREAMS, name="streams.bpf.c") as loaded:
        yield loaded


@pytest.mark.parametrize("kind", ["ring", "perf"])
def test_records_come_in_order_with_nested_fields(prog: Program, kind: str) -> None:
    events = prog.events(kind)
    prog.run(f"to_{kind}", repeat=20)
    df = events.frame()
    assert df.columns.tolist() == ["n", "at.cpu", "at.spare", "comm"]
    assert df.n.tolist() == list(range(20))
    assert set(df.comm) == {"tester"}
    assert (df.attrs["delivered"], df.attrs["lost"]) == (20, 0)
    prog.run(f"to_{kind}")
    (one,) = events.read()
    assert (one.n, one.at.spare, one.comm) == (20, 0, "tester")
    assert events.read() == []


@pytest.mark.parametrize("kind", ["ring", "perf"])
def test_under_overload_delivered_and_lost_are_produced(prog: Program, kind: str) -> None:
    events = prog.events(kind, pages=1)
    cpus = (kernel.online_cpus() * 2)[:2]

    def produce() -> None:
        for _ in range(40):
            sandbox.on_cpus(cpus, lambda: prog.run(f"to_{kind}", repeat=500))

    seen = list[int]()
    with ThreadPoolExecutor(1) as pool:
        producing = pool.submit(produce)
        while not producing.done():
            seen += events.frame(timeout=0.01).n.tolist()
        producing.result()
    df = events.frame(timeout=0)
    seen += df.n.tolist()
    produced = prog[".bss"][0].produced
    assert produced == 2 * 40 * 500
    assert df.attrs["delivered"] == len(seen) == len(set(seen))
    assert df.attrs["lost"] > 0
    assert df.attrs["delivered"] + df.attrs["lost"] == produced


def test_records_of_any_length(prog: Program) -> None:
    events = prog.events("second", record="line")
    prog.run("of_any_length", repeat=2)
    df = events.frame()
    assert df.text.tolist() == ["abcdefghijkl"[:n] for n in range(1, 13)] * 2
    assert df.length.tolist() == list(range(1, 13)) * 2
    prog.run("of_any_length")
    assert [one.text for one in events.read()][-1] == "abcdefghijkl"


def test_several_buffers_at_once(prog: Program) -> None:
    ring, second, perf = (prog.events(n, record="none") for n in ("ring", "second", "perf"))
    for name in ("to_ring", "of_any_length", "to_perf"):
        prog.run(name, repeat=2)
    assert [len(ring.raw()), len(second.raw()), len(perf.raw())] == [2, 24, 2]


def test_waiting_ends_with_the_first_record_or_in_time(prog: Program) -> None:
    events = prog.events("ring")
    start = time.monotonic()
    assert len(events.frame(timeout=0.2)) == 0
    assert 0.2 <= time.monotonic() - start < 2
    later = threading.Timer(0.2, lambda: prog.run("to_ring"))
    later.start()
    assert len(events.frame(timeout=30)) == 1
    assert time.monotonic() - start < 20
    later.join()


def test_a_ring_without_a_counter_does_not_pretend() -> None:
    with load(
        text=STREAMS.replace("} lost SEC", "} failures SEC").replace("&lost", "&failures")
    ) as prog:
        events = prog.events("ring")
        prog.run("to_ring", repeat=500)
        df = events.frame()
        assert df.attrs["lost"] is None
        assert df.attrs["delivered"] == len(df) < 500


def test_a_buffer_has_one_reader(prog: Program) -> None:
    events = prog.events("ring")
    with pytest.raises(BpfError, match="ring has a reader already .*EBUSY"):
        prog.events("ring")
    events.close()
    events.close()
    with pytest.raises(Closed, match="reader of ring is closed"):
        events.read()
    prog.events("ring").close()
    assert repr(events) == "ring: records of struct event from a ringbuf, closed"


def test_what_is_no_buffer(prog: Program) -> None:
    with pytest.raises(Unsupported, match="lost, a percpu_array map"):
        prog.events("lost")
    with pytest.raises(NotFound, match="no map 'nope'"):
        prog.events("nope")


def test_a_struct_that_is_longer_than_the_records(prog: Program) -> None:
    events = prog.events("second", record="event")
    prog.run("of_any_length")
    with pytest.raises(LayoutError, match="a record of 5 bytes, and struct event has 32"):
        events.frame()


def test_a_closed_program_ends_its_readers(prog: Program) -> None:
    events = prog.events("ring")
    prog.close()
    with pytest.raises(Closed):
        events.read()


def test_a_pin_outlives_the_program_and_goes_on(prog: Program) -> None:
    prog["lost"][0] = [5] * kernel.cpus()
    path = prog["lost"].pin("test_a_pin")
    try:
        with pytest.raises(BpfError, match="There is a pin .*EEXIST"):
            prog["lost"].pin("test_a_pin")
        with pytest.raises(NotFound, match="another map's"):
            prog["ring"].unpin("test_a_pin")
        prog.close()
        with open_map(pin=path) as again, load(text=STREAMS, maps={"lost": again}) as new:
            assert new["lost"].id == again.id
            new.run("to_ring", repeat=1000)
            assert sum(new["lost"][0]) > 5 * kernel.cpus()
            assert new["lost"][0] == again[0]
            again.unpin("test_a_pin")
    finally:
        path.unlink(missing_ok=True)
        kernel.drop_pins()
    assert not kernel.PINS.exists()


def test_a_map_of_another_layout_is_not_used_again(prog: Program) -> None:
    for old, new, what in (
        ("__type(value, __u64); } lost", "__type(value, __s64); } lost", "value is __u64"),
        (
            "__uint(max_entries, 1); __type(key",
            "__uint(max_entries, 2); __type(key",
            "max_entries is 1",
        ),
        ("BPF_MAP_TYPE_PERCPU_ARRAY", "BPF_MAP_TYPE_ARRAY", "type is percpu_array"),
    ):
        with pytest.raises(LayoutError, match=f"lost cannot be used again: its {what}"):
            load(text=STREAMS.replace(old, new), maps={"lost": prog["lost"]})
    with pytest.raises(NotFound, match="declares no map 'found'"):
        load(text=STREAMS, maps={"found": prog["lost"]})
    with pytest.raises(Unsupported, match="libbpf's dialect"):
        load("hash.bcc.c", maps={"connections": prog["lost"]})


def test_pins_in_wrong_places(prog: Program) -> None:
    with pytest.raises(BpfError, match="has a dot in it.*EPERM"):
        prog["lost"].pin("my.lost")
    with pytest.raises(Unsupported, match="/tmp/lost, which is in none"):
        prog["lost"].pin("/tmp/lost")
    assert not kernel.PINS.exists()


def test_a_program_array_takes_programs() -> None:
    text = HEAD + (
        "struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 4);"
        ' __uint(key_size, 4); __uint(value_size, 4); } next SEC(".maps");\n'
        'SEC("xdp") int drop(struct xdp_md *c) { return XDP_DROP; }\n'
        'SEC("xdp") int first(struct xdp_md *c) { bpf_tail_call(c, &next, 1); return XDP_PASS; }\n'
        'char L[] SEC("license") = "Dual MIT/GPL";'
    )
    with load(text=text) as prog:
        assert prog.run("first").retval == 2
        prog["next"][1] = prog.function("drop")
        assert prog.run("first").retval == 1
        del prog["next"][1]
        assert prog.run("first").retval == 2


def test_a_sampler_counts_the_time_of_one_process() -> None:
    text = HEAD + (
        "__u64 samples;\n"
        'SEC("perf_event") int sample(void *ctx) { __sync_fetch_and_add(&samples, 1); return 0; }\n'
        'char L[] SEC("license") = "Dual MIT/GPL";'
    )
    with load(text=text) as prog:
        link = prog.attach("sample", os.getpid(), frequency=1000)
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
        link.close()
        samples = prog[".bss"][0].samples
        assert 100 <= samples <= 400
        time.sleep(0.05)
        assert prog[".bss"][0].samples == samples
        with pytest.raises(LayoutError, match="samples one process"):
            prog.attach("sample")
        with pytest.raises(NotFound, match="no process 4194305"):
            prog.attach("sample", (1 << 22) + 1)


def test_bcc_programs_attach_to_tracepoints() -> None:
    text = (
        "BPF_HASH(calls, u32, u64);\n"
        "int count(void *ctx) { u32 t = bpf_get_current_pid_tgid();\n"
        f"if (t == {threading.get_native_id()}) calls.increment(t); return 0; }}"
    )
    with load(text=text, dialect="bcc") as prog:
        prog.attach("count", "syscalls:sys_enter_getppid")
        os.getppid()
        os.getppid()
        assert prog["calls"][threading.get_native_id()] == 2
        with pytest.raises(Unsupported, match="the hook tracepoint/syscalls/none_such"):
            prog.attach("count", "syscalls:none_such")
        with pytest.raises(LayoutError, match="needs a place"):
            prog.attach("count")
