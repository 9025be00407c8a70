// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef PROTOCOLS
#define PROTOCOLS 256
#endif

struct total {
	__u64 packets;
	__u64 bytes;
};

/* Any map can be pinned. A hash starts empty, so what it holds tells who was here before. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PROTOCOLS);
	__type(key, __u32);
	__type(value, struct total);
} totals SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct total *seen, fresh = {};
	__u32 protocol;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	protocol = ip->protocol;
	seen = bpf_map_lookup_elem(&totals, &protocol);
	if (!seen) {
		bpf_map_update_elem(&totals, &protocol, &fresh, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&totals, &protocol); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, end - data);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
