// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/tcp.h>

/* One slot for all CPUs, and one for each: the two places that a counter may have. */
BPF_ARRAY(plain, u64, 1);
BPF_ARRAY(atomic, u64, 1);
BPF_PERCPU_ARRAY(per_cpu, u64, 1);

struct config {
	u32 target_port;
	u8 enabled;
};

/* An array of one: it is there from the start, all zero, so the filter starts switched off. */
BPF_ARRAY(config, struct config, 1);

/* Packets by verdict, XDP_DROP or XDP_PASS. Per CPU, as each CPU judges its own packets. */
BPF_PERCPU_ARRAY(verdicts, u64, XDP_PASS + 1);

int count_plain(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 *packets = plain.lookup(&zero);

	if (packets)
		++*packets;
	return XDP_PASS;
}

/* BCC's own increment() adds without a lock, so here too it is the compiler's. */
int count_atomic(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 *packets = atomic.lookup(&zero);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}

int count_per_cpu(struct xdp_md *ctx)
{
	u32 zero = 0;
	u64 *packets = per_cpu.lookup(&zero);

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

	if ((void *)(tcp + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return -1;
	if (ip->protocol != IPPROTO_TCP || ip->ihl != 5 || ip->frag_off & htons(0x1fff))
		return -1;
	return ntohs(tcp->dest);
}

int filter(struct xdp_md *ctx)
{
	u32 zero = 0, verdict = XDP_PASS;
	struct config *now = config.lookup(&zero);
	u64 *packets;
	int port = tcp_port(ctx);

	if (now && now->enabled && port >= 0 && port == now->target_port)
		verdict = XDP_DROP;
	packets = verdicts.lookup(&verdict);
	if (packets)
		++*packets;
	return verdict;
}
