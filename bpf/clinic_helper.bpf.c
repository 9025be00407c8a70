// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: that helper is for programs that have a socket buffer. See chapter 15. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int version(struct xdp_md *ctx)
{
	__u8 first = 0;

	bpf_skb_load_bytes(ctx, 14, &first, 1);
	return first >> 4; /* of IP: 4 or 6 */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
