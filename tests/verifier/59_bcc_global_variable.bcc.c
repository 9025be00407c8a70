// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* refused: global-variable */
u64 packets;

int count(struct xdp_md *ctx)
{
	packets++; /* here */
	return XDP_PASS;
}
