// expect: Is a record lost that nobody wanted
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

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_seek(struct lseek_args *args)
{
	__u64 id = bpf_get_current_pid_tgid(), *count;
	__u32 zero = 0, pid = id >> 32, *whom;
	struct event *event;

	whom = bpf_map_lookup_elem(&watched, &zero);
	if (!whom)
		return 0;
	if (*whom != pid) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return 0;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return 0;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = pid;
	event->thread = id;
	event->fd = args->fd;
	event->offset = args->offset;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
