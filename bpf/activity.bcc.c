// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What the processes that you started run, and whom they connect to. From tracepoints. */
#include <uapi/linux/in.h>
#include <net/tcp_states.h>

#define OPENED 0
#define CLOSED 1

struct exec {
	u64 ns;
	u32 pid;    /* of the process: the upper half */
	u32 thread; /* the lower half */
	u32 done;   /* 0: tried, 1: the new program runs */
	char comm[16];
	char file[64];
};

struct connection {
	u64 ns;
	u32 src_ip;
	u32 dst_ip;
	u16 src_port;
	u16 dst_port;
	u32 pid;
	u32 what; /* OPENED or CLOSED */
	char comm[16];
};

/* Two streams of events, of 64 pages each, with a count of what they lost. */
BPF_RINGBUF_OUTPUT(execs, 64);
BPF_RINGBUF_OUTPUT(connections, 64);
BPF_PERCPU_ARRAY(execs_lost, u64, 1);
BPF_PERCPU_ARRAY(connections_lost, u64, 1);

/*
 * The processes to watch. LRU, so that those that ended make room. It may drop one that lives, too,
 * and its events with it.
 */
BPF_TABLE("lru_hash", u32, u8, watched, 1024);

/* The configuration table: which port to report, 0 for any, and whether to. */
struct setting {
	u32 target_port;
	u8 enabled;
};
BPF_ARRAY(settings, struct setting, 1);

/* The counters: connections OPENED and CLOSED, whatever the configuration says. */
BPF_PERCPU_ARRAY(counted, u64, 2);

/* Connections that are open now, by the address of their socket in the kernel. */
BPF_HASH(open, u64, struct connection, 1024);

static int is_watched(u32 pid)
{
	return watched.lookup(&pid) != NULL;
}

/*
 * A child of a watched process is watched, and no other, which may have the number of one that
 * was. This runs in the parent, before the child does.
 */
int on_fork(struct tracepoint__sched__sched_process_fork *args)
{
	u32 child = args->child_pid;
	u8 yes = 1;

	if (is_watched(bpf_get_current_pid_tgid() >> 32))
		watched.update(&child, &yes);
	else
		watched.delete(&child);
	return 0;
}

static struct exec *new_exec(u32 done)
{
	u64 id = bpf_get_current_pid_tgid();
	struct exec *event;

	if (!is_watched(id >> 32))
		return NULL;
	event = execs.ringbuf_reserve(sizeof(*event));
	if (!event) {
		execs_lost.increment(0);
		return NULL;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = id >> 32;
	event->thread = id;
	event->done = done;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	return event;
}

int exec_tried(struct tracepoint__syscalls__sys_enter_execve *args)
{
	struct exec *event = new_exec(0);

	if (!event)
		return 0;
	if (bpf_probe_read_user_str(event->file, sizeof(event->file), args->filename) < 0)
		event->file[0] = 0;
	execs.ringbuf_submit(event, 0);
	return 0;
}

int exec_done(struct tracepoint__sched__sched_process_exec *args)
{
	struct exec *event = new_exec(1);
	void *file = (void *)args + (args->data_loc_filename & 0xffff);

	if (!event)
		return 0;
	if (bpf_probe_read_kernel_str(event->file, sizeof(event->file), file) < 0)
		event->file[0] = 0;
	execs.ringbuf_submit(event, 0);
	return 0;
}

static void report(struct connection *seen, u32 what)
{
	u32 zero = 0;
	struct setting *now = settings.lookup(&zero);

	seen->what = what;
	seen->ns = bpf_ktime_get_ns();
	counted.increment(what);
	if (!now || !now->enabled)
		return;
	if (now->target_port && now->target_port != seen->dst_port)
		return;
	if (connections.ringbuf_output(seen, sizeof(*seen), 0))
		connections_lost.increment(0);
}

/*
 * Only the first step of a connection surely runs in the process that wants it, so that is when
 * its name is taken down. The port of the client is known at the second.
 */
int on_state(struct tracepoint__sock__inet_sock_set_state *args)
{
	u64 sock = (u64)args->skaddr;
	struct connection first = {}, *seen;

	if (args->family != AF_INET || args->protocol != IPPROTO_TCP)
		return 0;
	if (args->newstate == TCP_SYN_SENT) {
		first.pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(first.comm, sizeof(first.comm));
		if (is_watched(first.pid))
			open.update(&sock, &first);
		return 0;
	}
	seen = open.lookup(&sock);
	if (!seen)
		return 0;
	if (args->newstate == TCP_ESTABLISHED) {
		__builtin_memcpy(&seen->src_ip, args->saddr, 4);
		__builtin_memcpy(&seen->dst_ip, args->daddr, 4);
		seen->src_ip = ntohl(seen->src_ip);
		seen->dst_ip = ntohl(seen->dst_ip);
		seen->src_port = args->sport;
		seen->dst_port = args->dport;
		report(seen, OPENED);
	} else if (args->newstate == TCP_CLOSE) {
		if (seen->dst_port) /* else it never opened */
			report(seen, CLOSED);
		open.delete(&sock);
	}
	return 0;
}
