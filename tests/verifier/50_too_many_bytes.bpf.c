// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: size-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int copy(struct xdp_md *ctx)
{
	char room[16] = {};

	bpf_probe_read_kernel(room, 64, ctx); /* here */
	return room[0];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
