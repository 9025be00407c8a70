// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef FLOWS
#define FLOWS 10
#endif

/* Packets of a flow, by its source port. LRU, since flows end without saying so. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, __u64);
} cache SEC(".maps");

/* The same without eviction, to see what a plain hash does when it is full. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, __u64);
} plain SEC(".maps");

/* An LRU for each CPU, which evicts from its own share: CPUs need not wait for one another. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWS);
	__uint(map_flags, BPF_F_NO_COMMON_LRU);
	__type(key, __u32);
	__type(value, __u64);
} split SEC(".maps");

/* One LRU for all CPUs, and in each entry a counter for each CPU: no atomic addition. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, FLOWS);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

static int source_port(struct xdp_md *ctx, __u32 *port)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return -1;
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff)) /* options, or a later fragment */
		return -1;
	if (ip->protocol != IPPROTO_UDP)
		return -1;
	*port = bpf_ntohs(udp->source);
	return 0;
}

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	__u64 one = 1, *packets;
	__u32 port;

	if (source_port(ctx, &port))
		return XDP_PASS;
	packets = bpf_map_lookup_elem(&cache, &port);
	if (!packets) {
		if (!bpf_map_update_elem(&cache, &port, &one, BPF_NOEXIST))
			return XDP_PASS;
		packets = bpf_map_lookup_elem(&cache, &port); /* another CPU's */
	}
	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

SEC("xdp")
int remember_per_cpu(struct xdp_md *ctx)
{
	__u64 one = 1, *packets;
	__u32 port;

	if (source_port(ctx, &port))
		return XDP_PASS;
	packets = bpf_map_lookup_elem(&per_cpu, &port);
	if (packets)
		(*packets)++;
	else
		bpf_map_update_elem(&per_cpu, &port, &one, BPF_ANY); /* this CPU's slot alone */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
