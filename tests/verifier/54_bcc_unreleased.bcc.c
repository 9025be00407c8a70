// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: unreleased */
BPF_RINGBUF_OUTPUT(records, 1);

int count(struct xdp_md *ctx)
{
	u64 *record, *other;

	record = records.ringbuf_reserve(sizeof(*record)), other = record; /* cause */
	if (!record)
		return XDP_DROP;
	*other = bpf_ktime_get_ns();
	if (ctx->rx_queue_index)
		return XDP_PASS;
	records.ringbuf_submit(record, 0);
	return XDP_PASS;
} /* here */
