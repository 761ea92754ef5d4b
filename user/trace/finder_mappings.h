/* SPDX-License-Identifier: MIT */
/*
 * Who maps a libpython: programs that load an interpreter long after their start. perf's records of executable mappings, of all processes, on
 * all processors that are on line; nothing is added to any system call but the record of an executable mapping itself.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct finder_mappings;

typedef void (*finder_mapped_fn)(void *ctx, pid_t pid);

/*
 * map_fd: a BPF map of type PERF_EVENT_ARRAY, which libbpf wants and nobody reads. pages: of each processor's buffer, a power of two; at_once:
 * the descriptor wakes for each record, else only for a buffer half full. -EPERM, -EACCES.
 */
int finder_mappings_new(int map_fd, uint32_t pages, bool at_once, finder_mapped_fn on_mapped, void *ctx, struct finder_mappings **ret_mappings);
void finder_mappings_free(struct finder_mappings *mappings);
DEFINE_CLEANUP(struct finder_mappings, finder_mappings_free)

int finder_mappings_fd(const struct finder_mappings *mappings);
int finder_mappings_read(struct finder_mappings *mappings);
uint64_t finder_mappings_lost(const struct finder_mappings *mappings);
