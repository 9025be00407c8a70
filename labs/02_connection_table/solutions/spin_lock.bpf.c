// solution: one hash map, and a lock in each entry that covers all its fields
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "connection.h"

/* The lock keeps packets and bytes in step: no reader that takes it sees one without the other. */
struct locked_stats {
	struct bpf_spin_lock lock;
	__u64 packets;
	__u64 bytes;
	__u64 start_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct conn_key);
	__type(value, struct locked_stats);
} connections SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct locked_stats *seen, none = {};
	struct packet packet;
	struct conn_key key;

	if (parse(ctx, &packet))
		return XDP_PASS;
	__builtin_memset(&key, 0, sizeof(key));
	key.src_ip = bpf_ntohl(packet.ip->saddr);
	key.dst_ip = bpf_ntohl(packet.ip->daddr);
	key.src_port = bpf_ntohs(packet.ports->source);
	key.dst_port = bpf_ntohs(packet.ports->dest);
	key.protocol = packet.ip->protocol;

	none.start_ns = bpf_ktime_get_ns(); /* no helper may be called under the lock */
	bpf_map_update_elem(&connections, &key, &none, BPF_NOEXIST);
	seen = bpf_map_lookup_elem(&connections, &key);
	if (!seen)
		return XDP_PASS;
	bpf_spin_lock(&seen->lock);
	seen->packets++;
	seen->bytes += packet.length;
	bpf_spin_unlock(&seen->lock);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
