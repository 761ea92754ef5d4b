/* SPDX-License-Identifier: MIT */
/*
 * A line on the terminal for what takes long:
 *
 *     reading the heap: 43 %, 1.2 GiB of 2.8 GiB, 3.4 GB/s, 1 s left
 *
 * Shown after 2 s, ten times a second at most, within the terminal's width, and wiped away at the end. Where standard error is no terminal nothing is
 * ever written.
 */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "base/clock.h"

struct progress;

/* what: "reading the heap". fd: standard error. The time runs from here. -ENOMEM. */
int progress_new(const char *what, int fd, const struct clock *clock, struct progress **ret_progress);
/* Wipes the line. NULL does nothing. */
void progress_free(struct progress *progress);
DEFINE_CLEANUP(struct progress, progress_free)

/* ctx: a struct progress, or NULL. total_bytes 0: not known. Always 0, so that it can be the callback of census_options. */
int progress_update(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
