// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: too-complex */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile __u32 queue, odd;

SEC("xdp")
int count(struct xdp_md *ctx)
{
	int i;

	for (i = 0; i < 100000; i++)
		if (queue & 1) /* here */
			odd++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
