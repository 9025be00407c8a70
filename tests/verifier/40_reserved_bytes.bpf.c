// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: memory-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	__u32 slot = ctx->rx_queue_index;
	__u64 *event = bpf_ringbuf_reserve(&events, 64, 0);

	if (!event)
		return XDP_PASS;
	event[slot] = 1; /* here */
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
