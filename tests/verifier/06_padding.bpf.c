// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* accepted */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 address;
	__u8 protocol; /* three bytes of padding follow */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct key);
	__type(value, __u64);
} seen SEC(".maps");

SEC("xdp")
int look(struct xdp_md *ctx)
{
	struct key key;

	key.address = 1;
	key.protocol = 6;
	return bpf_map_lookup_elem(&seen, &key) ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
