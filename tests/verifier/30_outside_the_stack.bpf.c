// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: stack-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int fill(struct xdp_md *ctx)
{
	volatile char room[16] = {};
	__u32 at = ctx->rx_queue_index;

	room[at] = 1; /* here */
	return room[0];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
