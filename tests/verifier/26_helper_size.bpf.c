// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: size-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int copy(struct xdp_md *ctx)
{
	char room[64] = {};
	int size = ctx->rx_queue_index; /* cause */

	bpf_probe_read_kernel(room, size, ctx); /* here */
	return room[0];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
