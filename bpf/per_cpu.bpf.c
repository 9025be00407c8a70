// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef ADDS
#define ADDS 1 /* additions a run; with many of them, the cost of one can be told */
#endif

/* One slot for all CPUs: whoever reads it sees the total, and they get in each other's way. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} shared SEC(".maps");

/* One slot a CPU, under the same index. Per-CPU, since no other CPU can come between ++. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu SEC(".maps");

/* The same pair as hashes, to see what finding the slot costs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} shared_hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} per_cpu_hash SEC(".maps");

struct traffic {
	__u64 packets;
	__u64 bytes;
};

/* A hash, since few of the 256 protocols occur; per-CPU, since every packet writes here. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 256);
	__type(key, __u8);
	__type(value, struct traffic);
} by_protocol SEC(".maps");

/* The longest packet that each CPU has seen: four bytes, and no sum makes sense of them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} longest SEC(".maps");

SEC("xdp")
int add_plain(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		__u32 key = 0;
		__u64 *slot = bpf_map_lookup_elem(&shared, &key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

SEC("xdp")
int add_atomic(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		__u32 key = 0;
		__u64 *slot = bpf_map_lookup_elem(&shared, &key);

		if (slot)
			__sync_fetch_and_add(slot, 1);
	}
	return XDP_PASS;
}

SEC("xdp")
int add_per_cpu(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		__u32 key = 0;
		__u64 *slot = bpf_map_lookup_elem(&per_cpu, &key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

SEC("xdp")
int add_hash_atomic(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		__u32 key = 0;
		__u64 *slot = bpf_map_lookup_elem(&shared_hash, &key);

		if (slot)
			__sync_fetch_and_add(slot, 1);
	}
	return XDP_PASS;
}

SEC("xdp")
int add_hash_per_cpu(struct xdp_md *ctx)
{
	for (int i = 0; i < ADDS; i++) {
		__u32 key = 0;
		__u64 *slot = bpf_map_lookup_elem(&per_cpu_hash, &key);

		if (slot)
			(*slot)++;
	}
	return XDP_PASS;
}

/* What a program sees of the per-CPU counter: its result is the number that it found. */
SEC("xdp")
int mine(struct xdp_md *ctx)
{
	__u32 key = 0;
	__u64 *slot = bpf_map_lookup_elem(&per_cpu, &key);

	return slot ? *slot : 0;
}

SEC("xdp")
int count_packets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct traffic first = { .packets = 1, .bytes = end - data }, *seen;
	__u32 slot = 0, *most = bpf_map_lookup_elem(&longest, &slot);
	__u8 protocol;

	if (most && *most < first.bytes)
		*most = first.bytes;
	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	protocol = ip->protocol;
	seen = bpf_map_lookup_elem(&by_protocol, &protocol);
	if (seen) {
		seen->packets++;
		seen->bytes += first.bytes;
	} else {
		/* Sets this CPU's copy alone, so it can undo nothing that another CPU wrote. */
		bpf_map_update_elem(&by_protocol, &protocol, &first, BPF_ANY);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
