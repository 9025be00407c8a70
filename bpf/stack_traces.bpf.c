// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>

#ifndef STACKS
#define STACKS 16384
#endif
#ifndef FRAMES
#define FRAMES 127
#endif
#ifndef FLAGS
#define FLAGS 0
#endif

/* Each stack once, whoever hits it how often: a counter needs only the number of its stack. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, STACKS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, FRAMES * sizeof(__u64));
} stacks SEC(".maps");

/* The ids of two stacks. A negative one is an errno: there is no stack, and this says why. */
struct place {
	__s32 user;
	__s32 kernel;
};

/* How often the process was seen in each place. A hash, since stack ids are scattered. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct place);
	__type(value, __u64);
} seen SEC(".maps");

/* The process to watch. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

static void count(struct place *place)
{
	__u64 none = 0, *times = bpf_map_lookup_elem(&seen, place);

	if (!times) {
		bpf_map_update_elem(&seen, place, &none, BPF_NOEXIST);
		times = bpf_map_lookup_elem(&seen, place); /* or another CPU's */
	}
	if (times)
		__sync_fetch_and_add(times, 1);
}

/* Each time that the process asks for its parent's id. -EFAULT stands for no kernel stack. */
SEC("tracepoint/syscalls/sys_enter_getppid")
int count_callers(void *ctx)
{
	struct place place = { .kernel = -EFAULT };
	__u32 zero = 0, *pid = bpf_map_lookup_elem(&watched, &zero);

	if (!pid || bpf_get_current_pid_tgid() >> 32 != *pid)
		return 0;
	place.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | FLAGS);
	count(&place);
	return 0;
}

/* Each tick of a clock that runs while the process does. */
SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	struct place place = {
		.user = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK | FLAGS),
		.kernel = bpf_get_stackid(ctx, &stacks, FLAGS),
	};

	count(&place);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
