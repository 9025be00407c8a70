// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef CONNECTIONS
#define CONNECTIONS 1024
#endif

/* A connection, by its 5-tuple. 13 bytes of fields in 16: the compiler adds three of padding. */
struct conn_key {
	__u32 src_ip;
	__u32 dst_ip;
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
};

struct conn_stats {
	__u64 packets;
	__u64 bytes;
	__u64 start_ns;
};

/* One entry a connection. A hash, because the keys are few of very many possible ones. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CONNECTIONS);
	__type(key, struct conn_key);
	__type(value, struct conn_stats);
} connections SEC(".maps");

/* Numbers in host byte order, so that 10.0.0.1 and port 80 are the same to C and to Python. */
static int parse(struct xdp_md *ctx, struct conn_key *key)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *ports = (void *)(ip + 1);

	if ((void *)(ports + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return -1;
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff)) /* options, or a later fragment */
		return -1;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return -1;
	key->src_ip = bpf_ntohl(ip->saddr);
	key->dst_ip = bpf_ntohl(ip->daddr);
	key->src_port = bpf_ntohs(ports->source); /* TCP has its ports in the same place */
	key->dst_port = bpf_ntohs(ports->dest);
	key->protocol = ip->protocol;
	return 0;
}

SEC("xdp")
int count_packets(struct xdp_md *ctx)
{
	struct conn_key key = {};
	struct conn_stats *seen, fresh = {};

	if (parse(ctx, &key))
		return XDP_PASS;
	seen = bpf_map_lookup_elem(&connections, &key);
	if (!seen) {
		fresh.start_ns = bpf_ktime_get_ns();
		bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&connections, &key); /* or another CPU's */
	}
	if (!seen)
		return XDP_PASS;
	__sync_fetch_and_add(&seen->packets, 1);
	__sync_fetch_and_add(&seen->bytes, ctx->data_end - ctx->data);
	return XDP_PASS;
}

/* The end of the connection, as far as the map goes. */
SEC("xdp")
int forget(struct xdp_md *ctx)
{
	struct conn_key key = {};

	if (!parse(ctx, &key))
		bpf_map_delete_elem(&connections, &key);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
