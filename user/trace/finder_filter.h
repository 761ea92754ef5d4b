/* SPDX-License-Identifier: MIT */
/* Which processes are meant: the filters of struct finder_options, copied. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "trace/finder.h"

struct finder_filter;

int finder_filter_new(const struct finder_options *options, struct finder_filter **ret_filter);
void finder_filter_free(struct finder_filter *filter);
DEFINE_CLEANUP(struct finder_filter, finder_filter_free)

/* Without a look at the process: may one of this PID pass? */
bool finder_filter_pid(const struct finder_filter *filter, pid_t pid);
/* A process that is gone passes none that must look at it. */
bool finder_filter_passes(const struct finder_filter *filter, const struct found *found);
