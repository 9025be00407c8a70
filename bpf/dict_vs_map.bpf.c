// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef ENTRIES
#define ENTRIES 64
#endif

/* How many a shop has of each article. A hash of integers: the nearest to a dict[int, int]. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} stock SEC(".maps");

/* 5 bytes of fields in 8: number starts at a multiple of 4, so three bytes lie idle before it. */
struct seat {
	__u8 row;
	__u32 number;
};

struct ticket {
	__u32 guest;
	__u32 price;
};

/* Who sits where. A hash with structs on both sides: the bytes of a seat are its key, all 8. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8);
	__type(key, struct seat);
	__type(value, struct ticket);
} seats SEC(".maps");

/* Guests through each door. Per CPU, so that Python gets a list for a value. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u64);
} doors SEC(".maps");

/* Sells row 1, number 7, to two guests, and touches one more byte of the key in between. */
SEC("xdp")
int sell_twice(struct xdp_md *ctx)
{
	struct seat seat;
	struct ticket ticket;

	__builtin_memset(&seat, 0, sizeof(seat));
	seat.row = 1;
	seat.number = 7;
	ticket.guest = 1;
	ticket.price = 20;
	bpf_map_update_elem(&seats, &seat, &ticket, BPF_ANY);
	((__u8 *)&seat)[2] = 0xee;
	ticket.guest = 2;
	bpf_map_update_elem(&seats, &seat, &ticket, BPF_ANY);
	return XDP_PASS;
}

/* One more of article 0, in a single step that no other CPU can get into. */
SEC("xdp")
int restock(struct xdp_md *ctx)
{
	__u32 article = 0;
	__u64 *count = bpf_map_lookup_elem(&stock, &article);

	if (count)
		__sync_fetch_and_add(count, 1);
	return XDP_PASS;
}

/* Read one article, a random one. */
SEC("xdp")
int read_one(struct xdp_md *ctx)
{
	__u32 article = bpf_get_prandom_u32() % ENTRIES;

	return bpf_map_lookup_elem(&stock, &article) ? XDP_PASS : XDP_DROP;
}

/* Write one article, a random one. */
SEC("xdp")
int write_one(struct xdp_md *ctx)
{
	__u32 article = bpf_get_prandom_u32() % ENTRIES;
	__u64 count = 1;

	bpf_map_update_elem(&stock, &article, &count, BPF_ANY);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
