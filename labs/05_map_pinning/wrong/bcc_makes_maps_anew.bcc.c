// expect: BCC, which makes maps anew
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct total {
	u64 packets;
	u64 bytes;
};

BPF_HASH(ports, u16, struct total, 1024);

int count(struct xdp_md *ctx)
{
	struct total *seen, none = {};
	struct packet packet;
	u16 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = ntohs(packet.ports->dest);
	seen = ports.lookup_or_try_init(&port, &none);
	if (!seen)
		return XDP_PASS;
	lock_xadd(&seen->packets, 1);
	lock_xadd(&seen->bytes, packet.length);
	return XDP_PASS;
}
