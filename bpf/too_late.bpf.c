// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* A cache of ten. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} cache SEC(".maps");

/*
 * Look flow 1 up, and count its packet only when 40 other flows have come. With real packets it is
 * another CPU that lets them in.
 */
SEC("xdp")
int count_too_late(struct xdp_md *ctx)
{
	__u32 flow = 1;
	__u64 none = 0, *packets = bpf_map_lookup_elem(&cache, &flow);
	int i;

	if (!packets)
		return XDP_ABORTED;
	for (i = 2; i < 42; i++) {
		flow = i;
		bpf_map_update_elem(&cache, &flow, &none, BPF_ANY);
		bpf_map_lookup_elem(&cache, &flow); /* it is in use */
	}
	__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
