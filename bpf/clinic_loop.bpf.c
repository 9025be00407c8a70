// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: nothing ends this loop. See chapter 15. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int wait(struct xdp_md *ctx)
{
	volatile int turns = 0;

	for (;;)
		turns = 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
