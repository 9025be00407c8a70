/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the program in the kernel and the one outside of it must agree upon. */
#ifndef THREE_DOORS_H
#define THREE_DOORS_H

#include <linux/types.h>

struct traffic {
	__u64 packets;
	__u64 bytes;
};

#endif
