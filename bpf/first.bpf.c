// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Thread id → how many times it asked for its parent. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} calls SEC(".maps");

/* The kernel runs this each time a thread calls getppid(). Only one is counted: yours. */
SEC("tracepoint/syscalls/sys_enter_getppid")
int count_call(void *ctx)
{
	__u32 thread = bpf_get_current_pid_tgid();
	__u64 one = 1, *count;

	if (thread != ONLY)
		return 0;
	count = bpf_map_lookup_elem(&calls, &thread);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&calls, &thread, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
