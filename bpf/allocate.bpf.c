// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The kernel's own functions for it; bpf_experimental.h of the kernel's tests wraps them. */
extern void *bpf_obj_new_impl(__u64 type, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *object, void *meta) __ksym;

struct note {
	__u64 number;
};

/* Not malloc(): one object of a type that the verifier knows, and given back on every path. */
SEC("tc")
int allocate(struct __sk_buff *ctx)
{
	struct note *note = bpf_obj_new_impl(bpf_core_type_id_local(struct note), NULL);
	int number;

	if (!note)
		return 0;
	note->number = 42;
	number = note->number;
	bpf_obj_drop_impl(note, NULL);
	return number;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
