// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#ifndef ENTRIES
#define ENTRIES 4
#endif

struct stats {
	__u32 packets;
	__u32 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct stats);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct stats);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct stats);
} lru SEC(".maps");

/* Has no keys: values come out in the order in which they went in. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, ENTRIES);
	__type(value, struct stats);
} queue SEC(".maps");

/*
 * A packet of ours is a call, in numbers wider than the maps keep: C cuts them when it assigns
 * them. The answer goes back in the same packet.
 */
struct call {
	__u64 key;
	__u64 packets;
	__u64 bytes;
	__u64 flags;
	__s64 result;
};

static struct call *the_call(struct xdp_md *ctx)
{
	struct call *call = (void *)(long)ctx->data;

	return (void *)(call + 1) > (void *)(long)ctx->data_end ? 0 : call;
}

static int answer(struct call *call, const struct stats *value, long result)
{
	if (value) {
		call->packets = value->packets;
		call->bytes = value->bytes;
	}
	call->result = result;
	return XDP_PASS;
}

static int do_lookup(struct xdp_md *ctx, void *map)
{
	struct call *call = the_call(ctx);
	struct stats *value;
	__u32 key;

	if (!call)
		return XDP_ABORTED;
	key = call->key;
	value = bpf_map_lookup_elem(map, &key);
	/* What is NULL here is ENOENT to who asks through the system call. */
	return answer(call, value, value ? 0 : -ENOENT);
}

static int do_update(struct xdp_md *ctx, void *map)
{
	struct call *call = the_call(ctx);
	struct stats value;
	__u32 key;

	if (!call)
		return XDP_ABORTED;
	key = call->key;
	value.packets = call->packets;
	value.bytes = call->bytes;
	return answer(call, 0, bpf_map_update_elem(map, &key, &value, call->flags));
}

static int do_delete(struct xdp_md *ctx, void *map)
{
	struct call *call = the_call(ctx);
	__u32 key;

	if (!call)
		return XDP_ABORTED;
	key = call->key;
	return answer(call, 0, bpf_map_delete_elem(map, &key));
}

/* A program for each call: to the verifier, a map is a constant. */
#define CALL(map, what)                      \
	SEC("xdp")                           \
	int map##_##what(struct xdp_md *ctx) \
	{                                    \
		return do_##what(ctx, &map); \
	}

CALL(hash, lookup)
CALL(hash, update)
CALL(hash, delete)
CALL(array, lookup)
CALL(array, update)
CALL(array, delete)
CALL(lru, lookup)
CALL(lru, update)
CALL(lru, delete)

SEC("xdp")
int queue_push(struct xdp_md *ctx)
{
	struct call *call = the_call(ctx);
	struct stats value;

	if (!call)
		return XDP_ABORTED;
	value.packets = call->packets;
	value.bytes = call->bytes;
	return answer(call, 0, bpf_map_push_elem(&queue, &value, call->flags));
}

SEC("xdp")
int queue_pop(struct xdp_md *ctx)
{
	struct call *call = the_call(ctx);
	struct stats value = {};
	long result;

	if (!call)
		return XDP_ABORTED;
	result = bpf_map_pop_elem(&queue, &value);
	return answer(call, &value, result);
}

SEC("xdp")
int queue_peek(struct xdp_md *ctx)
{
	struct call *call = the_call(ctx);
	struct stats value = {};
	long result;

	if (!call)
		return XDP_ABORTED;
	result = bpf_map_peek_elem(&queue, &value);
	return answer(call, &value, result);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
