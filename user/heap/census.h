/* SPDX-License-Identifier: MIT */
/* Every live object of a process by type, and the blocks that are no objects. Read from outside; the process is not stopped. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "interp/python.h"

/* X(id, name in reports): blocks that belong to no object. */
#define CENSUS_NON_OBJECTS(X)                        \
	X(DICT_KEYS, "dict keys")                    \
	X(INSTANCE_VALUES, "instance values")        \
	X(LIST_ARRAY, "list array")                  \
	X(SET_TABLE, "set table")                    \
	X(BYTEARRAY_BUFFER, "bytearray buffer")      \
	X(DEQUE_BLOCK, "deque block")                \
	X(STR_DATA, "str data")                      \
	X(CODE, "code")                              \
	X(FREE_LIST, "free list")                    \
	X(UNKNOWN, "unknown")

enum census_non_object {
#define X(id, name) CENSUS_##id,
	CENSUS_NON_OBJECTS(X)
#undef X
	CENSUS_NON_OBJECT_COUNT
};

struct census_row {
	char *name;             /* of a type, qualified by its module: "app.Session", "dict"; owned. NULL in non_objects */
	uint64_t count;         /* live objects, or blocks */
	uint64_t bytes;         /* sum of sys.getsizeof() (GC head included), or of the blocks */
	uint64_t owned_bytes;   /* of bytes, what lies in other blocks: tables, arrays, buffers */
};

struct census {
	struct census_row *types;   /* by name (strcmp), no name twice */
	size_t n_types;
	struct census_row non_objects[CENSUS_NON_OBJECT_COUNT];
	uint64_t objects, bytes;    /* sums of types */
	uint64_t static_objects;    /* of objects, those in the images' own data: in no block */
	uint64_t blocks;            /* in use: objects - static_objects + the counts of non_objects */
	uint64_t block_bytes;       /* of all blocks in use, rounded up as the allocators do: objects, non-objects */
	bool small_only;            /* the process's libc is not glibc: objects in large blocks are missing, their number is in "unknown" */
	uint64_t retries, refused;  /* pools read again since they changed meanwhile; what made no sense three times and is missing */
	uint64_t read_bytes;        /* of the target's memory */
	double seconds;             /* that reading took */
};

struct census_options {
	/* Called about ten times a second; NULL: nobody looks. A negative errno ends the census with it. */
	int (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *ctx;
};

/* -ENOENT: objects come neither from pymalloc nor from malloc() (mimalloc, an allocator of its own); -ESRCH, -EPERM, -ENOMEM. */
int census_read(const struct python *python, const struct census_options *options, struct census **ret_census, struct err *err);
void census_free(struct census *census);
DEFINE_CLEANUP(struct census, census_free)
/* "dict keys" */
const char *census_non_object_name(enum census_non_object kind);
