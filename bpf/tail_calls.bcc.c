// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>

/* Who counted the packet. Field by field, so that a frame names its columns after them. */
struct counts {
	u64 tcp;
	u64 udp;
	u64 udp_new;
	u64 icmp;
	u64 fell_through;
};

BPF_ARRAY(counts, struct counts, 1);

/* A slot for each of the 256 IP protocols. Only a program array can be jumped through. */
BPF_PROG_ARRAY(protocols, 256);

/* The first program that sees a packet: it knows protocols by number, and no program by name. */
int dispatch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct counts *to;
	int zero = 0;

	if ((void *)(ip + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return XDP_PASS;
	protocols.call(ctx, ip->protocol);
	/* Only a call that was not made comes back to this line. */
	to = counts.lookup(&zero);
	if (to)
		__sync_fetch_and_add(&to->fell_through, 1);
	return XDP_PASS;
}

/* A whole program of its own: it gets the packet, and nothing else that dispatch() knew. */
int count_tcp(struct xdp_md *ctx)
{
	int zero = 0;
	struct counts *to = counts.lookup(&zero);

	if (to)
		__sync_fetch_and_add(&to->tcp, 1);
	return XDP_PASS;
}

int count_udp(struct xdp_md *ctx)
{
	int zero = 0;
	struct counts *to = counts.lookup(&zero);

	if (to)
		__sync_fetch_and_add(&to->udp, 1);
	return XDP_PASS;
}

int count_udp_new(struct xdp_md *ctx)
{
	int zero = 0;
	struct counts *to = counts.lookup(&zero);

	if (to)
		__sync_fetch_and_add(&to->udp_new, 1);
	return XDP_PASS;
}

/* Its answer is the packet's fate, though dispatch() ends in XDP_PASS. */
int count_icmp(struct xdp_md *ctx)
{
	int zero = 0;
	struct counts *to = counts.lookup(&zero);

	if (to)
		__sync_fetch_and_add(&to->icmp, 1);
	return XDP_DROP;
}

/* Programs of this type get another context, so that no XDP program may jump to them. */
int other_type(struct __sk_buff *skb)
{
	return 0;
}

struct steps {
	u64 entered;
	u64 fell_through;
};

BPF_ARRAY(steps, struct steps, 1);
BPF_PROG_ARRAY(loop, 1);

/* Jumps to whatever is in the slot. Put the program itself there, and it never ends, or does it? */
int again(struct xdp_md *ctx)
{
	int zero = 0;
	struct steps *to = steps.lookup(&zero);

	if (!to)
		return XDP_PASS;
	__sync_fetch_and_add(&to->entered, 1);
	loop.call(ctx, 0);
	__sync_fetch_and_add(&to->fell_through, 1);
	return XDP_PASS;
}
