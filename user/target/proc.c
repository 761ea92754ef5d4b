/* SPDX-License-Identifier: MIT */
/*
 * One process as /proc shows it: state, memory, arguments. Limits: a kernel
 * before 4.14 has no smaps_rollup; memory is then unknown (-ENOENT).
 */
#include "target/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/procfile.h"

#define STAT_MAX 4096
#define PF_EXITING 4u   /* include/linux/sched.h */
#define TEXT_MAX 65536
#define ARGV_MAX 4096
#define CMDLINE_MAX (1u << 20)

/* The comm of a stat line may hold anything, even ") R 1": it ends at the last ')'. */
static const char *take_comm(const char *text, struct proc_stat *stat)
{
	const char *open = strchr(text, '('), *close = strrchr(text, ')');
	size_t len;

	if (!open || !close || close < open)
		return NULL;
	len = (size_t)(close - open - 1);
	if (len >= sizeof(stat->comm))
		len = sizeof(stat->comm) - 1;
	memcpy(stat->comm, open + 1, len);
	stat->comm[len] = '\0';
	return close + 1;
}

int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret_stat)
{
	char copy[STAT_MAX + 1];
	struct proc_stat stat = { 0 };
	const char *rest;
	uint32_t flags;
	char after;

	if (len > STAT_MAX || (len && memchr(text, '\0', len)))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	rest = take_comm(copy, &stat);
	if (!rest || sscanf(copy, "%d%c", &stat.pid, &after) != 2 || after != ' ')
		return -EINVAL;
	/* Fields 3 (state), 4 (ppid), 9 (flags), 20 (num_threads), 22 (starttime); the others are passed over. */
	if (sscanf(rest, " %c %d %*s %*s %*s %*s %" SCNu32 " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" SCNu32 " %*s %" SCNu64,
		   &stat.state, &stat.ppid, &flags, &stat.num_threads, &stat.start_ticks) != 5)
		return -EINVAL;
	stat.exiting = flags & PF_EXITING;
	*ret_stat = stat;
	return 0;
}

uint64_t proc_tick_ns(void)
{
	return 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
}

uint64_t proc_age_ns(uint64_t start_ticks)
{
	uint64_t start_ns = start_ticks * proc_tick_ns(), now_ns;
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	now_ns = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	return now_ns > start_ns ? now_ns - start_ns : 0;
}

int proc_stat_read(pid_t pid, struct proc_stat *ret_stat)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read(pid, "stat", STAT_MAX, &text, &len);
	return r < 0 ? r : proc_stat_parse(text, len, ret_stat);
}

/* "Name:    123 kB" somewhere in the text, as bytes. */
static int field_kib(const char *text, const char *name, uint64_t *ret_bytes)
{
	size_t len = strlen(name);
	uint64_t kib;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, name, len) || line[len] != ':')
			continue;
		if (sscanf(line + len + 1, "%" SCNu64 " kB", &kib) != 1 || kib > UINT64_MAX / 1024)
			return -EINVAL;
		*ret_bytes = kib * 1024;
		return 0;
	}
	return -ENOENT;
}

int proc_memory_read(pid_t pid, struct proc_memory *ret_memory)
{
	_cleanup_(freep) char *text = NULL;
	struct proc_memory memory = { 0 };
	size_t len;
	int r;

	r = procfile_read(pid, "smaps_rollup", TEXT_MAX, &text, &len);
	if (r < 0)
		return r;
	r = field_kib(text, "Rss", &memory.rss_bytes);
	if (r == 0)
		r = field_kib(text, "Pss", &memory.pss_bytes);
	if (r == 0)
		r = field_kib(text, "Anonymous", &memory.anon_bytes);
	if (r == 0)
		r = field_kib(text, "Swap", &memory.swap_bytes);
	if (r < 0)
		return r;
	*ret_memory = memory;
	return 0;
}

/* The name in the first line cannot hold a newline: the kernel escapes it. Cuts the text into lines. */
static struct proc_counters counters_parse(char *text)
{
	struct proc_counters c = { 0 };
	const struct {
		const char *name;
		uint64_t *bytes;
	} fields[] = {
		{ "VmHWM:", &c.highwater_bytes }, { "VmRSS:", &c.rss_bytes },     { "RssAnon:", &c.anon_bytes },
		{ "RssShmem:", &c.shmem_bytes },  { "VmSwap:", &c.swap_bytes },
	};

	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		for (size_t i = 0; (line[0] == 'V' || line[0] == 'R') && i < sizeof(fields) / sizeof(fields[0]); i++)
			if (strncmp(line, fields[i].name, strlen(fields[i].name)) == 0)
				*fields[i].bytes = strtoull(line + strlen(fields[i].name), NULL, 10) * 1024;
	}
	return c;
}

int proc_counters_read(pid_t pid, struct proc_counters *ret_counters)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = procfile_read(pid, "status", TEXT_MAX, &text, &len);

	if (r == 0)
		*ret_counters = counters_parse(text);
	return r;
}

int proc_counters_open(pid_t pid)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 ? fd : errno == ENOENT ? -ESRCH : -errno;
}

/* What stands before the counters is as long as the process has groups. */
int proc_counters_again(int fd, struct proc_counters *ret_counters)
{
	char text[TEXT_MAX];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return n < 0 && errno != ENOENT ? -errno : -ESRCH;
	text[n] = '\0';
	*ret_counters = counters_parse(text);
	return 0;
}

int proc_cpu_read(pid_t pid, uint64_t *ret_ns)
{
	struct timespec ts;
	clockid_t clock;
	int r = clock_getcpuclockid(pid, &clock);

	if (r)
		return -r;
	if (clock_gettime(clock, &ts))
		return errno == EINVAL ? -ESRCH : -errno;
	*ret_ns = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	return 0;
}

int proc_rss_read(pid_t pid, uint64_t *ret_bytes)
{
	_cleanup_(freep) char *text = NULL;
	uint64_t pages;
	size_t len;
	int r;

	r = procfile_read(pid, "statm", STAT_MAX, &text, &len);
	if (r < 0)
		return r;
	if (sscanf(text, "%*s %" SCNu64, &pages) != 1)
		return -EINVAL;
	*ret_bytes = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int proc_uid(pid_t pid, uid_t *ret_uid)
{
	_cleanup_(freep) char *text = NULL;
	const char *line;
	unsigned int uid;
	size_t len;
	int r;

	r = procfile_read(pid, "status", TEXT_MAX, &text, &len);
	if (r < 0)
		return r;
	/* A newline in the name of line 1 is escaped by the kernel, so this is the field. */
	line = strstr(text, "\nUid:");
	if (!line || sscanf(line + 5, "%u", &uid) != 1)
		return -EINVAL;
	*ret_uid = uid;
	return 0;
}

void strv_free(char **strv)
{
	if (!strv)
		return;
	for (char **s = strv; *s; s++)
		free(*s);
	free(strv);
}

static void strv_freep(char ***strv)
{
	strv_free(*strv);
}

/* NUL-terminated arguments, the last one perhaps without its NUL when the target wrote over its own argv. */
static int split_argv(const char *text, size_t len, char ***ret_argv)
{
	_cleanup_(strv_freep) char **argv = NULL;
	size_t count = 0, at = 0;

	argv = calloc(ARGV_MAX + 1, sizeof(*argv));
	if (!argv)
		return -ENOMEM;
	while (at < len && count < ARGV_MAX) {
		size_t size = strnlen(text + at, len - at);

		argv[count] = strndup(text + at, size);
		if (!argv[count])
			return -ENOMEM;
		count++;
		at += size + 1;
	}
	*ret_argv = take_ptr(argv);
	return 0;
}

/* The first CMDLINE_MAX bytes are enough: what is longer is cut, not refused. */
int proc_cmdline_read(pid_t pid, char ***ret_argv)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read_some(pid, "cmdline", CMDLINE_MAX, &text, &len);
	return r < 0 ? r : split_argv(text, len, ret_argv);
}
