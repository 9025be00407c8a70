// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* The same entries in a map of either KIND, to time one lookup of a random entry. */
struct {
	__uint(type, KIND);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} entries SEC(".maps");

SEC("xdp")
int read_one(struct xdp_md *ctx)
{
	__u32 index = bpf_get_prandom_u32() % ENTRIES;
	__u64 *value = bpf_map_lookup_elem(&entries, &index);

	return value ? *value : XDP_ABORTED;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
