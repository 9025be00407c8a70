// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "three_doors.h"

/* One entry a destination port. A hash, since the entries of an array cannot be deleted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u16);
	__type(value, struct traffic);
} ports SEC(".maps");

/* Two counters of the same runs: [0] by a plain increment, [1] by an atomic one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} runs SEC(".maps");

SEC("xdp")
int count_ports(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct traffic *seen, fresh = {};
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	__u16 port;

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff)) /* options, or a later fragment */
		return XDP_PASS;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	port = bpf_ntohs(udp->dest); /* TCP has its port in the same place */
	seen = bpf_map_lookup_elem(&ports, &port);
	if (!seen) {
		bpf_map_update_elem(&ports, &port, &fresh, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&ports, &port); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, end - data);
	return XDP_PASS;
}

SEC("xdp")
int count_runs(struct xdp_md *ctx)
{
	__u32 plain = 0, atomic = 1;
	__u64 *count;

	count = bpf_map_lookup_elem(&runs, &plain);
	if (count)
		*count += 1;
	count = bpf_map_lookup_elem(&runs, &atomic);
	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
