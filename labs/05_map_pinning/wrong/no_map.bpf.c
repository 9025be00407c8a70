// expect: Your program has no map `ports`
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct total {
	__u64 packets;
	__u64 bytes;
};

struct total all;

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct total *seen = &all;
	struct packet packet;

	if (parse(ctx, &packet))
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, packet.length);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
