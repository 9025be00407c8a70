// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: null-check */
struct seen {
	u64 packets;
	u64 bytes;
};

BPF_HASH(table, u32, struct seen);

static int size(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

int count(struct xdp_md *ctx)
{
	u32 queue = ctx->rx_queue_index;
	struct seen *one;

	one = table.lookup(&queue); /* cause */
	/* Two ways to follow the pointer in one line: neither is marked alone. */
	one->packets++, one->bytes += size(ctx); /* here */
	return XDP_PASS;
}
