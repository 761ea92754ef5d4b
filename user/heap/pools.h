/* SPDX-License-Identifier: MIT */
/* Reading pymalloc's pools whole from a running process: a list of them, then snapshots that hold together. */
#pragma once

#include "interp/pool.h"

struct pool_ref {
	raddr_t addr;
	uint32_t size_class, live;   /* as of the list */
};

struct pool_list {
	struct pool_ref *pools;      /* by address, unless several interpreters have arenas */
	size_t count, room;
	uint64_t refused;            /* entries that made no sense */
};

/* All pools with live blocks. -ENOENT: no pymalloc; -ESRCH, -EPERM, -ENOMEM. */
int pool_list_read(const struct python *python, struct pool_list *list);
void pool_list_clear(struct pool_list *list);

struct pool_look {
	size_t index;                /* in what was asked for */
	raddr_t addr;
	const uint8_t *bytes;        /* the whole pool */
	struct pool_head head;
	struct pool_free free;       /* head.live + free = head.carved holds */
};

/* A negative errno ends the reading. The look is good until it returns. */
typedef int (*pool_look_fn)(void *ctx, const struct pool_look *look);

struct pool_reader_stats {
	uint64_t read, bytes;        /* pools, and bytes of all tries */
	uint64_t torn;               /* changed while they were read, three times */
	uint64_t gone;               /* empty or unmapped when they were read */
	uint64_t retries;            /* pools read again */
};

struct pool_reader;

/* It remembers the last `remembered` pools (rounded up), for pool_reader_find(). -ENOMEM; -EPROTO: impossible sizes in the layout. */
int pool_reader_new(const struct python *python, size_t remembered, struct pool_reader **ret_reader);
void pool_reader_free(struct pool_reader *reader);
DEFINE_CLEANUP(struct pool_reader, pool_reader_free)
/* 0, -ESRCH, -EPERM, or what fn said. */
int pool_reader_read(struct pool_reader *reader, const struct pool_ref *pools, size_t count, pool_look_fn fn, void *ctx);
/* len bytes at addr as they were when their pool was read, if that is not long ago; NULL: not remembered. Good until the next read. */
const uint8_t *pool_reader_find(const struct pool_reader *reader, raddr_t addr, size_t len);
const struct pool_reader_stats *pool_reader_stats(const struct pool_reader *reader);
