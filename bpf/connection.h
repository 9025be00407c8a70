/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What lab 02 gives you, in both dialects: everything but the map. */
#ifndef CONNECTION_H
#define CONNECTION_H

#ifdef BPF_HASH /* BCC: it has the rest already, and the kernel's names for byte order */
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>
#define bpf_htons htons
#define bpf_ntohs ntohs
#define bpf_ntohl ntohl
#else
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#endif

/* Which connection: its numbers in host byte order, so that port 80 is 80 in C and in Python. */
struct conn_key {
	__u32 src_ip;
	__u32 dst_ip;
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
};

/* What to remember of it. */
struct conn_stats {
	__u64 packets;
	__u64 bytes;	/* of whole frames, Ethernet header included */
	__u64 start_ns; /* bpf_ktime_get_ns() at the first packet */
};

/* Where the parts of a packet lie, in network byte order, as they came over the wire. */
struct packet {
	struct iphdr *ip;
	struct udphdr *ports; /* TCP has its ports in the same place */
	__u64 length;	      /* bytes of the whole frame */
};

/*
 * Find the parts of an IPv4 packet of TCP or UDP: 0. Or -1, when it is something else, has IP
 * options, or is a later fragment, which has no ports.
 */
static __always_inline int parse(struct xdp_md *ctx, struct packet *packet)
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
	packet->ip = ip;
	packet->ports = ports;
	packet->length = end - data;
	return 0;
}

#endif
