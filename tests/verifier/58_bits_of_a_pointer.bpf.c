// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: pointer-arithmetic */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int odd(struct xdp_md *ctx)
{
	long data = ctx->data;

	if (data & 1) /* here */
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
