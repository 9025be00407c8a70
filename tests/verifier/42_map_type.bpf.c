// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: map-type */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	__u32 key = 0;

	if (bpf_map_lookup_elem(&next, &key)) /* here */
		return XDP_DROP;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
