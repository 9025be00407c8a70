// expect: what is a bit worth that all entries have
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

BPF_TABLE("lru_hash", u32, u64, recent, 10);

int remember(struct xdp_md *ctx)
{
	struct packet packet;
	u64 none = 0, *packets;
	u32 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->source);
	packets = recent.lookup_or_try_init(&port, &none);
	if (packets)
		lock_xadd(packets, 1);
	return XDP_PASS;
}
