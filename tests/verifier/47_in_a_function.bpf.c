// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: null-check */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

static __attribute__((noinline)) int add(struct xdp_md *ctx, __u64 by)
{
	__u32 key = ctx->rx_queue_index;
	__u64 *slot = bpf_map_lookup_elem(&seen, &key); /* cause */

	*slot += by; /* here */
	return 1;
}

static __attribute__((noinline)) int one(struct xdp_md *ctx)
{
	return ctx->rx_queue_index == 7;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	if (one(ctx))
		return XDP_DROP;
	return add(ctx, 1) ? XDP_PASS : XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
