/* SPDX-License-Identifier: MIT */
/*
 * Which processes there are. A snapshot that is not one: processes come and go
 * while /proc is read, so whoever uses a PID of the list meets -ESRCH.
 * Children are found by the parent every process names, since
 * /proc/PID/task/TID/children is not in every kernel and may skip some of them.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "target/proc.h"

struct pids {
	pid_t *pid;
	size_t count, room;
};

static void closedirp(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static void pids_done(struct pids *pids)
{
	free(pids->pid);
}

static int pids_add(struct pids *pids, pid_t pid)
{
	if (pids->count == pids->room) {
		size_t room = pids->room ? pids->room * 2 : 256;
		pid_t *more = reallocarray(pids->pid, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		pids->pid = more;
		pids->room = room;
	}
	pids->pid[pids->count++] = pid;
	return 0;
}

static int compare(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return x < y ? -1 : x > y;
}

/* A directory name that is a PID, or 0. */
static pid_t to_pid(const char *name)
{
	char *end;
	long v;

	if (!isdigit((unsigned char)name[0]))
		return 0;
	errno = 0;
	v = strtol(name, &end, 10);
	return errno || *end || v <= 0 || v > INT_MAX ? 0 : (pid_t)v;
}

/* With parent > 0 only its children. */
static int list(pid_t parent, pid_t **ret_pids, size_t *ret_count)
{
	_cleanup_(closedirp) DIR *dir = opendir("/proc");
	_cleanup_(pids_done) struct pids pids = { 0 };
	struct proc_stat stat;
	struct dirent *entry;
	int r;

	if (!dir)
		return -errno;
	/* Never NULL, so that an empty list can be told from none. */
	pids.pid = calloc(256, sizeof(*pids.pid));
	if (!pids.pid)
		return -ENOMEM;
	pids.room = 256;
	while ((entry = readdir(dir))) {
		pid_t pid = to_pid(entry->d_name);

		if (!pid || (parent && (proc_stat_read(pid, &stat) < 0 || stat.ppid != parent)))
			continue;
		r = pids_add(&pids, pid);
		if (r < 0)
			return r;
	}
	if (pids.count)
		qsort(pids.pid, pids.count, sizeof(*pids.pid), compare);
	*ret_count = pids.count;
	*ret_pids = take_ptr(pids.pid);
	return 0;
}

int proc_list(pid_t **ret_pids, size_t *ret_count)
{
	return list(0, ret_pids, ret_count);
}

int proc_children(pid_t pid, pid_t **ret_pids, size_t *ret_count)
{
	struct proc_stat stat;
	int r;

	r = proc_stat_read(pid, &stat);
	return r < 0 ? r : list(pid, ret_pids, ret_count);
}
