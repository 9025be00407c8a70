#include "seek.h"

SEC("tracepoint/syscalls/sys_enter_lseek")
int on_seek(struct lseek_args *args)
{
	/* Declare events, lost and watched above, and send a struct event here. */
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
