// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: unwritten-stack */
/* accepted from 6.3 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int verdict(struct xdp_md *ctx)
{
	volatile __u64 local;

	return local & 1; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
