/* SPDX-License-Identifier: MIT */
/* Reading the text files of /proc whole, and their errors in one sense. Inside target/ only. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* The content of /proc/PID/<name>, NUL-terminated (the NUL is not counted; there may be others inside). -ESRCH when the process is
 * gone, -EFBIG when there is more than max bytes. */
int procfile_read(pid_t pid, const char *name, size_t max, char **ret_text, size_t *ret_len);
/* The same, cut after max bytes. */
int procfile_read_some(pid_t pid, const char *name, size_t max, char **ret_text, size_t *ret_len);
/* The target of the link /proc/PID/<name>. -ENOENT where the link is there but leads nowhere (kernel threads, zombies). */
int procfile_link(pid_t pid, const char *name, char **ret_target);
/* -ENOENT under /proc/PID means that the process is gone: says -ESRCH then, unless the process is there after all. */
int procfile_errno(pid_t pid, int err);
