// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: context-read */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 *fields = (void *)ctx;

	return fields[20]; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
