// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: no-value */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int verdict(struct xdp_md *ctx)
{
	int answer;

	return answer; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
