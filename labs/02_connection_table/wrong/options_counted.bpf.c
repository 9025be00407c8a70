// expect: A packet with IP options was sent, and `connections` changed
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct conn_key);
	__type(value, struct conn_stats);
} connections SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct conn_stats *seen, none = {};
	struct conn_key key = {};
	struct packet packet;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;

	packet.ip = (void *)(eth + 1);
	packet.length = end - data;
	if ((void *)(packet.ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	packet.ports = (void *)packet.ip + packet.ip->ihl * 4;
	if ((void *)(packet.ports + 1) > end || packet.ip->frag_off & bpf_htons(0x1fff))
		return XDP_PASS;
	if (packet.ip->protocol != IPPROTO_TCP && packet.ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	key.src_ip = bpf_ntohl(packet.ip->saddr);
	key.dst_ip = bpf_ntohl(packet.ip->daddr);
	key.src_port = bpf_ntohs(packet.ports->source);
	key.dst_port = bpf_ntohs(packet.ports->dest);
	key.protocol = packet.ip->protocol;

	seen = bpf_map_lookup_elem(&connections, &key);
	if (!seen) {
		none.start_ns = bpf_ktime_get_ns();
		bpf_map_update_elem(&connections, &key, &none, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&connections, &key);
		if (!seen)
			return XDP_PASS;
	}
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, packet.length);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
