// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The same two streams from kprobes: the hooks that need no tracepoint, but a CONFIG_KPROBES. */
#include <uapi/linux/ptrace.h>

/* How the kernel's struct sock begins. <net/sock.h> has all of it, and takes seconds to compile. */
struct sock {
	u32 dst_ip;
	u32 src_ip;
	u32 hash;
	u16 dst_port;
	u16 src_port;
};

struct event {
	u64 ns;
	u32 pid;
	u32 thread;
	u32 dst_ip; /* 0: an execve */
	u32 dst_port;
	char comm[16];
};

/* A ring, so that an execve and the connections after it come in order. */
BPF_RINGBUF_OUTPUT(events, 64);
BPF_PERCPU_ARRAY(lost, u64, 1);

/* The processes to watch: nobody else's are any of our business. */
BPF_HASH(watched, u32, u8, 1024);

static int stream(u32 dst_ip, u32 dst_port)
{
	u64 id = bpf_get_current_pid_tgid();
	u32 pid = id >> 32;
	struct event *event;

	if (!watched.lookup(&pid))
		return 0;
	event = events.ringbuf_reserve(sizeof(*event));
	if (!event) {
		lost.increment(0);
		return 0;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = pid;
	event->thread = id;
	event->dst_ip = dst_ip;
	event->dst_port = dst_port;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	events.ringbuf_submit(event, 0);
	return 0;
}

/* Attach it to b.get_syscall_fnname("execve"): the function has another name on each machine. */
int trace_exec(struct pt_regs *ctx)
{
	return stream(0, 0);
}

int trace_connect(struct pt_regs *ctx, struct sock *sock)
{
	u32 dst_ip = sock->dst_ip;
	u16 dst_port = sock->dst_port;

	return stream(ntohl(dst_ip), ntohs(dst_port));
}
