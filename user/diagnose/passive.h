/* SPDX-License-Identifier: MIT */
/*
 * One process watched from outside, for weeks, at next to no cost: what its memory comes to, how that grows, and how suspicious that is.
 * Nothing is written into it, no probe stands in it. Readings are cheap (RSS and what the kernel counts, pymalloc's arenas by their
 * headers); a balance sheet, which is not, is drawn seldom, and oftener of what grows. Old readings are folded into coarser ones: the
 * memory a process takes here is fixed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "diagnose/watched.h"

struct passive;

/*
 * Reads the process's Python, 0.2 to 1 ms. -ENOEXEC: it has none (yet; one that is still starting among them); -ENOTSUP: none that is known;
 * -ESRCH: gone, or another process has its PID; -EPERM, -EACCES; -EMFILE: it takes two descriptors. seed: when its readings fall is left to
 * chance.
 */
int passive_new(struct process_id id, uint64_t now_ns, uint64_t seed, struct passive **ret_passive, struct err *err);
void passive_free(struct passive *passive);
DEFINE_CLEANUP(struct passive, passive_free)

/* Slots that a tracer had armed when it was opened: one at work, or one that was killed and left them (trace/arm.h). */
size_t passive_armed(const struct passive *passive);

/* When the next reading is due, CLOCK_MONOTONIC. */
uint64_t passive_next_ns(const struct passive *passive);
/*
 * Makes it, and fills w's memory, arenas, live, fragmentation, growth and python. may_ns: processor time that may be spent now; a balance sheet
 * that would cost more waits. -ESRCH: gone, or it runs another program. -EMFILE, -ENOMEM: no reading this time, the next one is due as always.
 */
int passive_step(struct passive *passive, uint64_t now_ns, uint64_t may_ns, struct watched *w);

/*
 * How much it looks like growing for ever: bytes a second that it keeps and that do not level off, as far as can be told from outside;
 * 0: it does not grow. A process that was high before and comes back there (sawtooth), that fills its caches or starts up has little of it.
 */
double passive_suspicion(const struct passive *passive);
/* Bytes held by this one. */
uint64_t passive_own_bytes(const struct passive *passive);
