// expect: has no map `counters`
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "protocols.h"

/* Every CPU adds to its own copy, so a plain ++ loses nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} packet_count SEC(".maps");

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
	packets = bpf_map_lookup_elem(&packet_count, &index);
	if (packets)
		(*packets)++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
