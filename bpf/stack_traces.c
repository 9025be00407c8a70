// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The process that chapter 08 watches: it waits for a line, works, says so, waits for the end. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef ROUNDS
#define ROUNDS 1000
#endif

/* A function that is called for real: one that the compiler inlines is in no stack. */
#define FUNCTION static __attribute__((noinline))

static volatile unsigned long sum;

FUNCTION void add(long times)
{
	for (long i = 0; i < times; i++)
		sum += i;
}

FUNCTION void ask(void)
{
	getppid();
}

FUNCTION void fill(void *noise, size_t size)
{
	if (syscall(SYS_getrandom, noise, size, 0) > 0)
		sum++;
}

FUNCTION void cheap(void)
{
	add(200000);
	ask();
}

/* Three times the additions of cheap(), and twice its system calls. */
FUNCTION void dear(void)
{
	add(600000);
	ask();
	ask();
}

/* Each draw is as long as the last one says: rounds of one length could march in step with a clock
 * that stops the process at regular times, and be stopped at the same few places.
 */
FUNCTION void draw(void)
{
	static unsigned short noise[1 << 16];

	fill(noise, sizeof(noise) / 2 + noise[0]);
}

int main(void)
{
	getchar();
	for (int round = 0; round < ROUNDS; round++) {
		cheap();
		dear();
		draw();
	}
	puts("done");
	fflush(stdout);
	getchar();
	return 0;
}
