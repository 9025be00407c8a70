// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: unreleased */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	__u64 *event = bpf_ringbuf_reserve(&events, 8, 0); /* cause */

	if (!event)
		return XDP_PASS;
	*event = ctx->rx_queue_index;
	if (*event == 7)
		return XDP_DROP;
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
} /* here */

char LICENSE[] SEC("license") = "Dual MIT/GPL";
