// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: too-complex */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int wait(struct xdp_md *ctx)
{
	__u64 turns;

	for (turns = 0; turns < 10000000; turns++) /* here */
		asm volatile("" : "+r"(turns));
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
