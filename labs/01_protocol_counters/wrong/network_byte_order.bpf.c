// expect: They counted as other, not as TCP
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct tag {
	__be16 number;
	__be16 type;
};

static __u32 index_of(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return 0;
	if (protocol == IPPROTO_UDP)
		return 1;
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? 2 : 3;
}

/* A packet that ends too early is as good as one of another protocol. */
static __u32 classify(void *at, void *end)
{
	struct ethhdr *eth = at;
	struct tag *tag;
	struct iphdr *ip;
	struct ipv6hdr *ip6;
	__be16 type;

	at = eth + 1;
	if (at > end)
		return 3;
	type = eth->h_proto;
	if (type == bpf_htons(ETH_P_8021Q)) {
		tag = at;
		at = tag + 1;
		if (at > end)
			return 3;
		type = tag->type;
	}
	if (type == ETH_P_IP) {
		ip = at;
		return (void *)(ip + 1) > end ? 3 : index_of(ip->protocol);
	}
	if (type == ETH_P_IPV6) {
		ip6 = at;
		return (void *)(ip6 + 1) > end ? 3 : index_of(ip6->nexthdr);
	}
	return 3;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 index = classify((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	__u64 *packets = bpf_map_lookup_elem(&counters, &index);

	if (packets)
		*packets = *packets + 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
