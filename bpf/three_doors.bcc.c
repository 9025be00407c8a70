// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>

struct traffic {
	u64 packets;
	u64 bytes;
};

/* One entry a destination port. A hash, since the entries of an array cannot be deleted. */
BPF_HASH(ports, u16, struct traffic, 16384);

/* Two counters of the same runs: [0] by increment(), [1] by atomic_increment(). */
BPF_ARRAY(runs, u64, 2);

int count_ports(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct traffic *seen, fresh = {};
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	u16 port;

	if ((void *)(udp + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->frag_off & htons(0x1fff)) /* options, or a later fragment */
		return XDP_PASS;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	port = ntohs(udp->dest); /* TCP has its port in the same place */
	seen = ports.lookup(&port);
	if (!seen) {
		ports.insert(&port, &fresh);
		seen = ports.lookup(&port); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, end - data);
	return XDP_PASS;
}

int count_runs(struct xdp_md *ctx)
{
	runs.increment(0);
	runs.atomic_increment(1);
	return XDP_PASS;
}
