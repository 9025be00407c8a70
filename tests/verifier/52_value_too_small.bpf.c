// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: size-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct name {
	char bytes[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name);
} names SEC(".maps");

SEC("xdp")
int copy(struct xdp_md *ctx)
{
	__u32 key = 0;
	struct name *name = bpf_map_lookup_elem(&names, &key);

	if (name)
		bpf_probe_read_kernel(name->bytes, 64, ctx); /* here */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
