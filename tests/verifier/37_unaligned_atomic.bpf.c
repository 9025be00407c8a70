// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: misaligned */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct value {
	__u8 kind;
	__u64 count;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct value);
} seen SEC(".maps");

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct value *one = bpf_map_lookup_elem(&seen, &key);

	if (one)
		__sync_fetch_and_add(&one->count, 1); /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
