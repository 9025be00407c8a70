// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/bpf.h>
#include <uapi/linux/bpf_perf_event.h>
#include <uapi/linux/errno.h>

#ifndef STACKS
#define STACKS 16384
#endif
#ifndef FLAGS
#define FLAGS 0
#endif

/* Each stack once, whoever hits it how often. BCC's macro always makes room for 127 frames. */
BPF_STACK_TRACE(stacks, STACKS);

/* The ids of two stacks. A negative one is an errno: there is no stack, and this says why. */
struct place {
	s32 user;
	s32 kernel;
};

BPF_HASH(seen, struct place, u64, 4096);
BPF_ARRAY(watched, u32, 1);

static void count(struct place *place)
{
	u64 none = 0, *times = seen.lookup(place);

	if (!times) {
		seen.insert(place, &none);
		times = seen.lookup(place); /* or another CPU's */
	}
	if (times)
		__sync_fetch_and_add(times, 1);
}

/* A context of no known type: BCC's dialect takes this for a tracepoint program. */
int count_callers(void *ctx)
{
	struct place place = { .kernel = -EFAULT };
	int zero = 0;
	u32 *pid = watched.lookup(&zero);

	if (!pid || bpf_get_current_pid_tgid() >> 32 != *pid)
		return 0;
	place.user = stacks.get_stackid(ctx, BPF_F_USER_STACK | FLAGS);
	count(&place);
	return 0;
}

int sample(struct bpf_perf_event_data *ctx)
{
	struct place place = {
		.user = stacks.get_stackid(ctx, BPF_F_USER_STACK | FLAGS),
		.kernel = stacks.get_stackid(ctx, FLAGS),
	};

	count(&place);
	return 0;
}
