// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: packet-far */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int sum(struct xdp_md *ctx)
{
	unsigned char *at = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 sum = 0;

	while (at + 3 <= end) {
		sum += *at; /* here */
		at += 3;
	}
	return sum & 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
