/* SPDX-License-Identifier: MIT */
/*
 * Source lines of the target's files, for the eyes of a reader: best effort,
 * through /proc/PID/root (relative names through /proc/PID/cwd). Bounded: files
 * over 4 MiB, devices and pipes are not opened, nor what the target's user may
 * not read; at most 64 MiB is kept.
 */
#pragma once

#include <sys/types.h>

#include "base/cleanup.h"

struct source;

int source_new(pid_t pid, struct source **ret_source);
void source_free(struct source *source);
DEFINE_CLEANUP(struct source, source_free)

/* The line (from 1) without the white space around it; NULL if it cannot be read. Good as long as source lives. */
const char *source_line(struct source *source, const char *file, int line);
