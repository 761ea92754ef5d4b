/* SPDX-License-Identifier: MIT */
/*
 * Which cgroup a process lives in. A line of /proc/PID/cgroup is "N:controllers:/path", of version 2 "0::/path"; paths are as seen from the
 * cgroup namespace of the reader. Limits: mount points with spaces or backslashes in their names are not recognised.
 */
#include "target/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "target/procfile.h"

#define MOUNTINFO_MAX (4u << 20)
#define CGROUP_MAX 65536

/* Is path at or below top? top "" is the root. */
static bool is_below(const char *path, const char *top, size_t len)
{
	return !strncmp(path, top, len) && (path[len] == '/' || path[len] == '\0');
}

/* The longest mount point of a cgroup hierarchy that path lies below: its length, and the mount's root. 0: none. */
static size_t find_mount(const char *mountinfo, const char *path, char ret_root[static PATH_MAX])
{
	char root[PATH_MAX], point[PATH_MAX];
	size_t best = 0;

	for (const char *line = mountinfo; line && *line; line = strchr(line, '\n'), line += line != NULL) {
		const char *end = strchr(line, '\n'), *type = strstr(line, " - cgroup");
		size_t len;

		if (!type || (end && type > end) || sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) != 2)
			continue;
		len = strlen(point);
		if (len <= best || !is_below(path, point, len))
			continue;
		best = len;
		memcpy(ret_root, root, sizeof(root));
	}
	return best;
}

/* Appends the components of path, each with one slash before it. */
static void append_clean(char *to, const char *path)
{
	size_t at = strlen(to);

	for (; *path; path++)
		if (*path != '/')
			to[at++] = *path;
		else if (path[1] && path[1] != '/')
			to[at++] = '/';
	to[at] = '\0';
}

int cgroup_path_parse(const char *mountinfo, const char *path, char **ret_path)
{
	char root[PATH_MAX] = "", *clean;
	size_t skip = find_mount(mountinfo, path, root), size = strlen(root) + strlen(path) + 2;

	clean = calloc(1, size);
	if (!clean)
		return -ENOMEM;
	if (skip)
		append_clean(clean, root);
	if (path[skip] != '/' && path[skip])
		strcat(clean, "/");
	append_clean(clean, path + skip);
	*ret_path = clean;
	return 0;
}

int cgroup_path(const char *path, char **ret_path)
{
	_cleanup_(freep) char *mountinfo = NULL;
	_cleanup_(freep) char *real = NULL;
	size_t len;
	int r;

	r = procfile_read(getpid(), "mountinfo", MOUNTINFO_MAX, &mountinfo, &len);
	if (r < 0)
		return r;
	/* Version 1 has links beside its mounts: cpu -> cpu,cpuacct. A path below the hierarchy's root leads nowhere here. */
	if (path[0] == '/')
		real = realpath(path, NULL);
	return cgroup_path_parse(mountinfo, real ?: path, ret_path);
}

bool cgroup_text_has(const char *text, const char *path)
{
	size_t len = strlen(path);
	_cleanup_(freep) char *copy = strdup(text);
	char *save = NULL;

	if (!copy)
		return false;
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *its = strchr(line, ':');

		its = its ? strchr(its + 1, ':') : NULL;
		if (its && is_below(its + 1, path, len))
			return true;
	}
	return false;
}

int cgroup_has(pid_t pid, const char *path, bool *ret_has)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r;

	r = procfile_read(pid, "cgroup", CGROUP_MAX, &text, &len);
	if (r < 0)
		return r;
	*ret_has = cgroup_text_has(text, path);
	return 0;
}
