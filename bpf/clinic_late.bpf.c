// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: it writes to a record that it gave away. See chapter 15. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* One record a packet. A ring buffer, since Python wants each of them, and in order. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

struct event {
	__u64 length;
};

struct event *unused __attribute__((unused)); /* keeps the type information */

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return XDP_PASS;
	bpf_ringbuf_submit(event, 0);
	event->length = ctx->data_end - ctx->data;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
