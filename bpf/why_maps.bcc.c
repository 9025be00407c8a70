// SPDX-License-Identifier: MIT OR GPL-2.0-only

/* How often remember() ran. One number is all there is to keep: an array of one entry. */
BPF_ARRAY(runs, u64, 1);

/* A local variable lives in a register or on the stack, and both are gone with the call. */
int forget(struct xdp_md *ctx)
{
	int count = 0;

	count++;
	return count;
}

int remember(struct xdp_md *ctx)
{
	u32 first = 0;
	u64 *count = runs.lookup(&first);

	if (!count)
		return 0;
	__sync_fetch_and_add(count, 1);
	return *count;
}
