// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Two fields that belong together, and room between them: to copy all of it takes a moment. */
struct pair {
	__u64 first;
	char between[30000];
	__u64 second;
};

struct locked_pair {
	struct bpf_spin_lock lock;
	struct pair pair;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pair);
} plain SEC(".maps");

/* The same with a lock inside the value. Who writes with BPF_F_LOCK holds it while copying. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct locked_pair);
} locked SEC(".maps");

/* How often a program saw two fields that do not belong together: in plain, and in locked. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} torn SEC(".maps");

static void note(__u32 slot)
{
	__u64 *times = bpf_map_lookup_elem(&torn, &slot);

	if (times)
		__sync_fetch_and_add(times, 1);
}

SEC("xdp")
int read_plain(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct pair *now = bpf_map_lookup_elem(&plain, &zero);

	if (now && now->first != now->second)
		note(0);
	return XDP_PASS;
}

SEC("xdp")
int read_locked(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct locked_pair *now = bpf_map_lookup_elem(&locked, &zero);
	int differ;

	if (!now)
		return XDP_PASS;
	bpf_spin_lock(&now->lock);
	differ = now->pair.first != now->pair.second;
	bpf_spin_unlock(&now->lock);
	if (differ)
		note(1);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
