// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>

#ifndef ADDS
#define ADDS 1 /* additions a run; with many of them, the cost of one can be told */
#endif

struct traffic {
	u64 packets;
	u64 bytes;
};

/* One slot for all CPUs: whoever reads it sees the total, and they get in each other's way. */
BPF_ARRAY(shared, u64, 1);

/* One slot a CPU, under the same index. Per-CPU, since no other CPU can come between ++. */
BPF_PERCPU_ARRAY(per_cpu, u64, 1);

/* The same pair as hashes, to see what finding the slot costs. */
BPF_HASH(shared_hash, u32, u64, 1);
BPF_PERCPU_HASH(per_cpu_hash, u32, u64, 1);

/* A hash, since few of the 256 protocols occur; per-CPU, since every packet writes here. */
BPF_PERCPU_HASH(by_protocol, u8, struct traffic, 256);

/* The longest packet that each CPU has seen: four bytes, and no sum makes sense of them. */
BPF_PERCPU_ARRAY(longest, u32, 1);

int add_plain(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		u32 key = 0;
		u64 *slot = shared.lookup(&key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

int add_atomic(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		u32 key = 0;
		u64 *slot = shared.lookup(&key);

		if (slot)
			__sync_fetch_and_add(slot, 1);
	}
	return XDP_PASS;
}

int add_per_cpu(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		u32 key = 0;
		u64 *slot = per_cpu.lookup(&key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

int add_hash_atomic(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		u32 key = 0;
		u64 *slot = shared_hash.lookup(&key);

		if (slot)
			__sync_fetch_and_add(slot, 1);
	}
	return XDP_PASS;
}

int add_hash_per_cpu(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		u32 key = 0;
		u64 *slot = per_cpu_hash.lookup(&key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

/* What a program sees of the per-CPU counter: its result is the number that it found. */
int mine(struct xdp_md *ctx)
{
	u32 key = 0;
	u64 *slot = per_cpu.lookup(&key);

	return slot ? *slot : 0;
}

int count_packets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct traffic first = { .packets = 1, .bytes = end - data }, *seen;
	u32 slot = 0, *most = longest.lookup(&slot);
	u8 protocol;

	if (most && *most < first.bytes)
		*most = first.bytes;
	if ((void *)(ip + 1) > end || eth->h_proto != htons(ETH_P_IP))
		return XDP_PASS;
	protocol = ip->protocol;
	seen = by_protocol.lookup(&protocol);
	if (seen) {
		seen->packets++;
		seen->bytes += first.bytes;
	} else {
		/* Sets this CPU's copy alone, so it can undo nothing that another CPU wrote. */
		by_protocol.update(&protocol, &first);
	}
	return XDP_PASS;
}
