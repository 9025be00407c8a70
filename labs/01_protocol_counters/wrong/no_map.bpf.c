// expect: Its maps: none
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "protocols.h"

static int protocol(struct packet packet)
{
	struct iphdr *ip = packet.header;
	struct ipv6hdr *ip6 = packet.header;

	if (packet.type == ETH_P_IP && (void *)(ip + 1) <= packet.end)
		return ip->protocol;
	if (packet.type == ETH_P_IPV6 && (void *)(ip6 + 1) <= packet.end)
		return ip6->nexthdr;
	return -1;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 index;

	switch (protocol(unpack(ctx))) {
	case IPPROTO_TCP:
		index = TCP;
		break;
	case IPPROTO_UDP:
		index = UDP;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		index = ICMP;
		break;
	default:
		index = OTHER;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
