/* SPDX-License-Identifier: MIT */
#include "track/sampling.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/map64.h"
#include "interp/dict_keys.h"
#include "track/codes.h"
#include "track/key_tables.h"

/* One check of survivors looks at no more, so that windows are not kept waiting. */
#define LOOKS_AT_ONCE 1024

struct sampling {
	struct map64 *waiting;     /* address -> struct survivor: of windows still open, without weight */
	struct survivors *survivors;
	struct types *types;
	struct blocks *blocks;
	struct codes *codes;
	struct large_free *large_frees;   /* a ring */
	uint64_t n_large_frees;
	float large_weight;               /* of the large group's last window */
	double large_bytes;
	uint64_t freed_addr, freed_waiting;   /* the last free told of */
	struct survivor freed;                /* what was known of it; addr 0: nothing */
	struct moves *moves;
	uint64_t strays;
	uint64_t key_table_size;   /* of dicts, where it goes through a free list; 0: unknown */
	bool sees_objects;
	/* of sampling_on_window() */
	struct stacks *stacks;
	int error;
};

int sampling_new(const struct python *python, size_t max, struct sampling **ret_sampling)
{
	_cleanup_(sampling_freep) struct sampling *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->large_weight = 1;
	s->large_frees = calloc(LARGE_FREES_MAX, sizeof(*s->large_frees));
	if (!s->large_frees)
		return -ENOMEM;
	r = map64_new(sizeof(struct survivor), &s->waiting);
	if (!r)
		r = moves_new(&s->moves);
	if (!r)
		r = survivors_new(max, &s->survivors);
	if (!r)
		r = types_new(python, &s->types);
	if (!r)
		r = blocks_new(python, s->types, &s->blocks);
	if (!r)
		r = codes_new(python, &s->codes);
	if (r)
		return r;
	s->key_table_size = dict_keys_free_list_size(python);
	*ret_sampling = take_ptr(s);
	return 0;
}

void sampling_free(struct sampling *s)
{
	if (!s)
		return;
	map64_free(s->waiting);
	moves_free(s->moves);
	survivors_free(s->survivors);
	blocks_free(s->blocks);
	codes_free(s->codes);
	types_free(s->types);
	free(s->large_frees);
	free(s);
}

/* flags: EVENT_F_* of an ALLOC. */
static int wait_for_window(struct sampling *s, uint64_t addr, uint64_t bytes, uint32_t flags, uint32_t stack, uint64_t time_ns)
{
	struct survivor *b = map64_put(s->waiting, addr, NULL);

	if (!b)
		return -ENOMEM;
	if (b->time_ns > time_ns)
		return 0;
	*b = (struct survivor){
		.addr = addr,
		.time_ns = time_ns,
		.size = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX,
		.stack = stack,
		.large = flags & EVENT_F_LARGE ? 1 : 0,
		.moved = flags & EVENT_F_LARGE && flags & EVENT_F_REALLOC ? 1 : 0,
		.object = flags & EVENT_F_OBJECT ? 1 : 0,
	};
	return 0;
}

void sampling_know_objects(struct sampling *s, bool seen)
{
	s->sees_objects = seen;
}

static bool is_type(const struct sampling *s, uint32_t type, const char *const *names)
{
	const char *name = types_name(s->types, type);

	for (; *names; names++)
		if (!strcmp(name, *names))
			return true;
	return false;
}

bool sampling_is_second_hand(const struct sampling *s, const struct survivor *b)
{
	/* Objects/{dict,list,tuple,float}object.c; the other free lists hold less than one can leak. */
	static const char *const listed[] = { "dict", "list", "tuple", "float", NULL };

	if (b->object || b->large)
		return false;
	if (!b->type)
		return b->size && b->size == s->key_table_size;
	return !s->sees_objects && is_type(s, b->type, listed);
}

bool sampling_is_new_dict(const struct sampling *s, const struct survivor *b)
{
	static const char *const dict[] = { "dict", NULL };

	return b->object && b->type && is_type(s, b->type, dict);
}

int sampling_on_alloc(struct sampling *s, const struct event_alloc *e, uint32_t stack)
{
	if (!e->addr)
		return -EBADMSG;
	return wait_for_window(s, e->addr, e->size, e->hdr.flags, stack, e->hdr.time_ns);
}

static void note_large_free(struct sampling *s, const struct event_block *e, uint32_t stack)
{
	const struct survivor *known = s->freed.addr ? &s->freed : NULL;

	s->large_bytes -= (double)s->large_weight * (double)e->size;
	/* Another block takes its place, though the window may end before that is seen: nothing was given back. */
	if (e->hdr.flags & EVENT_F_REALLOC) {
		moves_leave(s->moves, stack, e->hdr.time_ns, known && known->large ? known->size : e->size, known);
		return;
	}
	s->large_frees[s->n_large_frees++ % LARGE_FREES_MAX] = (struct large_free){
		.time_ns = e->hdr.time_ns,
		.born_ns = known ? known->time_ns : 0,
		.bytes = e->size,
		.stack = stack,
		.weight = s->large_weight,
	};
}

/* A large block may be told of twice: by the domain it was freed through, and by the raw domain, which knows its size. */
void sampling_on_free(struct sampling *s, const struct event_block *e, uint32_t stack)
{
	const struct survivor *b = map64_get(s->waiting, e->addr);
	bool waiting = b && b->time_ns <= e->hdr.time_ns, again = s->freed_addr == e->addr;
	struct survivor freed = { 0 };

	if (waiting)
		map64_remove(s->waiting, e->addr, NULL);
	else if (survivors_freed(s->survivors, e->addr, e->hdr.time_ns, &freed) || !again)
		s->freed = freed;
	if (e->hdr.flags & EVENT_F_LARGE && !waiting && e->size && s->freed_waiting != e->addr)
		note_large_free(s, e, stack);
	s->freed_addr = e->addr;
	s->freed_waiting = waiting ? e->addr : 0;
}

void sampling_visit_large_frees(const struct sampling *s, large_free_fn fn, void *ctx)
{
	uint64_t first = s->n_large_frees > LARGE_FREES_MAX ? s->n_large_frees - LARGE_FREES_MAX : 0;

	for (uint64_t i = first; i < s->n_large_frees; i++)
		fn(ctx, &s->large_frees[i % LARGE_FREES_MAX]);
}

const struct moves *sampling_moves(const struct sampling *s)
{
	return s->moves;
}

double sampling_large_bytes(const struct sampling *s)
{
	return s->large_bytes;
}

static void take_from_nursery(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot)
{
	struct sampling *s = ctx;
	int r;

	(void)target;
	r = wait_for_window(s, addr, NURSERY_SIZE(slot->size), NURSERY_FLAGS(slot->size), stacks_find(s->stacks, slot->stack),
			    slot->time_ns);
	if (r)
		s->error = r;
}

static int settle_one(struct sampling *s, const struct window_record *record, struct survivor *b)
{
	b->weight = (float)window_survivor_weight(record, b->time_ns);
	b->window = record->index * WINDOW_GROUP_COUNT + (uint32_t)record->group;
	if (b->weight == 0)
		return 0;
	if (b->large) {
		s->large_bytes += (double)b->weight * b->size;
		moves_link(s->moves, b);
	}
	return survivors_add(s->survivors, b);
}

/* Blocks of the window get its weight; those of another that is still open go on waiting. */
static int settle(struct sampling *s, const struct window_record *record)
{
	struct map64 *waiting = NULL;
	struct survivor *b;
	size_t cursor = 0;
	uint64_t addr;
	int r;

	r = map64_new(sizeof(struct survivor), &waiting);
	while (!r && (b = map64_next(s->waiting, &cursor, &addr))) {
		if (b->large == (record->group == WINDOW_LARGE) && b->time_ns >= record->start_ns) {
			r = settle_one(s, record, b);
		} else if (b->large != (record->group == WINDOW_LARGE)) {
			struct survivor *kept = map64_put(waiting, addr, NULL);

			if (kept)
				*kept = *b;
			else
				r = -ENOMEM;
		} else {
			s->strays++;
		}
	}
	map64_free(s->waiting);
	s->waiting = waiting;
	if (record->group == WINDOW_LARGE)
		moves_end_window(s->moves);
	return r;
}

int sampling_on_window(struct sampling *s, struct session *session, uint32_t target, struct stacks *stacks,
		       const struct window_record *record)
{
	int r;

	s->stacks = stacks;
	s->error = 0;
	if (record->group == WINDOW_LARGE)
		s->large_weight = (float)window_weight(record, record->start_ns);
	session_take_nursery(session, target, take_from_nursery, s);
	r = s->error ?: settle(s, record);
	if (!r)
		r = sampling_check(s, clock_mono_ns(&clock_real));
	if (!r && record->hits)
		r = codes_check(s->codes, target, stacks, session);
	return r < 0 ? r : 0;
}

int sampling_check(struct sampling *s, uint64_t now_ns)
{
	int r = survivors_check(s->survivors, s->blocks, now_ns, LOOKS_AT_ONCE);

	return r < 0 ? r : 0;
}

int sampling_settle_owners(struct sampling *s)
{
	return s->sees_objects && s->key_table_size ? key_tables_charge(s->survivors, s->types, s->blocks, s->key_table_size) : 0;
}

uint64_t sampling_next_ns(const struct sampling *s)
{
	return survivors_next_ns(s->survivors);
}

const struct survivors *sampling_survivors(const struct sampling *s)
{
	return s->survivors;
}

struct types *sampling_types(const struct sampling *s)
{
	return s->types;
}

uint64_t sampling_strays(const struct sampling *s)
{
	return s->strays;
}
