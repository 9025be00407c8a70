// SPDX-License-Identifier: MIT OR GPL-2.0-only

#ifndef ROOM
#define ROOM 64
#endif

/* A local array of ROOM bytes, which a helper fills. No map yet: this is why they are needed. */
int big_frame(struct xdp_md *ctx)
{
	char room[ROOM];

	bpf_probe_read_kernel(room, sizeof(room), NULL); /* nothing lies at NULL: it writes zeros */
	return room[0] + XDP_PASS;
}
