// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: argument-type */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	long key = ctx->rx_queue_index;

	if (bpf_map_lookup_elem(&seen, (void *)key)) /* here */
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
