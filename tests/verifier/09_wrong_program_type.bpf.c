// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: helper-type */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int verdict(struct xdp_md *ctx)
{
	char first = 0;

	bpf_skb_load_bytes(ctx, 0, &first, 1); /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
