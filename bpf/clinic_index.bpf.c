// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* Sick: an index of an array comes from the packet's length. See chapter 15. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define SLOTS 8

struct histogram {
	__u64 packets[SLOTS];
};

/* One histogram. An array of one entry, since all packets share it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct histogram);
} lengths SEC(".maps");

SEC("xdp")
int measure(struct xdp_md *ctx)
{
	__u32 zero = 0, length = ctx->data_end - ctx->data;
	struct histogram *all = bpf_map_lookup_elem(&lengths, &zero);
	__u32 slot = length / 64;

	if (!all)
		return XDP_PASS;
	all->packets[slot] += 1;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
