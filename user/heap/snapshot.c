/* SPDX-License-Identifier: MIT */
/* What a snapshot is; snapshot_save.c writes it, snapshot_load.c reads it. */
#include "heap/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "target/proc.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

static char *read_boot_id(void)
{
	_cleanup_(closep) int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return NULL;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return strdup(text);
}

static char *read_host(void)
{
	char name[HOST_NAME_MAX + 1] = "";

	if (gethostname(name, sizeof(name)) || !name[0])
		return NULL;
	name[sizeof(name) - 1] = '\0';
	return strdup(name);
}

int snapshot_new(struct census *census, const struct python *python, struct timespec wall, struct snapshot **ret_snapshot)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	struct proc_stat stat;

	if (!s) {
		census_free(census);
		return -ENOMEM;
	}
	s->census = census;
	s->wall = wall;
	s->pid = python_pid(python);
	s->python = strdup(python_version(python));
	s->host = read_host();
	s->boot_id = read_boot_id();
	if (!proc_stat_read(s->pid, &stat))
		s->start_ticks = stat.start_ticks;
	proc_cmdline_read(s->pid, &s->cmdline);
	proc_container(s->pid, &s->container);
	*ret_snapshot = s;
	return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
	if (!snapshot)
		return;
	census_free(snapshot->census);
	strv_free(snapshot->cmdline);
	free(snapshot->python);
	free(snapshot->container);
	free(snapshot->host);
	free(snapshot->boot_id);
	free(snapshot);
}

bool snapshot_same_process(const struct snapshot *a, const struct snapshot *b)
{
	return a->pid == b->pid && a->start_ticks && a->start_ticks == b->start_ticks && a->boot_id && b->boot_id &&
	       !strcmp(a->boot_id, b->boot_id);
}

double snapshot_seconds_between(const struct snapshot *a, const struct snapshot *b)
{
	return (double)(b->wall.tv_sec - a->wall.tv_sec) + (double)(b->wall.tv_nsec - a->wall.tv_nsec) / 1e9;
}
