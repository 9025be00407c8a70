// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct room {
	char bytes[600];
};

/* Room to work in. One entry, and a copy for each CPU: a lookup elsewhere gives another one. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

SEC("xdp")
int big_value(struct xdp_md *ctx)
{
	__u32 first = 0;
	struct room *room = bpf_map_lookup_elem(&rooms, &first);

	if (!room)
		return XDP_ABORTED;
	bpf_probe_read_kernel(room->bytes, sizeof(room->bytes), NULL);
	return room->bytes[599] + XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
