/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What lab 03 gives you, in both dialects: what comes in, and what goes out. */
#ifndef SEEK_H
#define SEEK_H

#ifdef BPF_HASH /* BCC: it has the rest already */
#include <uapi/linux/ptrace.h>
#else
#ifndef __VMLINUX_H__
#include <linux/bpf.h>
#endif
#include <bpf/bpf_helpers.h>
#endif

/* What the kernel hands to a program at syscalls/sys_enter_lseek: every argument in 8 bytes. */
struct lseek_args {
	__u64 common;
	__u64 number;
	__u64 fd;
	__u64 offset;
	__u64 whence;
};

/* The record that your program sends, one for each lseek() of the watched process. */
struct event {
	__u64 ns;     /* bpf_ktime_get_ns() */
	__u32 pid;    /* the process */
	__u32 thread; /* which of its threads */
	__s32 fd;     /* the file */
	__s64 offset; /* where to in it */
	char comm[16];
};

#endif
