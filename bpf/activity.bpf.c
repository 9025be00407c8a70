// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* What the processes that you started run, and whom they connect to. From tracepoints. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define OPENED 0
#define CLOSED 1

struct exec {
	__u64 ns;
	__u32 pid;    /* of the process: the upper half */
	__u32 thread; /* the lower half */
	__u32 done;   /* 0: tried, 1: the new program runs */
	char comm[16];
	char file[64];
};

struct connection {
	__u64 ns;
	__u32 src_ip;
	__u32 dst_ip;
	__u16 src_port;
	__u16 dst_port;
	__u32 pid;
	__u32 what; /* OPENED or CLOSED */
	char comm[16];
};

struct exec *unused_exec __attribute__((unused));
struct connection *unused_connection __attribute__((unused));

/* Two streams of events, each with a count of what it lost. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} execs SEC(".maps"), connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} execs_lost SEC(".maps"), connections_lost SEC(".maps");

/*
 * The processes to watch. LRU, so that those that ended make room. It may drop one that lives, too,
 * and its events with it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} watched SEC(".maps");

/* The configuration table: which port to report, 0 for any, and whether to. */
struct setting {
	__u32 target_port;
	__u8 enabled;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct setting);
} settings SEC(".maps");

/* The counters: connections OPENED and CLOSED, whatever the configuration says. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} counted SEC(".maps");

/* Connections that are open now, by the address of their socket in the kernel. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct connection);
} open SEC(".maps");

static void add_one(void *map, __u32 slot)
{
	__u64 *value = bpf_map_lookup_elem(map, &slot);

	if (value)
		++*value;
}

static int is_watched(__u32 pid)
{
	return bpf_map_lookup_elem(&watched, &pid) != NULL;
}

/*
 * A child of a watched process is watched, and no other, which may have the number of one that
 * was. This runs in the parent, before the child does.
 */
SEC("tracepoint/sched/sched_process_fork")
int on_fork(struct trace_event_raw_sched_process_fork *ctx)
{
	__u32 child = ctx->child_pid;
	__u8 yes = 1;

	if (is_watched(bpf_get_current_pid_tgid() >> 32))
		bpf_map_update_elem(&watched, &child, &yes, BPF_ANY);
	else
		bpf_map_delete_elem(&watched, &child);
	return 0;
}

static struct exec *new_exec(__u32 done)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct exec *event;

	if (!is_watched(id >> 32))
		return NULL;
	event = bpf_ringbuf_reserve(&execs, sizeof(*event), 0);
	if (!event) {
		add_one(&execs_lost, 0);
		return NULL;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = id >> 32;
	event->thread = id;
	event->done = done;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	return event;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int exec_tried(struct trace_event_raw_sys_enter *ctx)
{
	struct exec *event = new_exec(0);

	if (!event)
		return 0;
	if (bpf_probe_read_user_str(event->file, sizeof(event->file), (void *)ctx->args[0]) < 0)
		event->file[0] = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tracepoint/sched/sched_process_exec")
int exec_done(struct trace_event_raw_sched_process_exec *ctx)
{
	struct exec *event = new_exec(1);
	void *file = (void *)ctx + (ctx->__data_loc_filename & 0xffff);

	if (!event)
		return 0;
	if (bpf_probe_read_kernel_str(event->file, sizeof(event->file), file) < 0)
		event->file[0] = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

static void report(struct connection *seen, __u32 what)
{
	__u32 zero = 0;
	struct setting *now = bpf_map_lookup_elem(&settings, &zero);

	seen->what = what;
	seen->ns = bpf_ktime_get_ns();
	add_one(&counted, what);
	if (!now || !now->enabled)
		return;
	if (now->target_port && now->target_port != seen->dst_port)
		return;
	if (bpf_ringbuf_output(&connections, seen, sizeof(*seen), 0))
		add_one(&connections_lost, 0);
}

/*
 * Only the first step of a connection surely runs in the process that wants it, so that is when
 * its name is taken down. The port of the client is known at the second.
 */
SEC("tracepoint/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
	__u64 sock = (__u64)ctx->skaddr;
	struct connection first = {}, *seen;

	if (ctx->family != AF_INET || ctx->protocol != IPPROTO_TCP)
		return 0;
	if (ctx->newstate == TCP_SYN_SENT) {
		first.pid = bpf_get_current_pid_tgid() >> 32;
		bpf_get_current_comm(first.comm, sizeof(first.comm));
		if (is_watched(first.pid))
			bpf_map_update_elem(&open, &sock, &first, BPF_ANY);
		return 0;
	}
	seen = bpf_map_lookup_elem(&open, &sock);
	if (!seen)
		return 0;
	if (ctx->newstate == TCP_ESTABLISHED) {
		__builtin_memcpy(&seen->src_ip, ctx->saddr, 4);
		__builtin_memcpy(&seen->dst_ip, ctx->daddr, 4);
		seen->src_ip = bpf_ntohl(seen->src_ip);
		seen->dst_ip = bpf_ntohl(seen->dst_ip);
		seen->src_port = ctx->sport;
		seen->dst_port = ctx->dport;
		report(seen, OPENED);
	} else if (ctx->newstate == TCP_CLOSE) {
		if (seen->dst_port) /* else it never opened */
			report(seen, CLOSED);
		bpf_map_delete_elem(&open, &sock);
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
