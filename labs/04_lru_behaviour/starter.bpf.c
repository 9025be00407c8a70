#include "connection.h"

SEC("xdp")
int remember(struct xdp_md *ctx)
{
	struct packet packet;

	if (parse(ctx, &packet))
		return XDP_PASS;
	/* Declare the map recent above, and count this packet for its source port here. */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
