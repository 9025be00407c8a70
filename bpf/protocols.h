/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What lab 01 gives you, in both dialects: the way to the IP header. */
#ifndef PROTOCOLS_H
#define PROTOCOLS_H

#ifdef BPF_HASH /* BCC: it has the rest already, and the kernel's names for byte order */
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#define bpf_ntohs ntohs
#else
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#endif

/* The indexes of the map, and how many there are. */
enum counter { TCP, UDP, ICMP, OTHER, COUNTERS };

/* What stands behind the Ethernet header, and behind a VLAN tag if there is one. */
struct packet {
	__u16 type;   /* ETH_P_IP, ETH_P_IPV6 or another: which header comes next */
	void *header; /* where it begins: whether all of it was received is for you to see */
	void *end;    /* the first byte behind the packet */
};

static __always_inline struct packet unpack(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct packet packet = { .header = eth + 1, .end = end };
	struct {
		__be16 number, type;
	} *tag = packet.header;

	if (packet.header > end)
		return packet;
	packet.type = bpf_ntohs(eth->h_proto);
	if (packet.type == ETH_P_8021Q && (void *)(tag + 1) <= end) {
		packet.type = bpf_ntohs(tag->type);
		packet.header = tag + 1;
	}
	return packet;
}

#endif
