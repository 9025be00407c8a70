// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef SHORTEST
#define SHORTEST 100
#endif

/* Three global variables, in three sections of the object file. libbpf makes an array map of one
 * entry out of each section, and writes there what the C says.
 */
const volatile __u32 shortest = SHORTEST; /* .rodata: constants, frozen when loaded */
int verdict = XDP_DROP;			  /* .data: begins with what the C gives it */
__u64 short_frames;			  /* .bss: begins with zero */

SEC("xdp")
int guard(struct xdp_md *ctx)
{
	if (ctx->data_end - ctx->data >= shortest)
		return XDP_PASS;
	__sync_fetch_and_add(&short_frames, 1);
	return verdict;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
