// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: sleepable */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("uprobe")
int look(void *ctx)
{
	char first = 0;

	bpf_copy_from_user(&first, 1, ctx); /* here */
	return first;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
