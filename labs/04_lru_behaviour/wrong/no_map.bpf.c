// expect: no map `recent`. Its maps: none
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	__u64 one = 1, *packets;
	struct packet packet;
	__u32 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->source);
	(void)one, (void)port, (void)packets;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
