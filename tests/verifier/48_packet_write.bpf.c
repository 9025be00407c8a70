// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: read-only */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/egress")
int mark(struct __sk_buff *skb)
{
	unsigned char *data = (void *)(long)skb->data;

	if (data + 1 > (unsigned char *)(long)skb->data_end)
		return 1;
	data[0] = 0; /* here */
	return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
