// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef SOCKETS
#define SOCKETS 16
#endif

/* Sockets by number. Bytes go from socket to socket only through a map that holds them. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

/* Sockets by a key of our own: the port of the other end. A hash, since ports are not dense. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} sockets SEC(".maps");

/* Where bytes from a port go: a number in slots, or a key in sockets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SOCKETS);
	__type(key, __u32);
	__type(value, __u32);
} routes SEC(".maps");

struct traffic {
	__u64 verdicts;
	__u64 bytes;
};

/* What was redirected, by the port that it came from. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SOCKETS);
	__type(key, __u32);
	__type(value, struct traffic);
} redirected SEC(".maps");

static __u32 *route(__u32 port, __u32 bytes)
{
	struct traffic *seen, fresh = {};
	__u32 *to = bpf_map_lookup_elem(&routes, &port);

	if (!to)
		return 0;
	seen = bpf_map_lookup_elem(&redirected, &port);
	if (!seen) {
		bpf_map_update_elem(&redirected, &port, &fresh, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&redirected, &port); /* or another CPU's */
	}
	if (seen) {
		__sync_fetch_and_add(&seen->verdicts, 1);
		__sync_fetch_and_add(&seen->bytes, bytes);
	}
	return to;
}

/* Bytes that arrive at a socket of slots: send them on, out of another one. */
SEC("sk_skb/stream_verdict")
int by_number(struct __sk_buff *skb)
{
	__u32 *to = route(bpf_ntohl(skb->remote_port), skb->len);

	return to ? bpf_sk_redirect_map(skb, &slots, *to, 0) : SK_PASS;
}

/* The same with a key. */
SEC("sk_skb/stream_verdict")
int by_key(struct __sk_buff *skb)
{
	__u32 *to = route(bpf_ntohl(skb->remote_port), skb->len);

	return to ? bpf_sk_redirect_hash(skb, &sockets, to, 0) : SK_PASS;
}

/* Bytes that a socket of sockets is about to send: hand them to the one that shall read them. */
SEC("sk_msg")
int short_cut(struct sk_msg_md *msg)
{
	__u32 *to = route(msg->local_port, msg->size);

	return to ? bpf_msg_redirect_hash(msg, &sockets, to, BPF_F_INGRESS) : SK_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
