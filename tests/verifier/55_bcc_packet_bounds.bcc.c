// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: packet-bounds */
BPF_ARRAY(kinds, u64, 256);

int count(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data; /* cause */
	u64 zero = 0;
	int first = 0;

	kinds.increment(
		first);
	kinds.lookup(
		&first);
	first = data[12]; /* here */
	kinds.increment(first);
	return XDP_PASS;
}
