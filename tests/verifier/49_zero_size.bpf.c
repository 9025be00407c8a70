// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: size-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tracepoint/syscalls/sys_enter_getppid")
int who(void *ctx)
{
	char name[16] = {};
	__u32 size = bpf_get_prandom_u32() & 15;

	bpf_get_current_comm(name, size); /* here */
	return name[0];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
