// expect: `packets` is right, and `bytes` is
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct total {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, struct total);
} ports SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct total *seen, none = {};
	struct packet packet;
	__u16 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->dest);
	seen = bpf_map_lookup_elem(&ports, &port);
	if (!seen) {
		bpf_map_update_elem(&ports, &port, &none, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&ports, &port);
		if (!seen)
			return XDP_PASS; /* the map is full */
	}
	__sync_fetch_and_add(&seen->packets, 1);
	seen->bytes += packet.length;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
