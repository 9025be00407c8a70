// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define PROTOCOLS 256 /* the protocol field of an IPv4 header is one byte */

/* One counter a protocol number. An array, because every number from 0 to 255 has its place. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROTOCOLS);
	__type(key, __u32);
	__type(value, __u64);
} packets SEC(".maps");

struct rule {
	__u16 blocked_port;
	__u8 enabled;
};

/* What user space wants. An array of one entry: it is there before anybody writes it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rule);
} settings SEC(".maps");

static struct iphdr *ipv4(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return NULL;
	return ip;
}

SEC("xdp")
int count_protocols(struct xdp_md *ctx)
{
	struct iphdr *ip = ipv4(ctx);
	__u64 *count;
	__u32 index;

	if (!ip)
		return XDP_PASS;
	index = ip->protocol;
	count = bpf_map_lookup_elem(&packets, &index);
	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

SEC("xdp")
int filter(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = ipv4(ctx);
	struct udphdr *udp = (void *)(ip + 1);
	__u32 first = 0;
	struct rule *rule = bpf_map_lookup_elem(&settings, &first);

	if (!rule || !rule->enabled)
		return XDP_PASS;
	/* No firewall: IP options and later fragments slip past it. */
	if (!ip || ip->ihl != 5 || ip->protocol != IPPROTO_UDP || (void *)(udp + 1) > end)
		return XDP_PASS;
	return bpf_ntohs(udp->dest) == rule->blocked_port ? XDP_DROP : XDP_PASS;
}

/* Three steps that an array does not take. Each returns what the kernel said: NULL or an errno. */
SEC("xdp")
int look_past_the_end(struct xdp_md *ctx)
{
	__u32 index = PROTOCOLS;

	return bpf_map_lookup_elem(&packets, &index) == NULL;
}

SEC("xdp")
int write_past_the_end(struct xdp_md *ctx)
{
	__u32 index = PROTOCOLS;
	__u64 one = 1;

	return -bpf_map_update_elem(&packets, &index, &one, BPF_ANY);
}

SEC("xdp")
int delete_first(struct xdp_md *ctx)
{
	__u32 index = 0;

	return -bpf_map_delete_elem(&packets, &index);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
