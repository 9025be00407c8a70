// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: misaligned */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int store(struct xdp_md *ctx)
{
	volatile char room[16] __attribute__((aligned(8))) = {};
	volatile __u64 *second = (void *)(room + 1);

	asm volatile("" : "+r"(second));
	*second = ctx->rx_queue_index; /* here */
	return room[1];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
