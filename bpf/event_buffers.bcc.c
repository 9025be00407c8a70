// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/bpf.h>

#ifndef RING_BYTES
#define RING_BYTES 4096
#endif
#define HEADER 14 /* bytes of Ethernet before what a packet says */
#define LONGEST 128

/* What is streamed: when, which one, and from where. 16 bytes without padding. */
struct event {
	u64 ns;
	u32 number;
	u32 cpu;
};

/* A record as long as its text. */
struct line {
	u32 length;
	char text[];
};

/* One queue for all CPUs, of so many pages; the ring buffer of BCC counts in those. */
BPF_RINGBUF_OUTPUT(ring, RING_BYTES / 4096);

/* One queue a CPU. */
BPF_PERF_OUTPUT(perf);

/* Per CPU, so that counting a loss takes no lock and loses nothing itself. */
BPF_PERCPU_ARRAY(ring_lost, u64, 1);
BPF_PERCPU_ARRAY(perf_lost, u64, 1);

/* One number for all CPUs: every record has its own, even one that is lost. */
BPF_ARRAY(produced, u64, 1);

static u32 produce(void)
{
	u32 zero = 0;
	u64 *next = produced.lookup(&zero);

	return next ? __sync_fetch_and_add(next, 1) : 0;
}

static void fill(struct event *event, u32 number)
{
	event->ns = bpf_ktime_get_ns();
	event->number = number;
	event->cpu = bpf_get_smp_processor_id();
}

/* Reserve, write in place, submit: no copy. A full ring has no room to reserve: NULL. */
static int put(u64 flags)
{
	u32 number = produce();
	struct event *event = ring.ringbuf_reserve(sizeof(*event));

	if (!event) {
		ring_lost.increment(0);
		return XDP_PASS;
	}
	fill(event, number);
	ring.ringbuf_submit(event, flags);
	return XDP_PASS;
}

int to_ring(struct xdp_md *ctx)
{
	return put(0);
}

int quietly(struct xdp_md *ctx)
{
	return put(BPF_RB_NO_WAKEUP);
}

int loudly(struct xdp_md *ctx)
{
	return put(BPF_RB_FORCE_WAKEUP);
}

/* The same record from the stack, copied. Perf buffers know no other way. */
int copy_to_ring(struct xdp_md *ctx)
{
	struct event event;

	fill(&event, produce());
	if (ring.ringbuf_output(&event, sizeof(event), 0))
		ring_lost.increment(0);
	return XDP_PASS;
}

int to_perf(struct xdp_md *ctx)
{
	struct event event;

	fill(&event, produce());
	if (perf.perf_submit(ctx, &event, sizeof(event)))
		perf_lost.increment(0);
	return XDP_PASS;
}

/* Room first, decision later: what the reader should not see is discarded. */
int only_even(struct xdp_md *ctx)
{
	u32 number = produce();
	struct event *event = ring.ringbuf_reserve(sizeof(*event));

	if (!event) {
		ring_lost.increment(0);
		return XDP_PASS;
	}
	fill(event, number);
	if (number % 2)
		ring.ringbuf_discard(event, 0);
	else
		ring.ringbuf_submit(event, 0);
	return XDP_PASS;
}

/* Two records, reserved in one order, written and submitted in the other. */
int crossed(struct xdp_md *ctx)
{
	struct event *first = ring.ringbuf_reserve(sizeof(*first)), *second;

	if (!first)
		return XDP_PASS;
	second = ring.ringbuf_reserve(sizeof(*second));
	if (second) {
		fill(second, produce());
		ring.ringbuf_submit(second, 0);
	}
	fill(first, produce());
	ring.ringbuf_submit(first, 0);
	return XDP_PASS;
}

/* What the packet says after its Ethernet header, LONGEST bytes of it at most. */
static u64 copy_text(struct xdp_md *ctx, char *text)
{
	u64 length = (long)ctx->data_end - (long)ctx->data - HEADER;

	if (length > LONGEST)
		length = LONGEST;
	if (bpf_probe_read_kernel(text, length, (void *)(long)ctx->data + HEADER))
		return 0;
	return length;
}

int line_to_ring(struct xdp_md *ctx)
{
	struct {
		u32 length;
		char text[LONGEST];
	} line = {};
	u64 length = copy_text(ctx, line.text);

	line.length = length;
	if (ring.ringbuf_output(&line, sizeof(line.length) + length, 0))
		ring_lost.increment(0);
	return XDP_PASS;
}

int line_to_perf(struct xdp_md *ctx)
{
	struct {
		u32 length;
		char text[LONGEST];
	} line = {};
	u64 length = copy_text(ctx, line.text);

	line.length = length;
	if (perf.perf_submit(ctx, &line, sizeof(line.length) + length))
		perf_lost.increment(0);
	return XDP_PASS;
}
