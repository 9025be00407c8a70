// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* One thing at a time that some kernels take and some refuse: -D says which. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct key {
	__u32 address;
	__u8 protocol; /* three bytes of padding follow */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct key);
	__type(value, __u64);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

#ifdef PADDING
SEC("socket")
int padding(void *ctx)
{
	struct key key;

	key.address = 1;
	key.protocol = 6;
	return !!bpf_map_lookup_elem(&seen, &key);
}
#endif

#ifdef CONSTANT_INDEX
SEC("socket")
int constant_index(void *ctx)
{
	__u32 index = 0;
	__u64 *slot = bpf_map_lookup_elem(&slots, &index);

	return *slot;
}
#endif

#ifdef UNCHECKED
SEC("socket")
int unchecked(void *ctx)
{
	struct key key = {};
	__u64 *count = bpf_map_lookup_elem(&seen, &key);

	return *count;
}
#endif

#ifdef FETCH_AND_ADD
__u64 next;

SEC("socket")
int fetch_and_add(void *ctx)
{
	return __sync_fetch_and_add(&next, 1);
}
#endif

#ifdef TIMER
struct later {
	struct bpf_timer timer;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct later);
} timers SEC(".maps");

SEC("tc")
int timer(void *ctx)
{
	__u32 first = 0;
	struct later *later = bpf_map_lookup_elem(&timers, &first);

	return later ? bpf_timer_init(&later->timer, &timers, 1) : 0;
}
#endif

#ifdef LOOP
static int add(__u32 round, __u64 *sum)
{
	*sum += round;
	return 0;
}

SEC("socket")
int loop(void *ctx)
{
	__u64 sum = 0;

	bpf_loop(1000, add, &sum, 0);
	return sum;
}
#endif

char LICENSE[] SEC("license") = "Dual MIT/GPL";
