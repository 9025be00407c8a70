// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: null-check */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64[4]);
} rows SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = ctx->rx_queue_index;
	__u64 *row = bpf_map_lookup_elem(&rows, &key); /* cause */

	row[key & 3] += 1; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
