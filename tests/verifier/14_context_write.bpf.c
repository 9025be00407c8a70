// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: context-write */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int grow(struct xdp_md *ctx)
{
	ctx->data_end = 4000; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
