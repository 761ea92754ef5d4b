/* SPDX-License-Identifier: MIT */
/* The type objects of one process: is an address one, what is it called, and how do its objects lie in their blocks? */
#pragma once

#include "interp/python.h"

#define TYPES_MAX 65535u   /* types remembered; more are answered with 0 and counted */
#define TYPES_NAME_MAX 512 /* bytes of a name, cut if longer */

struct types;
struct arenas;

/* What of an object never changes while it lives, so that a change tells of reuse. */
enum type_contents {
	CONTENTS_MUTABLE,   /* nothing but its type */
	CONTENTS_HEAD,      /* the first head_bytes behind the object header */
	CONTENTS_INT,
	CONTENTS_STR,
	CONTENTS_BYTES,
	CONTENTS_TUPLE,
	CONTENTS_CODE,
};

struct type_facts {
	raddr_t addr;
	raddr_t base;        /* tp_base; 0: none */
	uint32_t front;      /* bytes from the start of a block to the object: 0, 16 (GC head), 32 (and pre-header) */
	uint32_t basicsize, itemsize;
	uint64_t flags;      /* tp_flags as read first */
	bool has_gc;
	bool preheader;      /* managed dict or managed weak references before the GC head */
	bool heap;           /* made at run time: a class, or a type of a newer C extension */
	bool immutable;      /* contents != CONTENTS_MUTABLE */
	enum type_contents contents;
	uint32_t head_bytes; /* of CONTENTS_HEAD */
};

int types_new(const struct python *python, struct types **ret_types);
void types_free(struct types *types);
DEFINE_CLEANUP(struct types, types_free)

/*
 * A new look at the process begins: what was found before is checked again at its next use (an address may belong to another
 * type by now), addresses that were no types are forgotten, and the arenas are read anew. 0 or a negative errno of that.
 */
int types_refresh(struct types *types);
/* The id of the type object at addr, dense from 1; 0 if there is none. An address that another type took over gets a new id. */
uint32_t types_find(struct types *types, raddr_t addr);
/* "app.Session"; builtins without module ("dict"); "?" for an id never given out. Good for as long as types lives. */
const char *types_name(const struct types *types, uint32_t id);
/* NULL for an id never given out. Good until the next types_find(). */
const struct type_facts *types_facts(const struct types *types, uint32_t id);
uint32_t types_count(const struct types *types);     /* highest id */
uint64_t types_refused(const struct types *types);   /* type objects turned away because of TYPES_MAX */
/* The arenas as of the last types_refresh(). */
struct arenas *types_arenas(const struct types *types);
/* Bytes that debug hooks (PYTHONMALLOC=debug, -X dev) put before and after what the caller gets; 0 without hooks. */
uint32_t types_debug_front(const struct types *types);
uint32_t types_debug_back(const struct types *types);
const struct python *types_python(const struct types *types);
