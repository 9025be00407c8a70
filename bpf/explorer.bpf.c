#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* What the program is to do, and what came of it: the packet of a test run. */
struct request {
	__u32 op;
	__u32 map;
	__u32 key;
	__u32 flags;
	__u64 value;
	__s64 result;
};

enum { LOOKUP, UPDATE, DELETE };

/* Room for four: small enough to be filled by hand, and then to refuse. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");

/* The same room, and all of it is there from the beginning. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

struct request *unused __attribute__((unused));

static __always_inline void serve(struct request *ask, void *map)
{
	__u32 key = ask->key;
	__u64 value = ask->value, *found;

	if (ask->op == LOOKUP) {
		found = bpf_map_lookup_elem(map, &key);
		ask->result = found ? 0 : -1;
		ask->value = found ? *found : 0;
	} else if (ask->op == UPDATE) {
		ask->result = bpf_map_update_elem(map, &key, &value, ask->flags);
	} else {
		ask->result = bpf_map_delete_elem(map, &key);
	}
}

SEC("xdp")
int step(struct xdp_md *ctx)
{
	struct request *ask = (void *)(long)ctx->data;

	if ((void *)(ask + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	if (ask->map)
		serve(ask, &array);
	else
		serve(ask, &hash);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
