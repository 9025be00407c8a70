// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: null-check */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) int proto(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end) /* cause */
		eth = NULL;
	asm volatile("" : "+r"(eth));
	return eth->h_proto; /* here */
}

SEC("xdp")
int look(struct xdp_md *ctx)
{
	return proto(ctx) == 8 ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
