// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* clang: stack-size */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int fill(struct xdp_md *ctx) /* here */
{
	volatile char room[600];

	room[ctx->rx_queue_index & 511] = 1;
	return room[ctx->ingress_ifindex & 511];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
