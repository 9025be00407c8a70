// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* How often remember() ran. One number is all there is to keep: an array of one entry. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} runs SEC(".maps");

/* A local variable lives in a register or on the stack, and both are gone with the call. */
SEC("xdp")
int forget(struct xdp_md *ctx)
{
	int count = 0;

	count++;
	return count;
}

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	__u32 first = 0;
	__u64 *count = bpf_map_lookup_elem(&runs, &first);

	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return *count;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
