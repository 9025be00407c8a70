// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>

#define PROTOCOLS 256 /* the protocol field of an IPv4 header is one byte */

struct rule {
	u16 blocked_port;
	u8 enabled;
};

/* The same two arrays. BCC's macro gives the key its type, an int: it has four bytes as well. */
BPF_ARRAY(packets, u64, PROTOCOLS);
BPF_ARRAY(settings, struct rule, 1);

static struct iphdr *ipv4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return NULL;
	return ip;
}

int count_protocols(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4(ctx);
	u64 *count;
	u32 index;

	if (!ip)
		return XDP_PASS;
	index = ip->protocol;
	count = packets.lookup(&index);
	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

int filter(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = ipv4(ctx);
	struct udphdr *udp = (void *)(ip + 1);
	u32 first = 0;
	struct rule *rule = settings.lookup(&first);

	if (!rule || !rule->enabled)
		return XDP_PASS;
	/* No firewall: IP options and later fragments slip past it. */
	if (!ip || ip->ihl != 5 || ip->protocol != IPPROTO_UDP || (void *)(udp + 1) > end)
		return XDP_PASS;
	return ntohs(udp->dest) == rule->blocked_port ? XDP_DROP : XDP_PASS;
}

/* Three steps that an array does not take. Each returns what the kernel said: NULL or an errno. */
int look_past_the_end(struct xdp_md *ctx)
{
	u32 index = PROTOCOLS;

	return packets.lookup(&index) == NULL;
}

int write_past_the_end(struct xdp_md *ctx)
{
	u32 index = PROTOCOLS;
	u64 one = 1;

	return -packets.update(&index, &one);
}

int delete_first(struct xdp_md *ctx)
{
	u32 index = 0;

	return -packets.delete(&index);
}
