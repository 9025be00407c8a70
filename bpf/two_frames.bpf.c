// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef HOOK
#define HOOK "xdp"
#endif
#ifndef ROOM
#define ROOM 300
#endif

/* Each function has a frame that clang allows. While inner() runs, both are on the stack. */
static __noinline int inner(void)
{
	char room[ROOM];

	bpf_probe_read_kernel(room, sizeof(room), NULL);
	return room[0];
}

SEC(HOOK)
int outer(void *ctx)
{
	char room[ROOM];

	bpf_probe_read_kernel(room, sizeof(room), NULL);
	return room[0] + inner() + 2;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
