// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: modified-context */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int read(struct xdp_md *ctx)
{
	__u32 *fields = (void *)ctx;

	return fields[ctx->rx_queue_index & 1]; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
