//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// What the kernel takes for putting a command inside and nothing else: vfork,
// setns of all namespaces, vfork for the number inside, exec, wait.
//
// Usage: floor PID FLAGS PROGRAM. Each line "N" on standard input is answered
// by the nanoseconds that N rounds took; it ends with its input.

#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *argv_inside[2];
static char *env_inside[] = {"PATH=/bin", NULL};

static int finished(pid_t child)
{
	int status;

	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int enter(int target, int flags)
{
	pid_t outer = vfork();

	if (outer == 0) {
		pid_t inner;

		if (setns(target, flags) != 0)
			_exit(1);
		inner = vfork(); /* setns moves only children into a pid namespace */
		if (inner == 0) {
			execve(argv_inside[0], argv_inside, env_inside);
			_exit(127);
		}
		_exit(finished(inner) ? 0 : 1);
	}
	return finished(outer);
}

int main(int argc, char **argv)
{
	int target, flags;
	long rounds;

	if (argc != 4)
		return 2;
	target = syscall(SYS_pidfd_open, atoi(argv[1]), 0);
	flags = strtol(argv[2], NULL, 0);
	argv_inside[0] = argv[3];
	if (target < 0) {
		perror("pidfd_open");
		return 1;
	}
	while (scanf("%ld", &rounds) == 1) {
		struct timespec a, b;

		clock_gettime(CLOCK_MONOTONIC, &a);
		for (long i = 0; i < rounds; i++)
			if (!enter(target, flags)) {
				fprintf(stderr, "floor: entering failed\n");
				return 1;
			}
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%lld\n", (b.tv_sec - a.tv_sec) * 1000000000LL + (b.tv_nsec - a.tv_nsec));
		fflush(stdout);
	}
	return 0;
}
