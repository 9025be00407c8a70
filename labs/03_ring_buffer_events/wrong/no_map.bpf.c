// expect: Its maps: `.rodata`
// SPDX-License-Identifier: MIT OR GPL-2.0-only
#include "seek.h"

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_seek(struct lseek_args *args)
{
	bpf_printk("%d seeks to %lld", bpf_get_current_pid_tgid() >> 32, args->offset);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
