// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

void *malloc(unsigned long size);

/* What a C programmer would write. It compiles; it is never loaded. */
SEC("xdp")
int wish(struct xdp_md *ctx)
{
	char *room = malloc(600);

	if (!room)
		return XDP_ABORTED;
	bpf_probe_read_kernel(room, 600, NULL);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
