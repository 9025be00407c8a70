// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The same two streams from kprobes: the hooks that need no tracepoint, but a CONFIG_KPROBES. */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event {
	__u64 ns;
	__u32 pid;
	__u32 thread;
	__u32 dst_ip; /* 0: an execve */
	__u32 dst_port;
	char comm[16];
};

struct event *unused __attribute__((unused));

/* A ring, so that an execve and the connections after it come in order. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* The processes to watch: nobody else's are any of our business. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} watched SEC(".maps");

static int stream(__u32 dst_ip, __u32 dst_port)
{
	__u64 id = bpf_get_current_pid_tgid(), *losses;
	__u32 pid = id >> 32, zero = 0;
	struct event *event;

	if (!bpf_map_lookup_elem(&watched, &pid))
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		losses = bpf_map_lookup_elem(&lost, &zero);
		if (losses)
			++*losses;
		return 0;
	}
	event->ns = bpf_ktime_get_ns();
	event->pid = pid;
	event->thread = id;
	event->dst_ip = dst_ip;
	event->dst_port = dst_port;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* A ksyscall, because the function is called __x64_sys_execve here and otherwise elsewhere. */
SEC("ksyscall/execve")
int trace_exec(struct pt_regs *ctx)
{
	return stream(0, 0);
}

SEC("kprobe/tcp_connect")
int trace_connect(struct pt_regs *ctx)
{
	struct sock *sock = (void *)PT_REGS_PARM1(ctx);

	return stream(bpf_ntohl(BPF_CORE_READ(sock, __sk_common.skc_daddr)),
		      bpf_ntohs(BPF_CORE_READ(sock, __sk_common.skc_dport)));
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
