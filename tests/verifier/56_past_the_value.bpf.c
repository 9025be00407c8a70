// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: value-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64[8]);
} sizes SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *all = bpf_map_lookup_elem(&sizes, &key);

	if (!all)
		return XDP_PASS;
	all[8]++; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
