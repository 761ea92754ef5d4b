/* SPDX-License-Identifier: MIT */
#include "diagnose/source.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/intern.h"
#include "base/map64.h"
#include "target/proc.h"

#define NO_GROUP ((gid_t)65534)
#define GROUPS_MAX 1024
#define FILE_BYTES_MAX ((off_t)4 << 20)
#define KEPT_BYTES_MAX ((size_t)64 << 20)

/* A file's text with every newline replaced by NUL; size 0: cannot be read. */
struct text {
	char *bytes;
	size_t size;
};

struct source {
	int root, cwd;            /* opened at the start: good even after the target has exited, as far as the mounts live on */
	uid_t uid;                /* of the target */
	struct intern *names;
	struct map64 *texts;      /* id of the name -> struct text */
	struct intern *lines;     /* stripped lines handed out */
	size_t kept;
};

static int open_dir(pid_t pid, const char *what)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int source_new(pid_t pid, struct source **ret_source)
{
	_cleanup_(source_freep) struct source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->root = open_dir(pid, "root");
	s->cwd = open_dir(pid, "cwd");
	s->uid = (uid_t)-1;
	proc_uid(pid, &s->uid);
	r = intern_new(KEPT_BYTES_MAX, &s->names);
	if (!r)
		r = intern_new(KEPT_BYTES_MAX, &s->lines);
	if (!r)
		r = map64_new(sizeof(struct text), &s->texts);
	if (r)
		return r;
	*ret_source = take_ptr(s);
	return 0;
}

void source_free(struct source *s)
{
	struct text *text;
	size_t cursor = 0;
	uint64_t key;

	if (!s)
		return;
	while (s->texts && (text = map64_next(s->texts, &cursor, &key)))
		free(text->bytes);
	map64_free(s->texts);
	intern_free(s->names);
	intern_free(s->lines);
	closep(&s->root);
	closep(&s->cwd);
	free(s);
}

static int open_regular(const struct source *s, const char *name, off_t *ret_size)
{
	bool absolute = name[0] == '/';
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_NO_MAGICLINKS | (absolute ? RESOLVE_IN_ROOT : RESOLVE_BENEATH),
	};
	_cleanup_(closep) int path_fd = (int)syscall(SYS_openat2, absolute ? s->root : s->cwd, name, &how, sizeof(how));
	char path[32];
	struct stat st;

	/* Files without a size are the kernel's own (/proc, tracefs): reading some of them does something. */
	if (path_fd < 0 || fstat(path_fd, &st) || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return -1;
	*ret_size = st.st_size;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/*
 * Opens a regular file that the target itself could read. The name comes from the target: it must not lead out of its root (or
 * working directory), and must not have root show what the target's user may not see. So the kernel is asked as that user would
 * ask it, without any group: this thread's file system identity is set for the while (setfsuid(2)), which takes root's
 * privileges over files with it.
 */
static int open_file(const struct source *s, const char *name, off_t *ret_size)
{
	gid_t groups[GROUPS_MAX];
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int n, fd = -1;

	if (s->uid == (uid_t)-1)
		return -1;
	if (s->uid == uid)
		return open_regular(s, name, ret_size);
	n = getgroups(GROUPS_MAX, groups);
	/* The raw call is for this thread alone, which is all that is wanted. */
	if (n < 0 || syscall(SYS_setgroups, 0, NULL))
		return -1;
	setfsgid(NO_GROUP);
	setfsuid(s->uid);
	if ((uid_t)setfsuid((uid_t)-1) == s->uid && (gid_t)setfsgid((gid_t)-1) == NO_GROUP)
		fd = open_regular(s, name, ret_size);
	setfsuid(uid);
	setfsgid(gid);
	return syscall(SYS_setgroups, n, groups) && fd >= 0 ? (close(fd), -1) : fd;
}

static void text_read(struct source *s, const char *name, struct text *ret)
{
	off_t file_size = 0;
	_cleanup_(closep) int fd = open_file(s, name, &file_size);
	_cleanup_(freep) char *bytes = NULL;
	size_t size = 0;

	if (fd < 0 || file_size > FILE_BYTES_MAX || s->kept + (size_t)file_size > KEPT_BYTES_MAX)
		return;
	bytes = malloc((size_t)file_size + 1);
	while (bytes && size < (size_t)file_size) {
		ssize_t n = read(fd, bytes + size, (size_t)file_size - size);

		if (n <= 0)
			break;
		size += (size_t)n;
	}
	if (!bytes || !size)
		return;
	for (size_t i = 0; i < size; i++)
		/* A NUL of the file's own must not end a line: those after it would be miscounted. */
		bytes[i] = bytes[i] == '\n' ? '\0' : bytes[i] ? bytes[i] : '?';
	bytes[size] = '\0';
	s->kept += size;
	ret->bytes = take_ptr(bytes);
	ret->size = size;
}

static const char *text_line(const struct text *text, int line)
{
	const char *p = text->bytes, *end = p + text->size;

	while (p < end && --line > 0)
		p += strlen(p) + 1;
	return p < end ? p : NULL;
}

const char *source_line(struct source *s, const char *file, int line)
{
	struct text *text;
	uint32_t id, copy;
	const char *p;
	size_t len;
	bool fresh;

	/* "<string>", "<frozen importlib._bootstrap>": names of no file. */
	if (!file[0] || file[0] == '<' || line < 1 || intern_add(s->names, file, strlen(file), &id))
		return NULL;
	text = map64_put(s->texts, id, &fresh);
	if (!text)
		return NULL;
	if (fresh)
		text_read(s, file, text);
	p = text->size ? text_line(text, line) : NULL;
	if (!p)
		return NULL;
	p += strspn(p, " \t\r\f");
	for (len = strlen(p); len && strchr(" \t\r\f", p[len - 1]); len--)
		;
	if (!len || intern_add(s->lines, p, len, &copy))
		return NULL;
	return intern_str(s->lines, copy);
}
