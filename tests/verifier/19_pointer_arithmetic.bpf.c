// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: pointer-arithmetic */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int long_enough(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end; /* cause */

	if (data > end - 14) /* here */
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
