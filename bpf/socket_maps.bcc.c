// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <uapi/linux/bpf.h>

#ifndef SOCKETS
#define SOCKETS 16
#endif

/* BCC's macros fix the value: 4 bytes, which user space can write and not read. */
BPF_SOCKMAP(slots, SOCKETS);
BPF_SOCKHASH(sockets, u32, SOCKETS);

/* Where bytes from a port go: a key in sockets. */
BPF_HASH(routes, u32, u32, SOCKETS);

struct traffic {
	u64 verdicts;
	u64 bytes;
};

BPF_HASH(redirected, u32, struct traffic, SOCKETS);

static u32 *route(u32 port, u32 bytes)
{
	struct traffic *seen, fresh = {};
	u32 *to = routes.lookup(&port);

	if (!to)
		return 0;
	seen = redirected.lookup(&port);
	if (!seen) {
		redirected.insert(&port, &fresh);
		seen = redirected.lookup(&port); /* or another CPU's */
	}
	if (seen) {
		__sync_fetch_and_add(&seen->verdicts, 1);
		__sync_fetch_and_add(&seen->bytes, bytes);
	}
	return to;
}

/* BCC can redirect by key only: its SOCKMAP knows no redirect. It may still hold who is judged. */
int by_key(struct __sk_buff *skb)
{
	u32 *to = route(ntohl(skb->remote_port), skb->len);

	return to ? sockets.sk_redirect_hash(skb, to, 0) : SK_PASS;
}

int short_cut(struct sk_msg_md *msg)
{
	u32 *to = route(msg->local_port, msg->size);

	return to ? sockets.msg_redirect_hash(msg, to, BPF_F_INGRESS) : SK_PASS;
}
