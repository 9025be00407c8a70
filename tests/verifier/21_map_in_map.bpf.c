// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: inner-map-null */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct inner {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__type(key, __u32);
	__array(values, struct inner);
} tables SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	void *table = bpf_map_lookup_elem(&tables, &key); /* cause */

	if (bpf_map_lookup_elem(table, &key)) /* here */
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
