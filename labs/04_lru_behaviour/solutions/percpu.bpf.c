// solution: an LRU hash whose entries count on every CPU, forgotten as a whole
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

/* No CPU writes where another does. The list that evicts is still one for all. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	__u64 one = 1, *packets;
	struct packet packet;
	__u32 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->source);
	packets = bpf_map_lookup_elem(&recent, &port);
	if (packets)
		(*packets)++;
	else
		bpf_map_update_elem(&recent, &port, &one, BPF_NOEXIST);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
