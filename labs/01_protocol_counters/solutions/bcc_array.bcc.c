// solution: BCC, whose increment() looks up and adds; in Python, the frame grouped by index
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "protocols.h"

BPF_PERCPU_ARRAY(counters, u64, COUNTERS);

int count(struct xdp_md *ctx)
{
	struct packet packet = unpack(ctx);
	struct iphdr *ip = packet.header;
	struct ipv6hdr *ip6 = packet.header;
	int protocol = -1;

	if (packet.type == ETH_P_IP && (void *)(ip + 1) <= packet.end)
		protocol = ip->protocol;
	else if (packet.type == ETH_P_IPV6 && (void *)(ip6 + 1) <= packet.end)
		protocol = ip6->nexthdr;

	if (protocol == IPPROTO_TCP)
		counters.increment(TCP);
	else if (protocol == IPPROTO_UDP)
		counters.increment(UDP);
	else if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6)
		counters.increment(ICMP);
	else
		counters.increment(OTHER);
	return XDP_PASS;
}
