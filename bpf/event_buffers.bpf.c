// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef RING_BYTES
#define RING_BYTES 4096
#endif
#define HEADER 14 /* bytes of Ethernet before what a packet says */
#define LONGEST 128

/* What is streamed: when, which one, and from where. 16 bytes without padding. */
struct event {
	__u64 ns;
	__u32 number;
	__u32 cpu;
};

/* A record as long as its text. */
struct line {
	__u32 length;
	char text[];
};

/* The compiler keeps the types that something points to, and readers decode with them. */
struct event *unused_event __attribute__((unused));
struct line *unused_line __attribute__((unused));

/* One queue for all CPUs. A ring buffer, because order matters and a reader takes all of it. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} ring SEC(".maps");

/* One queue a CPU: the reader writes a perf event's descriptor, and the kernel keeps the event. */
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf SEC(".maps");

/* Per CPU, so that counting a loss takes no lock and loses nothing itself. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ring_lost SEC(".maps"), perf_lost SEC(".maps");

/* One number for all CPUs: every record has its own, even one that is lost. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} produced SEC(".maps");

static void count(void *map)
{
	__u32 zero = 0;
	__u64 *losses = bpf_map_lookup_elem(map, &zero);

	if (losses)
		++*losses;
}

static __u32 produce(void)
{
	__u32 zero = 0;
	__u64 *next = bpf_map_lookup_elem(&produced, &zero);

	return next ? __sync_fetch_and_add(next, 1) : 0;
}

static void fill(struct event *event, __u32 number)
{
	event->ns = bpf_ktime_get_ns();
	event->number = number;
	event->cpu = bpf_get_smp_processor_id();
}

/* Reserve, write in place, submit: no copy. A full ring has no room to reserve: NULL. */
static int put(__u64 flags)
{
	__u32 number = produce();
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		count(&ring_lost);
		return XDP_PASS;
	}
	fill(event, number);
	bpf_ringbuf_submit(event, flags);
	return XDP_PASS;
}

SEC("xdp")
int to_ring(struct xdp_md *ctx)
{
	return put(0);
}

SEC("xdp")
int quietly(struct xdp_md *ctx)
{
	return put(BPF_RB_NO_WAKEUP);
}

SEC("xdp")
int loudly(struct xdp_md *ctx)
{
	return put(BPF_RB_FORCE_WAKEUP);
}

/* The same record from the stack, copied. Perf buffers know no other way. */
SEC("xdp")
int copy_to_ring(struct xdp_md *ctx)
{
	struct event event;

	fill(&event, produce());
	if (bpf_ringbuf_output(&ring, &event, sizeof(event), 0))
		count(&ring_lost);
	return XDP_PASS;
}

SEC("xdp")
int to_perf(struct xdp_md *ctx)
{
	struct event event;

	fill(&event, produce());
	if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &event, sizeof(event)))
		count(&perf_lost);
	return XDP_PASS;
}

/* Room first, decision later: what the reader should not see is discarded. */
SEC("xdp")
int only_even(struct xdp_md *ctx)
{
	__u32 number = produce();
	struct event *event = bpf_ringbuf_reserve(&ring, sizeof(*event), 0);

	if (!event) {
		count(&ring_lost);
		return XDP_PASS;
	}
	fill(event, number);
	if (number % 2)
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

/* Two records, reserved in one order, written and submitted in the other. */
SEC("xdp")
int crossed(struct xdp_md *ctx)
{
	struct event *first = bpf_ringbuf_reserve(&ring, sizeof(*first), 0), *second;

	if (!first)
		return XDP_PASS;
	second = bpf_ringbuf_reserve(&ring, sizeof(*second), 0);
	if (second) {
		fill(second, produce());
		bpf_ringbuf_submit(second, 0);
	}
	fill(first, produce());
	bpf_ringbuf_submit(first, 0);
	return XDP_PASS;
}

/* What the packet says after its Ethernet header, LONGEST bytes of it at most. */
static __u64 copy_text(struct xdp_md *ctx, char *text)
{
	__u64 length = (long)ctx->data_end - (long)ctx->data - HEADER;

	if (length > LONGEST)
		length = LONGEST;
	if (bpf_probe_read_kernel(text, length, (void *)(long)ctx->data + HEADER))
		return 0;
	return length;
}

SEC("xdp")
int line_to_ring(struct xdp_md *ctx)
{
	struct {
		__u32 length;
		char text[LONGEST];
	} line = {};
	__u64 length = copy_text(ctx, line.text);

	line.length = length;
	if (bpf_ringbuf_output(&ring, &line, sizeof(line.length) + length, 0))
		count(&ring_lost);
	return XDP_PASS;
}

SEC("xdp")
int line_to_perf(struct xdp_md *ctx)
{
	struct {
		__u32 length;
		char text[LONGEST];
	} line = {};
	__u64 length = copy_text(ctx, line.text);

	line.length = length;
	if (bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &line,
				  sizeof(line.length) + length))
		count(&perf_lost);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
