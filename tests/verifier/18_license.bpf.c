// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: license */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	static const char words[] = "a packet";

	bpf_trace_printk(words, sizeof(words)); /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Proprietary";
