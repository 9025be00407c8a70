// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: return-value */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("cgroup_skb/egress")
int verdict(struct __sk_buff *skb)
{
	return 9; /* here */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
