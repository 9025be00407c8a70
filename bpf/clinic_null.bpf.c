// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: it follows a pointer that may be NULL. See chapter 15. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Packets by receive queue. A hash, so that queues without packets take no room. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 queue = ctx->rx_queue_index;
	__u64 *packets = bpf_map_lookup_elem(&seen, &queue);

	*packets += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
