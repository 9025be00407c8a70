// expect: or is the entry that it has afterwards a new one
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
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
	if (packets) {
		one += *packets;
		bpf_map_delete_elem(&recent, &port);
	}
	bpf_map_update_elem(&recent, &port, &one, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
