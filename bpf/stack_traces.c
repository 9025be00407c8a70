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

FUNCTION void draw(void)
{
	static char noise[1 << 16];

	fill(noise, sizeof(noise));
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
