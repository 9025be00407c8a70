// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: read-only */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile __u32 limit = 64;

SEC("xdp")
int raise(struct xdp_md *ctx)
{
	*(volatile __u32 *)&limit = 128; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
