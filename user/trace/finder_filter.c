/* SPDX-License-Identifier: MIT */
/*
 * Filters look at a process as it is when it is found. What a process says of itself (name, arguments) it can change; PID, user and cgroup
 * are the kernel's word.
 */
#include "trace/finder_filter.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "target/cgroup.h"
#include "target/proc.h"
#include "target/program_name.h"

struct finder_filter {
	pid_t *pids;           /* zero-terminated; NULL: all. The same below */
	char **comms;
	char **cgroups;        /* of cgroup_path() */
	uid_t *uids;
	size_t n_uids;
};

typedef int (*copy_fn)(const char *s, char **ret);

static int copy_plain(const char *s, char **ret)
{
	*ret = strdup(s);
	return *ret ? 0 : -ENOMEM;
}

static int copy_strings(const char *const *strings, copy_fn copy, char ***ret)
{
	size_t n = 0;
	int r = 0;

	if (!strings)
		return 0;
	while (strings[n])
		n++;
	*ret = calloc(n + 1, sizeof(**ret));
	for (size_t i = 0; *ret && i < n && r == 0; i++)
		r = copy(strings[i], &(*ret)[i]);
	return *ret ? r : -ENOMEM;
}

static int copy_numbers(const void *numbers, size_t size, void *ret)
{
	void *copy;

	if (!numbers)
		return 0;
	copy = malloc(size ?: 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, numbers, size);
	*(void **)ret = copy;
	return 0;
}

int finder_filter_new(const struct finder_options *options, struct finder_filter **ret_filter)
{
	_cleanup_(finder_filter_freep) struct finder_filter *filter = calloc(1, sizeof(*filter));
	size_t n_pids = 0;
	int r;

	if (!filter)
		return -ENOMEM;
	while (options->pids && options->pids[n_pids])
		n_pids++;
	r = copy_numbers(options->pids, (n_pids + 1) * sizeof(pid_t), &filter->pids);
	if (r == 0)
		r = copy_numbers(options->n_uids ? options->uids : NULL, options->n_uids * sizeof(uid_t), &filter->uids);
	if (r == 0)
		r = copy_strings(options->comms, copy_plain, &filter->comms);
	if (r == 0)
		r = copy_strings(options->cgroups, cgroup_path, &filter->cgroups);
	if (r < 0)
		return r;
	filter->n_uids = options->n_uids;
	*ret_filter = take_ptr(filter);
	return 0;
}

void finder_filter_free(struct finder_filter *filter)
{
	if (!filter)
		return;
	strv_free(filter->comms);
	strv_free(filter->cgroups);
	free(filter->pids);
	free(filter->uids);
	free(filter);
}

static bool matches(char *const *globs, const char *name)
{
	for (; name && *globs; globs++)
		if (!fnmatch(*globs, name, 0))
			return true;
	return false;
}

/* name: a part of a command line, not copied; NULL: none. */
static bool matches_base_name(char *const *globs, const char *name, size_t len)
{
	_cleanup_(freep) char *copy = name ? strndup(name, len) : NULL;

	return matches(globs, copy);
}

static bool passes_comm(const struct finder_filter *filter, const struct found *found)
{
	bool passes = matches(filter->comms, found->comm);
	char **argv = NULL;
	const char *name;
	size_t len;

	if (passes || proc_cmdline_read(found->id.pid, &argv) < 0)
		return passes;
	name = program_file((const char *const *)argv, &len);
	passes = matches_base_name(filter->comms, name, len);
	name = program_script((const char *const *)argv, &len);
	passes = passes || matches_base_name(filter->comms, name, len);
	strv_free(argv);
	return passes;
}

static bool passes_cgroup(const struct finder_filter *filter, const struct found *found)
{
	bool has = false;

	for (char **path = filter->cgroups; *path && !has; path++)
		if (cgroup_has(found->id.pid, *path, &has) < 0)
			return false;
	return has;
}

static bool passes_uid(const struct finder_filter *filter, uid_t uid)
{
	for (size_t i = 0; i < filter->n_uids; i++)
		if (filter->uids[i] == uid)
			return true;
	return false;
}

bool finder_filter_pid(const struct finder_filter *filter, pid_t pid)
{
	if (!filter->pids)
		return true;
	for (const pid_t *p = filter->pids; *p; p++)
		if (*p == pid)
			return true;
	return false;
}

bool finder_filter_passes(const struct finder_filter *filter, const struct found *found)
{
	return finder_filter_pid(filter, found->id.pid) && (!filter->uids || passes_uid(filter, found->uid)) &&
	       (!filter->comms || passes_comm(filter, found)) && (!filter->cgroups || passes_cgroup(filter, found));
}
