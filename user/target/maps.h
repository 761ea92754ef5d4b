/* SPDX-License-Identifier: MIT */
/* The mappings of a process, sorted by address. The text of /proc/PID/maps is untrusted (a path may hold anything). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct map {
	uint64_t start, end;   /* [start, end) */
	uint64_t offset;       /* in the file, bytes */
	uint64_t dev, inode;   /* dev as makedev(3); inode 0: no file */
	bool read, write, exec, shared;
	bool deleted;          /* the path ended in " (deleted)" */
	const char *path;      /* "" for anonymous; "[heap]" etc. as the kernel writes it; without " (deleted)"; owned by struct maps */
};

struct maps;

/* -ESRCH gone, -EACCES not ours to read. A kernel thread or a zombie has no mappings: 0 and an empty list. */
int maps_load(pid_t pid, struct maps **ret_maps);
/* Refuses (-EINVAL) text that is not maps; tolerates a torn last line. */
int maps_parse(const char *text, size_t len, struct maps **ret_maps);
void maps_free(struct maps *maps);
DEFINE_CLEANUP(struct maps, maps_free)

size_t maps_count(const struct maps *maps);
const struct map *maps_get(const struct maps *maps, size_t index);
/* The mapping that holds addr, or NULL. */
const struct map *maps_at(const struct maps *maps, uint64_t addr);
