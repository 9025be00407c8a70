// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#ifndef KIND
#define KIND BPF_MAP_TYPE_HASH
#endif

/* 64 KiB an entry: with ENTRIES enough, more than a machine has. TAKEN says when. */
struct {
	__uint(type, KIND);
	__uint(max_entries, ENTRIES);
	__uint(map_flags, TAKEN);
	__type(key, __u32);
	__type(value, __u8[65536]);
} rooms SEC(".maps");

char LICENSE[] SEC("license") = "Dual MIT/GPL";
