// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: endless-loop */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int spin(struct xdp_md *ctx)
{
	volatile int turns = 0;

	for (;;)
		turns = 1; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
