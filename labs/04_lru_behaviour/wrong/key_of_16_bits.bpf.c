// expect: The key of `recent` is of type __u16
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10);
	__type(key, __u16);
	__type(value, __u64);
} recent SEC(".maps");

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	__u64 one = 1, *packets;
	struct packet packet;
	__u16 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->source);
	packets = bpf_map_lookup_elem(&recent, &port); /* sets the entry's bit, if it is there */
	if (packets)
		__sync_fetch_and_add(packets, 1); /* where it lies: an update could cost others */
	else
		bpf_map_update_elem(&recent, &port, &one, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
