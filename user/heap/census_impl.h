/* SPDX-License-Identifier: MIT */
/* What the files of the census share. Private to them. */
#pragma once

#include "base/map64.h"
#include "heap/census.h"
#include "heap/census_marks.h"
#include "heap/pools.h"
#include "interp/block_object.h"
#include "interp/object_size.h"

/*
 * A mark: in bits 0 to 2 what an object claims the block to be, a census_non_object + 1 (0: nobody claims it); bit 3: a small block that
 * is live and no object, a large one that an object claims without a name for it.
 */
#define MARK_CLAIM 7u
#define MARK_NO_OBJECT 8u
#define MARK_OTHER 8u

/* Where an object lies, and what it takes there. */
struct census_place {
	raddr_t block;        /* null: static storage */
	uint64_t bytes;       /* of the block, as its allocator rounds */
	bool large;           /* a chunk of libc's heap */
};

struct census_tally {
	uint64_t count, bytes, owned_bytes;
};

/* A large block that is no object (or none that makes sense). */
struct census_chunk {
	raddr_t block;
	uint64_t bytes;
};

struct census_wait;

struct census_work {
	const struct python *python;
	const struct census_options *options;
	struct types *types;
	struct object_sizes *sizes;
	struct marks *marks;
	struct map64 *code;              /* a set: blocks that code objects own */
	struct pool_reader *reader;      /* NULL: no pymalloc */
	struct census_tally *tallies;    /* by type */
	uint32_t tallies_room;
	struct census_wait *waiting;     /* objects that need more bytes */
	size_t n_waiting, waiting_room;
	uint64_t *owned;                 /* buffers that may be objects */
	size_t n_owned, owned_room;
	struct census_chunk *chunks;
	size_t n_chunks, chunks_room;
	struct census *census;           /* the answer: totals are counted up here */
	uint64_t large_blocks;           /* known to be the interpreter's: objects, or claimed by one */
	uint64_t deque_blocks;           /* that may still be followed: a circle of them must come to an end */
	uint64_t long_steps;             /* questions that may still be asked about objects with more than a few: garbage has many */
	uint64_t done_bytes, total_bytes;
	uint64_t started_ns, told_ns;
};

/* census_objects.c: an object whose first len bytes, from ob_refcnt, are in bytes; front: what its block has before it stands before bytes.
 * 0, -ENOMEM, -ESRCH, -EPERM. */
int census_add_object(struct census_work *work, uint32_t type, raddr_t addr, const uint8_t *bytes, size_t len, bool front,
		      const struct census_place *place);
/* Completes the objects that wait for bytes. */
int census_settle(struct census_work *work);
/* census_owned.c: a buffer that may be an object; after all passes such buffers are taken out of the objects. */
int census_add_owned(struct census_work *work, raddr_t addr, enum census_non_object kind);
int census_take_out_owned(struct census_work *work);
/* What a block that is no object is by its mark: CENSUS_UNKNOWN if nobody claims it, or nobody has a name for it. */
enum census_non_object census_claimed_as(struct census_work *work, raddr_t block, uint8_t mark);
/* A block that is live, and no object. */
int census_add_no_object(struct census_work *work, const struct census_place *place);
/* done_bytes more are done: tells who looks, ten times a second. */
int census_progress(struct census_work *work, uint64_t done_bytes);
void census_objects_clear(struct census_work *work);
/* Makes room for one more than n elements of size bytes in *(type **)array. */
int census_grow(void *array, size_t n, size_t *room, size_t size);

/* The passes; each finds objects and says what is none. */
int census_pools(struct census_work *work, const struct pool_list *list);
int census_large(struct census_work *work, bool pymalloc);
int census_static(struct census_work *work);
/* After all passes: by whom the blocks that are no objects are claimed. */
void census_count_pools(struct census_work *work, const struct pool_list *list);
int census_count_large(struct census_work *work, bool pymalloc);

/* census_rows.c: tallies become rows by name. */
int census_make_rows(struct census_work *work);
