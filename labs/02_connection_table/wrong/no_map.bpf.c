// expect: has no map `connections`. Its maps: `.bss`
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

static __u64 packets, bytes;

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct packet packet;

	if (parse(ctx, &packet))
		return XDP_PASS;
	packets++;
	bytes += packet.length;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
