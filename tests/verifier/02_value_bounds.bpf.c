// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: value-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct histogram {
	__u64 slots[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct histogram);
} sizes SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 0, slot = ctx->rx_queue_index;
	struct histogram *all = bpf_map_lookup_elem(&sizes, &key);

	if (!all)
		return XDP_PASS;
	all->slots[slot]++; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
