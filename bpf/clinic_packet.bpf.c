// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: it reads a packet that may be shorter. See chapter 15. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int only_ipv4(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if (eth->h_proto == 0x0008) /* ETH_P_IP, in the packet's byte order */
		return XDP_PASS;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
