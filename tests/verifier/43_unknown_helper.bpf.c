// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: unknown-helper */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static long (*bpf_from_the_future)(void) = (void *)9999;

SEC("xdp")
int look(struct xdp_md *ctx)
{
	return bpf_from_the_future(); /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
