// solution: BCC, which tells new ports and known ones apart before it writes
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

BPF_TABLE("lru_hash", u32, u64, recent, 10);

int remember(struct xdp_md *ctx)
{
	struct packet packet;
	u64 one = 1, *packets;
	u32 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->source);
	packets = recent.lookup(&port);
	if (!packets) {
		recent.insert(&port, &one);
		return XDP_PASS;
	}
	lock_xadd(packets, 1);
	return XDP_PASS;
}
