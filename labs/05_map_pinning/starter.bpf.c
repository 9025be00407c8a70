#include "connection.h"

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct packet packet;

	if (parse(ctx, &packet))
		return XDP_PASS;
	/* Declare the map ports above, and count the packet under its port here. */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
