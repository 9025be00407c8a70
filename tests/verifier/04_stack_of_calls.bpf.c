// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: stack-size */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __attribute__((noinline)) int deep(struct xdp_md *ctx)
{
	volatile char room[300];

	room[ctx->rx_queue_index & 255] = 1;
	return room[ctx->ingress_ifindex & 255];
}

SEC("xdp")
int shallow(struct xdp_md *ctx)
{
	volatile char room[300];

	room[ctx->rx_queue_index & 255] = 1;
	return deep(ctx) + room[ctx->ingress_ifindex & 255]; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
