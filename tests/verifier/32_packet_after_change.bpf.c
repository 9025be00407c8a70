// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: packet-moved */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int push(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -8)) /* cause */
		return XDP_PASS;
	eth->h_proto = 0; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
