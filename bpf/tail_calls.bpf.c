// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Who counted the packet. Field by field, so that a frame names its columns after them. */
struct counts {
	__u64 tcp;
	__u64 udp;
	__u64 udp_new;
	__u64 icmp;
	__u64 fell_through;
};

/* One entry is all there is to count, and every CPU adds to it: an array, and atomic adds. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counts SEC(".maps");

/* A slot for each of the 256 IP protocols. Only a program array can be jumped through. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} protocols SEC(".maps");

/* The first program that sees a packet: it knows protocols by number, and no program by name. */
SEC("xdp")
int dispatch(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct counts *to;
	__u32 zero = 0;

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	bpf_tail_call(ctx, &protocols, ip->protocol);
	/* Only a call that was not made comes back to this line. */
	to = bpf_map_lookup_elem(&counts, &zero);
	if (to)
		__sync_fetch_and_add(&to->fell_through, 1);
	return XDP_PASS;
}

/* A whole program of its own: it gets the packet, and nothing else that dispatch() knew. */
SEC("xdp")
int count_tcp(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct counts *to = bpf_map_lookup_elem(&counts, &zero);

	if (to)
		__sync_fetch_and_add(&to->tcp, 1);
	return XDP_PASS;
}

SEC("xdp")
int count_udp(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct counts *to = bpf_map_lookup_elem(&counts, &zero);

	if (to)
		__sync_fetch_and_add(&to->udp, 1);
	return XDP_PASS;
}

SEC("xdp")
int count_udp_new(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct counts *to = bpf_map_lookup_elem(&counts, &zero);

	if (to)
		__sync_fetch_and_add(&to->udp_new, 1);
	return XDP_PASS;
}

/* Its answer is the packet's fate, though dispatch() ends in XDP_PASS. */
SEC("xdp")
int count_icmp(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct counts *to = bpf_map_lookup_elem(&counts, &zero);

	if (to)
		__sync_fetch_and_add(&to->icmp, 1);
	return XDP_DROP;
}

/* Programs of this type get another context, so that no XDP program may jump to them. */
SEC("tc")
int other_type(struct __sk_buff *skb)
{
	return 0;
}

struct steps {
	__u64 entered;
	__u64 fell_through;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steps);
} steps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} loop SEC(".maps");

/* Jumps to whatever is in the slot. Put the program itself there, and it never ends, or does it? */
SEC("xdp")
int again(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct steps *to = bpf_map_lookup_elem(&steps, &zero);

	if (!to)
		return XDP_PASS;
	__sync_fetch_and_add(&to->entered, 1);
	bpf_tail_call(ctx, &loop, 0);
	__sync_fetch_and_add(&to->fell_through, 1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
