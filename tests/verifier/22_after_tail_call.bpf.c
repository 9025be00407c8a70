// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* accepted */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

SEC("xdp")
int first(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &next, 0);
	return XDP_PASS; /* runs when there is no next program */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
