// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: packet-bounds */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int only_ip(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data; /* cause */

	if (eth->h_proto == 8) /* here */
		return XDP_PASS;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
