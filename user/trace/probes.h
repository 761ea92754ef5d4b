/* SPDX-License-Identifier: MIT */
/*
 * The uprobes of one process, as a set: noted one by one, attached together,
 * detached together. Where the kernel has multi-uprobe links (asked of it from
 * Linux 6.12 on, since when they filter by process and not by thread) the set is
 * two links, one for entries and one for returns; else it is a perf event a
 * probe. The difference is time: the kernel waits some 80 ms for each that goes.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "../bpf/control.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"
#include "target/image.h"
#include "trace/session.h"

struct probes;

/* image must outlive the set. */
int probes_new(const struct image *image, struct probes **ret_probes);
void probes_free(struct probes *probes);
DEFINE_CLEANUP(struct probes, probes_free)

/* Notes a probe at addr, with on_return at the return of the call that passes there (the stack pointer must point at the return address). */
int probes_add(struct probes *probes, raddr_t addr, bool on_return, uint64_t cookie, struct err *err);
/* Attaches all that were noted, in pid alone. */
int probes_attach(struct probes *probes, struct session *session, pid_t pid, struct err *err);
/* One probe on an instruction of our own, attached at once: to measure what a hit costs. */
int probes_attach_self(struct session *session, const void *insn, uint64_t cookie, struct probes **ret_probes);
void probes_detach(struct probes *probes);
