// solution: a copy of each count for every CPU, which the reader of the pin adds up
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

struct total {
	__u64 packets;
	__u64 bytes;
};

/* No CPU writes where another does, so plain additions are enough. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u16);
	__type(value, struct total);
} ports SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct total *seen, first = { .packets = 1 };
	struct packet packet;
	__u16 port;

	if (parse(ctx, &packet))
		return XDP_PASS;
	port = bpf_ntohs(packet.ports->dest);
	first.bytes = packet.length;
	seen = bpf_map_lookup_elem(&ports, &port);
	if (seen) {
		seen->packets++;
		seen->bytes += packet.length;
	} else {
		/* This CPU's copy alone, even if another CPU has inserted the port meanwhile. */
		bpf_map_update_elem(&ports, &port, &first, BPF_ANY);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
