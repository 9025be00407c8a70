// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: constant-size */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("xdp")
int tell(struct xdp_md *ctx)
{
	__u32 size = ctx->data_end - ctx->data; /* cause */
	void *event = bpf_ringbuf_reserve(&events, size, 0); /* here */

	if (event)
		bpf_ringbuf_submit(event, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
