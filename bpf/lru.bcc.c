// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>

#ifndef FLOWS
#define FLOWS 10
#endif

/* Packets of a flow, by its source port. LRU, since flows end without saying so. */
BPF_TABLE("lru_hash", u32, u64, cache, FLOWS);

/* The same without eviction, to see what a plain hash does when it is full. */
BPF_HASH(plain, u32, u64, FLOWS);

/* An LRU for each CPU, which evicts from its own share: CPUs need not wait for one another. */
BPF_F_TABLE("lru_hash", u32, u64, split, FLOWS, BPF_F_NO_COMMON_LRU);

/* One LRU for all CPUs, and in each entry a counter for each CPU: no atomic addition. */
BPF_TABLE("lru_percpu_hash", u32, u64, per_cpu, FLOWS);

static int source_port(struct xdp_md *ctx, u32 *port)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return -1;
	if (ip->ihl != 5 || ip->frag_off & htons(0x1fff)) /* options, or a later fragment */
		return -1;
	if (ip->protocol != IPPROTO_UDP)
		return -1;
	*port = ntohs(udp->source);
	return 0;
}

int remember(struct xdp_md *ctx)
{
	u64 one = 1, *packets;
	u32 port;

	if (source_port(ctx, &port))
		return XDP_PASS;
	packets = cache.lookup(&port);
	if (!packets) {
		if (!cache.insert(&port, &one))
			return XDP_PASS;
		packets = cache.lookup(&port); /* another CPU's */
	}
	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

int remember_per_cpu(struct xdp_md *ctx)
{
	u64 one = 1, *packets;
	u32 port;

	if (source_port(ctx, &port))
		return XDP_PASS;
	packets = per_cpu.lookup(&port);
	if (packets)
		(*packets)++;
	else
		per_cpu.update(&port, &one); /* this CPU's slot alone */
	return XDP_PASS;
}
