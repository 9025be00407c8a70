// solution: one function for two hooks: a kprobe where the kernel has them, else the tracepoint
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "vmlinux.h"
#include "seek.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 4096);
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

static int send(int fd, long offset)
{
	__u64 id = bpf_get_current_pid_tgid(), *count;
	__u32 zero = 0, *pid;
	struct event *event;

	pid = bpf_map_lookup_elem(&watched, &zero);
	if (!pid || *pid != id >> 32)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		count = bpf_map_lookup_elem(&lost, &zero);
		if (count)
			__sync_fetch_and_add(count, 1);
		return 0;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = *pid;
	event->thread = id;
	event->fd = fd;
	event->offset = offset;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_lseek")
int from_tracepoint(struct lseek_args *args)
{
	return send(args->fd, args->offset);
}

SEC("ksyscall/lseek")
int BPF_KSYSCALL(from_kprobe, int fd, long offset)
{
	return send(fd, offset);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
