// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: lost-pointer */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *volatile kept = bpf_map_lookup_elem(&seen, &key);

	((volatile char *)&kept)[0] = 0; /* cause */
	if (kept)
		*kept = 1; /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
