// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>

#ifndef CONNECTIONS
#define CONNECTIONS 1024
#endif

/* A connection, by its 5-tuple. 13 bytes of fields in 16: the compiler adds three of padding. */
struct conn_key {
	u32 src_ip;
	u32 dst_ip;
	u16 src_port;
	u16 dst_port;
	u8 protocol;
};

struct conn_stats {
	u64 packets;
	u64 bytes;
	u64 start_ns;
};

/* The same map in one line: BCC's macro writes the struct and the section for you. */
BPF_HASH(connections, struct conn_key, struct conn_stats, CONNECTIONS);

static int parse(struct xdp_md *ctx, struct conn_key *key)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return -1;
	if (ip->ihl != 5 || ip->frag_off & htons(0x1fff)) /* options, or a later fragment */
		return -1;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return -1;
	key->src_ip = ntohl(ip->saddr);
	key->dst_ip = ntohl(ip->daddr);
	key->src_port = ntohs(ports->source);
	key->dst_port = ntohs(ports->dest);
	key->protocol = ip->protocol;
	return 0;
}

/* BCC has no SEC(): that this is an XDP program follows from its context, struct xdp_md. */
int count_packets(struct xdp_md *ctx)
{
	struct conn_key key = {};
	struct conn_stats *seen, fresh = {};

	if (parse(ctx, &key))
		return XDP_PASS;
	seen = connections.lookup(&key);
	if (!seen) {
		fresh.start_ns = bpf_ktime_get_ns();
		connections.insert(&key, &fresh);
		seen = connections.lookup(&key); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, ctx->data_end - ctx->data);
	return XDP_PASS;
}

/* The end of the connection, as far as the map goes. */
int forget(struct xdp_md *ctx)
{
	struct conn_key key = {};

	if (!parse(ctx, &key))
		connections.delete(&key);
	return XDP_PASS;
}
