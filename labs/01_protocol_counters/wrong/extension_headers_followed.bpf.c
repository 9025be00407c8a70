// expect: nexthdr` of the IPv6 header alone
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "protocols.h"

/* Every CPU adds to its own copy, so a plain ++ loses nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* A hop-by-hop header begins with the number of what comes after it. */
static int behind_options(struct ipv6hdr *ip6, void *end)
{
	__u8 *next = (void *)(ip6 + 1);

	if (ip6->nexthdr == IPPROTO_HOPOPTS && (void *)(next + 1) <= end)
		return *next;
	return ip6->nexthdr;
}

static int protocol(struct packet packet)
{
	struct iphdr *ip = packet.header;
	struct ipv6hdr *ip6 = packet.header;

	if (packet.type == ETH_P_IP && (void *)(ip + 1) <= packet.end)
		return ip->protocol;
	if (packet.type == ETH_P_IPV6 && (void *)(ip6 + 1) <= packet.end)
		return behind_options(ip6, packet.end);
	return -1;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 index;
	__u64 *packets;

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
	packets = bpf_map_lookup_elem(&counters, &index);
	if (packets)
		(*packets)++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
