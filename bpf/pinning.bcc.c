// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>

struct total {
	u64 packets;
	u64 bytes;
};

/* Any map can be pinned. A hash starts empty, so what it holds tells who was here before. */
#ifndef PIN
BPF_HASH(totals, u32, struct total, 256);
#else
/* The same with a pin: what is pinned there is used again, or a new map is pinned there. */
BPF_TABLE_PINNED("hash", u32, struct total, totals, 256, PIN);
#endif

int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct total *seen, fresh = {};
	u32 protocol;

	if ((void *)(ip + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return XDP_PASS;
	protocol = ip->protocol;
	seen = totals.lookup(&protocol);
	if (!seen) {
		totals.insert(&protocol, &fresh);
		seen = totals.lookup(&protocol); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, end - data);
	return XDP_PASS;
}
