/* SPDX-License-Identifier: MIT */
/*
 * /proc files, whole. Invariant: nothing here trusts st_size (it is 0) nor
 * that two reads fit together: the kernel makes each read on its own, so a
 * file of many reads may be torn between them. Parsers cope with that.
 */
#include "target/procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define FIRST_READ 16384
#define NAME_SIZE 64    /* "/proc/2147483647/" and the longest name asked for */

int procfile_errno(pid_t pid, int err)
{
	char path[NAME_SIZE];

	if (err != -ENOENT && err != -ESRCH)
		return err;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	if (access(path, F_OK) < 0)
		return -ESRCH;
	return err;
}

static int procfile_path(pid_t pid, const char *name, char path[static NAME_SIZE])
{
	int n;

	if (pid <= 0)
		return -ESRCH;
	n = snprintf(path, NAME_SIZE, "/proc/%d/%s", (int)pid, name);
	return n > 0 && n < NAME_SIZE ? 0 : -EINVAL;
}

/* Reads fd to its end, or until *len == max. */
static int read_all(int fd, size_t max, char **text, size_t *len)
{
	size_t room = 0;
	ssize_t n;

	for (;;) {
		if (*len + 1 >= room) {
			char *more;

			room = room ? room * 2 : FIRST_READ;
			if (room > max + 1)
				room = max + 1;
			more = realloc(*text, room);
			if (!more)
				return -ENOMEM;
			*text = more;
			if (*len == max)
				break;
		}
		n = read(fd, *text + *len, room - *len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		*len += (size_t)n;
	}
	(*text)[*len] = '\0';
	return 0;
}

int procfile_read_some(pid_t pid, const char *name, size_t max, char **ret_text, size_t *ret_len)
{
	_cleanup_(freep) char *text = NULL;
	_cleanup_(closep) int fd = -1;
	char path[NAME_SIZE];
	size_t len = 0;
	int r;

	r = procfile_path(pid, name, path);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return procfile_errno(pid, -errno);
	r = read_all(fd, max, &text, &len);
	if (r < 0)
		return procfile_errno(pid, r);
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

int procfile_read(pid_t pid, const char *name, size_t max, char **ret_text, size_t *ret_len)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read_some(pid, name, max + 1, &text, &len);
	if (r < 0)
		return r;
	if (len > max)
		return -EFBIG;
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

int procfile_link(pid_t pid, const char *name, char **ret_target)
{
	char path[NAME_SIZE], target[PATH_MAX + 1];
	char *copy;
	ssize_t n;
	int r;

	r = procfile_path(pid, name, path);
	if (r < 0)
		return r;
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return procfile_errno(pid, -errno);
	target[n] = '\0';
	copy = strdup(target);
	if (!copy)
		return -ENOMEM;
	*ret_target = copy;
	return 0;
}
