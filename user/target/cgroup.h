/* SPDX-License-Identifier: MIT */
/* Control groups by path, versions 1 and 2. Paths are those of /proc/PID/cgroup: below the root of the hierarchy. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * "/sys/fs/cgroup/system.slice/web.service", "/system.slice/web.service" and "system.slice/web.service/" are all
 * "/system.slice/web.service"; the root is "". Mounts are looked up in /proc/self/mountinfo. Owned by the caller.
 */
int cgroup_path(const char *path, char **ret_path);
/* The same with the text of mountinfo given. */
int cgroup_path_parse(const char *mountinfo, const char *path, char **ret_path);
/* Does the process live in the cgroup at path (of cgroup_path()), or below it, in any hierarchy? -ESRCH. */
int cgroup_has(pid_t pid, const char *path, bool *ret_has);
/* The part of it that reads the text of /proc/PID/cgroup. */
bool cgroup_text_has(const char *text, const char *path);
