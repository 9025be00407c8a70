// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: null-argument */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} names SEC(".maps");

SEC("xdp")
int copy(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *name = bpf_map_lookup_elem(&names, &key); /* cause */

	bpf_map_update_elem(&names, &key, name, BPF_ANY); /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
