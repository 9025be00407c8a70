// expect: `remember` of type sched_cls
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

SEC("tc")
int remember(struct __sk_buff *skb)
{
	__u64 one = 1, *packets;
	__u16 source;
	__u32 port;

	if (bpf_skb_load_bytes(skb, 34, &source, sizeof(source)))
		return TC_ACT_OK;
	port = __builtin_bswap16(source);
	packets = bpf_map_lookup_elem(&recent, &port);
	if (packets)
		__sync_fetch_and_add(packets, 1);
	else
		bpf_map_update_elem(&recent, &port, &one, BPF_ANY);
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
