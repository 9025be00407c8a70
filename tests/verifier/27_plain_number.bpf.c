// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: no-pointer */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int follow(struct xdp_md *ctx)
{
	__u32 *address = (void *)(long)ctx->rx_queue_index; /* cause */

	return *address; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
