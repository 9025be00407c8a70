// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: no-exit */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

volatile __u32 packets;

SEC("xdp")
int count(struct xdp_md *ctx)
{
	packets++; /* here */
	__builtin_unreachable();
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
