// solution: a table from protocol to index, in a second map; in Python, a table of bytes summed
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "protocols.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* One for each number that a byte can hold. The compiler keeps it in a read-only array map. */
static const __u8 index_of[256] = {
	[0 ... 255] = OTHER,   [IPPROTO_TCP] = TCP,	[IPPROTO_UDP] = UDP,
	[IPPROTO_ICMP] = ICMP, [IPPROTO_ICMPV6] = ICMP,
};

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct packet packet = unpack(ctx);
	__u32 index = OTHER;
	__u64 *packets;

	if (packet.type == ETH_P_IP) {
		struct iphdr *ip = packet.header;

		if ((void *)(ip + 1) <= packet.end)
			index = index_of[ip->protocol];
	} else if (packet.type == ETH_P_IPV6) {
		struct ipv6hdr *ip = packet.header;

		if ((void *)(ip + 1) <= packet.end)
			index = index_of[ip->nexthdr];
	}
	packets = bpf_map_lookup_elem(&counters, &index);
	if (packets)
		*packets += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
