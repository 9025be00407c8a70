// expect: of type xdp
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "seek.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

SEC("xdp")
int on_seek(struct xdp_md *ctx)
{
	__u64 id = 0, *count;
	__u32 zero = 0, pid = id >> 32, *whom;
	struct event *event;

	whom = bpf_map_lookup_elem(&watched, &zero);
	if (!whom || *whom != pid)
		return XDP_PASS;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return XDP_PASS;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = pid;
	event->thread = id;
	bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
