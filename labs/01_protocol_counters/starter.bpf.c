#include "protocols.h"

SEC("xdp")
int count(struct xdp_md *ctx)
{
	struct packet packet = unpack(ctx);

	/* Declare the map counters above. Find out what came, and count it here. */
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
