// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct conn_key {
	__u32 src_ip;
	__u32 dst_ip;
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, struct conn_key);
	__type(value, __u64);
} seen SEC(".maps");

static void count(struct conn_key *key)
{
	__u64 one = 1, *packets;

	key->src_ip = 0x0a000001;
	key->dst_ip = 0x0a000002;
	key->src_port = 4000;
	key->dst_port = 80;
	key->protocol = 6;
	packets = bpf_map_lookup_elem(&seen, key);
	if (packets)
		__sync_fetch_and_add(packets, 1);
	else
		bpf_map_update_elem(&seen, key, &one, BPF_ANY);
}

/* All 16 bytes are zero before the five fields are set. */
SEC("xdp")
int clean(struct xdp_md *ctx)
{
	struct conn_key key;

	__builtin_memset(&key, 0, sizeof(key));
	count(&key);
	return XDP_PASS;
}

/* All 16 bytes are 0xaa, as stack may be that some other function used, before they are set. */
SEC("xdp")
int dirty(struct xdp_md *ctx)
{
	struct conn_key key;

	__builtin_memset(&key, 0xaa, sizeof(key));
	count(&key);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
