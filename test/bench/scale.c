// SPDX-License-Identifier: Apache-2.0

//go:build ignore

/*
 * scale hold N M GROUP... puts itself into cgroups, makes N pid namespaces, each
 *                        with a process outside and M inside, says so, and
 *                        ends with all of them when its input ends.
 * scale read             reads of all processes status, ns/pid and cmdline, on
 *                        two threads: what a tree of processes is made of.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { most = 1 << 16, threads = 2 };
static int pids[most], n, proc;

static void *reader(void *first)
{
	char path[64], buf[8192];

	for (int i = (int)(long)first; i < n; i += threads) {
		static const char *const files[] = { "status", "cmdline" };

		for (int k = 0; k < 2; k++) {
			snprintf(path, sizeof(path), "%d/%s", pids[i], files[k]);
			int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
			if (fd < 0)
				continue;
			if (read(fd, buf, sizeof(buf)) < 0)
				buf[0] = 0; /* gone */
			close(fd);
		}
		snprintf(path, sizeof(path), "%d/ns/pid", pids[i]);
		if (readlinkat(proc, path, buf, sizeof(buf)) < 0)
			buf[0] = 0;
	}
	return NULL;
}

static int read_all(void)
{
	struct dirent *e;
	DIR *dir = opendir("/proc");
	pthread_t other;

	if (!dir || (proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	while (n < most && (e = readdir(dir)))
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			pids[n++] = atoi(e->d_name);
	if (pthread_create(&other, NULL, reader, (void *)1))
		return 1;
	reader((void *)0);
	return pthread_join(other, NULL);
}

/* A process that dies with its parent; false in it. */
static int child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		exit(1); /* those that were made die with this one */
	if (pid)
		return 1;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || (getppid() && getppid() != parent))
		_exit(1);
	return 0;
}

static int gate[2]; /* a pipe that all wait at, until the first process opens it */

/*
 * Waits at the gate, and then for its children: one that nobody waits for stays, as
 * a zombie of whoever is next, for as long as that lives.
 */
static void stay(void)
{
	char byte;

	close(gate[1]);
	if (read(gate[0], &byte, 1) < 0)
		_exit(1);
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static int hold(int count, int each, char **groups)
{
	char byte;

	if (pipe(gate))
		return 1;
	for (; *groups; groups++) {
		int fd = open(*groups, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			return 1;
		close(fd);
	}
	for (int i = 0; i < count; i++) {
		if (child())
			continue;
		if (unshare(CLONE_NEWPID))
			_exit(1);
		if (!child()) /* the first inside has the others */
			for (int k = 1; k < each && child(); k++)
				;
		stay();
	}
	if (write(1, "\n", 1) != 1 || read(0, &byte, 1) < 0)
		return 1;
	stay();
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "hold"))
		return hold(atoi(argv[2]), atoi(argv[3]), argv + 4);
	return argc == 2 && !strcmp(argv[1], "read") ? read_all() : 2;
}
