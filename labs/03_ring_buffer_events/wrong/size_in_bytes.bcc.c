// expect: takes 16,777,216 bytes
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "seek.h"

BPF_RINGBUF_OUTPUT(events, 4096);
BPF_PERCPU_ARRAY(lost, u64, 1);
BPF_ARRAY(watched, u32, 1);

int on_seek(struct tracepoint__syscalls__sys_enter_lseek *args)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 zero = 0, pid = id >> 32, *whom = watched.lookup(&zero);
	struct event *event;

	if (!whom || *whom != pid)
		return 0;
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		lost.increment(0);
		return 0;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = pid;
	event->thread = id;
	event->fd = args->fd;
	event->offset = args->offset;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	events.ringbuf_submit(event, 0);
	return 0;
}
