// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: packet-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int last_byte(struct xdp_md *ctx)
{
	char *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end; /* cause */
	__u32 at = ctx->rx_queue_index & 63;

	if (data + 32 > end)
		return XDP_PASS;
	return data[at]; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
