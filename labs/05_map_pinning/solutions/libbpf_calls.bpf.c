// solution: a hash that takes memory as it fills, and libbpf's own calls on file descriptors
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct total {
	__u64 packets;
	__u64 bytes;
};

/* Few of all ports will ever be asked for: each takes memory only when its first packet comes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct total);
} ports SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct total *seen, first = { .packets = 1 };
	struct packet packet;
	__u32 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->dest);
	first.bytes = packet.length;
	if (!bpf_map_update_elem(&ports, &port, &first, BPF_NOEXIST))
		return XDP_PASS; /* it was the port's first */
	seen = bpf_map_lookup_elem(&ports, &port);
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, packet.length);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
