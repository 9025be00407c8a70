// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* One slot for all CPUs, and one for each: the two places that a counter may have. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} plain SEC(".maps"), atomic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

struct config {
	__u32 target_port;
	__u8 enabled;
};

/* An array of one: it is there from the start, all zero, so the filter starts switched off. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

/* Packets by verdict, XDP_DROP or XDP_PASS. Per CPU, as each CPU judges its own packets. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, XDP_PASS + 1);
	__type(key, __u32);
	__type(value, __u64);
} verdicts SEC(".maps");

SEC("xdp")
int count_plain(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&plain, &zero);

	if (packets)
		++*packets;
	return XDP_PASS;
}

SEC("xdp")
int count_atomic(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&atomic, &zero);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

SEC("xdp")
int count_per_cpu(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *packets = bpf_map_lookup_elem(&per_cpu, &zero);

	if (packets)
		++*packets;
	return XDP_PASS;
}

/* The port that a TCP packet goes to. Or -1, also for later fragments, and with IP options. */
static int tcp_port(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return -1;
	if (ip->protocol != IPPROTO_TCP || ip->ihl != 5 || ip->frag_off & bpf_htons(0x1fff))
		return -1;
	return bpf_ntohs(tcp->dest);
}

SEC("xdp")
int filter(struct xdp_md *ctx)
{
	__u32 zero = 0, verdict = XDP_PASS;
	struct config *now = bpf_map_lookup_elem(&config, &zero);
	__u64 *packets;
	int port = tcp_port(ctx);

	if (now && now->enabled && port >= 0 && port == now->target_port)
		verdict = XDP_DROP;
	packets = bpf_map_lookup_elem(&verdicts, &verdict);
	if (packets)
		++*packets;
	return verdict;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
