/* SPDX-License-Identifier: MIT */
#include "trace/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"

/* The holder as /proc/locks tells it: "1: FLOCK ADVISORY WRITE 1234 00:15:17493 0 EOF". 0 if it does not say. */
static pid_t lock_holder(int fd)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/locks", "re");
	struct stat st;
	char line[256];

	if (!f || fstat(fd, &st))
		return 0;
	while (fgets(line, sizeof(line), f)) {
		unsigned int dev_major, dev_minor;
		uint64_t inode;
		int pid;

		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%" SCNu64, &pid, &dev_major, &dev_minor, &inode) == 4 &&
		    inode == st.st_ino && makedev(dev_major, dev_minor) == st.st_dev)
			return pid;
	}
	return 0;
}

int trace_lock(pid_t pid, int *ret_fd, struct err *err)
{
	_cleanup_(closep) int fd = -1;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno == ENOENT ? -ESRCH : -errno, "no process %d", pid);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		pid_t holder;

		if (errno != EWOULDBLOCK)
			return err_set(err, -errno, "cannot lock %s: %s", path, strerror(errno));
		holder = lock_holder(fd);
		if (holder)
			err_set(err, -EBUSY, "process %d is traced already, by leaksnoop with PID %d", pid, holder);
		else
			err_set(err, -EBUSY, "process %d is traced already, by another leaksnoop", pid);
		err_hint(err, "one tracer a process: stop that one first (Ctrl-C there), or read its report");
		return -EBUSY;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}
