/* SPDX-License-Identifier: MIT */
#include "trace/running.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIST_NS 1000000000ull

void running_init(struct running *r, pid_t pid)
{
	*r = (struct running){ .pid = pid };
}

void running_close(struct running *r)
{
	while (r->n)
		close(r->fds[--r->n]);
}

static void list_threads(struct running *r)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	running_close(r);
	snprintf(path, sizeof(path), "/proc/%d/task", r->pid);
	dir = opendir(path);
	while (dir && r->n < RUNNING_THREADS_MAX && (entry = readdir(dir))) {
		int fd;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", r->pid, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			r->fds[r->n++] = fd;
	}
	if (dir)
		closedir(dir);
}

/* The state is the letter behind the last ')'. */
static bool is_running(int fd)
{
	char line[128], *close;
	ssize_t n = pread(fd, line, sizeof(line) - 1, 0);

	if (n <= 0)
		return false;
	line[n] = '\0';
	close = strrchr(line, ')');
	return close && close[1] == ' ' && close[2] == 'R';
}

bool running_now(struct running *r, uint64_t now_ns)
{
	if (!r->listed_ns || now_ns - r->listed_ns >= LIST_NS) {
		list_threads(r);
		r->listed_ns = now_ns;
	}
	for (int i = 0; i < r->n; i++)
		if (is_running(r->fds[i]))
			return true;
	return false;
}
