// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: stack-bounds */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Not inline: within one function clang sees that it is too far, and leaves the store out. */
static __noinline void end(char *text)
{
	text[16] = 0; /* here */
}

SEC("xdp")
int fill(struct xdp_md *ctx)
{
	char room[16] = {};

	end(room);
	return room[0];
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
