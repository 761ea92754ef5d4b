/* SPDX-License-Identifier: MIT */
/*
 * Objects: how large they are and what they own. Sizes come from interp/object_size.h, which asks for more bytes where it must (a
 * dict's key table). Those are mostly in a pool that was read a moment ago; the others wait, and are read in batches.
 *
 * Invariant: an object is counted exactly once, when its size is known; one that makes no sense in TRIES reads is refused, and its block
 * is no object. Limits: a part is from a later moment than its owner.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heap/census_impl.h"
#include "interp/deque_blocks.h"

#define WAIT_MAX 8192u
#define TRIES 3
#define STEPS_FEW 16u           /* questions about one object; more come off long_steps */
#define GATHER_MAX 1024u
#define OBJECT_MAX 1024u        /* bytes of an object that are read again */
#define PROGRESS_NS 100000000ull

struct census_wait {
	struct object_size size;
	struct census_place place;
	raddr_t addr;
	uint32_t type, len, steps;
};

static const enum census_non_object claims[] = {
	[PART_DICT_KEYS] = CENSUS_DICT_KEYS,
	[PART_INSTANCE_VALUES] = CENSUS_INSTANCE_VALUES,
	[PART_LIST_ARRAY] = CENSUS_LIST_ARRAY,
	[PART_SET_TABLE] = CENSUS_SET_TABLE,
	[PART_BYTEARRAY_BUFFER] = CENSUS_BYTEARRAY_BUFFER,
	[PART_DEQUE_BLOCKS] = CENSUS_DEQUE_BLOCK,
	[PART_STR_DATA] = CENSUS_STR_DATA,
};
_Static_assert(CENSUS_STR_DATA + 1 <= MARK_CLAIM, "claims fit into a mark");

int census_grow(void *array, size_t n, size_t *room, size_t size)
{
	void **place = array;
	size_t more = *room ? 2 * *room : 256;
	void *grown;

	if (n < *room)
		return 0;
	grown = reallocarray(*place, more, size);
	if (!grown)
		return -ENOMEM;
	*place = grown;
	*room = more;
	return 0;
}

void census_objects_clear(struct census_work *work)
{
	free(work->tallies);
	free(work->waiting);
	free(work->chunks);
	free(work->owned);
}

int census_progress(struct census_work *work, uint64_t done_bytes)
{
	uint64_t now = clock_mono_ns(&clock_real);

	work->done_bytes += done_bytes;
	if (work->done_bytes > work->total_bytes)
		work->done_bytes = work->total_bytes;
	if (!work->options || !work->options->progress || now - work->told_ns < PROGRESS_NS)
		return 0;
	work->told_ns = now;
	return work->options->progress(work->options->ctx, work->done_bytes, work->total_bytes);
}

int census_add_no_object(struct census_work *work, const struct census_place *place)
{
	struct census_row *unknown = &work->census->non_objects[CENSUS_UNKNOWN];
	int r;

	if (!place->large) {
		marks_add(work->marks, place->block, MARK_NO_OBJECT, 0);
		unknown->count++;
		unknown->bytes += place->bytes;
		return 0;
	}
	r = census_grow(&work->chunks, work->n_chunks, &work->chunks_room, sizeof(*work->chunks));
	if (r == 0)
		work->chunks[work->n_chunks++] = (struct census_chunk){ place->block, place->bytes };
	return r;
}

static int grow_tallies(struct census_work *work, uint32_t type)
{
	uint32_t room = work->tallies_room ? work->tallies_room : 1024;
	struct census_tally *grown;

	while (room <= type)
		room *= 2;
	grown = reallocarray(work->tallies, room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	memset(grown + work->tallies_room, 0, (room - work->tallies_room) * sizeof(*grown));
	work->tallies = grown;
	work->tallies_room = room;
	return 0;
}

/* What the allocator returned is behind what debug hooks put in front. */
static void claim_block(struct census_work *work, raddr_t addr, enum object_part_kind kind)
{
	raddr_t block = RADDR(addr.v - types_debug_front(work->types));

	if (kind == PART_OTHER)
		marks_add(work->marks, block, MARK_OTHER, 0);
	else if (kind < sizeof(claims) / sizeof(claims[0]))
		marks_add(work->marks, block, (uint8_t)(claims[kind] + 1), MARK_CLAIM);
}

/* A deque_block_fn. */
static int claim_deque_block(void *ctx, raddr_t block)
{
	claim_block(ctx, block, PART_DEQUE_BLOCKS);
	return 0;
}

enum census_non_object census_claimed_as(struct census_work *work, raddr_t block, uint8_t mark)
{
	if (mark & MARK_CLAIM)
		return (enum census_non_object)((mark & MARK_CLAIM) - 1);
	return map64_count(work->code) && map64_get(work->code, block.v) ? CENSUS_CODE : CENSUS_UNKNOWN;
}

/* Line arrays, extras, inline caches of a code object. They are few: no place for them in a mark. */
static int claim_code(struct census_work *work, raddr_t addr)
{
	raddr_t block = RADDR(addr.v - types_debug_front(work->types));

	marks_add(work->marks, block, MARK_OTHER, 0);
	return map64_put(work->code, block.v, NULL) ? 0 : -ENOMEM;
}

static int claim(struct census_work *work, uint32_t type, const struct object_part *part)
{
	if (part->kind == PART_OTHER && types_facts(work->types, type)->contents == CONTENTS_CODE)
		return claim_code(work, part->addr);
	if (part->kind == PART_DEQUE_BLOCKS && part->blocks > 1) {
		uint32_t count = part->blocks < work->deque_blocks ? part->blocks : (uint32_t)work->deque_blocks;

		work->deque_blocks -= count;
		return deque_blocks_visit(work->python, part->addr, count, claim_deque_block, work);
	}
	claim_block(work, part->addr, part->kind);
	if (!part->counted || (part->kind != PART_BYTEARRAY_BUFFER && part->kind != PART_OTHER))
		return 0;
	return census_add_owned(work, part->addr, part->kind == PART_OTHER ? CENSUS_UNKNOWN : CENSUS_BYTEARRAY_BUFFER);
}

static int count_object(struct census_work *work, uint32_t type, const struct object_size *size, const struct census_place *place)
{
	struct census_tally *tally;
	uint64_t owned = 0;
	int r;

	if (type >= work->tallies_room && grow_tallies(work, type) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < size->n_parts && i < OBJECT_PARTS_MAX; i++) {
		const struct object_part *part = &size->parts[i];

		owned += part->counted ? part->bytes : 0;
		r = claim(work, type, part);
		if (r < 0)
			return r;
	}
	tally = &work->tallies[type];
	tally->count++;
	tally->bytes += size->bytes;
	tally->owned_bytes += owned;
	if (!place->block.v)
		work->census->static_objects++;
	if (place->large) {
		work->large_blocks++;
		work->census->block_bytes += place->bytes;
	}
	return 0;
}

/* May there be one more question about an object that had so many? */
static bool step_allowed(struct census_work *work, uint32_t steps)
{
	if (steps < STEPS_FEW)
		return true;
	if (work->long_steps == 0)
		return false;
	work->long_steps--;
	return true;
}

/* From the target, step by step. -EPROTO: makes no sense now. */
static int measure(struct census_work *work, uint32_t type, raddr_t addr, size_t len, struct object_size *ret_size)
{
	struct rmem *mem = python_rmem(work->python);
	uint8_t bytes[OBJECT_MAX];
	uint64_t type_addr;
	int r;

	len = len < OBJECT_MAX ? len : OBJECT_MAX;
	r = rmem_read(mem, addr, bytes, len);
	if (r == 0) {
		memcpy(&type_addr, bytes + 8, 8);
		r = types_find(work->types, RADDR(type_addr)) == type ? 0 : -EPROTO;
	}
	if (r == 0)
		r = object_size_of(work->sizes, type, addr, bytes, len, ret_size);
	for (uint32_t steps = 0; r == 0 && ret_size->need.bytes; steps++) {
		if (!step_allowed(work, steps) || ret_size->need.bytes > OBJECT_NEED_MAX)
			return -EPROTO;
		r = rmem_read(mem, ret_size->need.addr, bytes, ret_size->need.bytes);
		if (r == 0)
			r = object_size_go_on(work->sizes, bytes, ret_size);
	}
	return r == -EFAULT ? -EPROTO : r;
}

/* What made no sense once. */
static int try_again(struct census_work *work, uint32_t type, raddr_t addr, size_t len, const struct census_place *place)
{
	struct object_size size;
	int r = -EPROTO;

	for (int tries = 1; tries < TRIES && r == -EPROTO; tries++) {
		work->census->retries++;
		r = measure(work, type, addr, len, &size);
	}
	if (r == 0)
		return count_object(work, type, &size, place);
	if (r != -EPROTO)
		return r;
	work->census->refused++;
	return place->block.v ? census_add_no_object(work, place) : 0;
}

int census_add_object(struct census_work *work, uint32_t type, raddr_t addr, const uint8_t *bytes, size_t len, bool front,
		      const struct census_place *place)
{
	struct census_wait wait;
	int r;

	if (front)
		r = object_size_in_block(work->sizes, type, addr, bytes, len, &wait.size);
	else
		r = object_size_of(work->sizes, type, addr, bytes, len, &wait.size);
	for (wait.steps = 0; r == 0 && wait.size.need.bytes; wait.steps++) {
		const uint8_t *known = NULL;

		if (work->reader && wait.steps < STEPS_FEW)
			known = pool_reader_find(work->reader, wait.size.need.addr, wait.size.need.bytes);
		if (!known)
			break;
		r = object_size_go_on(work->sizes, known, &wait.size);
	}
	if (r < 0)
		return r == -EPROTO ? try_again(work, type, addr, len, place) : r;
	if (!wait.size.need.bytes)
		return count_object(work, type, &wait.size, place);
	if (work->n_waiting == WAIT_MAX)
		r = census_settle(work);
	if (r == 0)
		r = census_grow(&work->waiting, work->n_waiting, &work->waiting_room, sizeof(wait));
	if (r < 0)
		return r;
	wait.place = *place;
	wait.addr = addr;
	wait.type = type;
	wait.len = (uint32_t)(len < OBJECT_MAX ? len : OBJECT_MAX);
	work->waiting[work->n_waiting++] = wait;
	return 0;
}

/* Its next bytes are here (NULL: they are not mapped). Counts it if it is complete. */
static int go_on(struct census_work *work, struct census_wait *wait, const uint8_t *bytes)
{
	int r = bytes && step_allowed(work, wait->steps++) ? object_size_go_on(work->sizes, bytes, &wait->size) : -EPROTO;

	if (r == 0 && wait->size.need.bytes)
		return 0;
	wait->size.need.bytes = 0;
	if (r == 0)
		return count_object(work, wait->type, &wait->size, &wait->place);
	return r == -EPROTO ? try_again(work, wait->type, wait->addr, wait->len, &wait->place) : r;
}

/* Those among the first n that want as much as the first of them. */
static int settle_alike(struct census_work *work, size_t first, size_t n, uint8_t *bytes)
{
	uint32_t alike[GATHER_MAX], want = work->waiting[first].size.need.bytes;
	raddr_t addrs[GATHER_MAX];
	bool ok[GATHER_MAX];
	size_t count = 0;
	int r;

	for (size_t i = first; i < n && count < GATHER_MAX; i++) {
		if (work->waiting[i].size.need.bytes != want)
			continue;
		alike[count] = (uint32_t)i;
		addrs[count++] = work->waiting[i].size.need.addr;
	}
	r = rmem_gather_each(python_rmem(work->python), addrs, count, want, bytes, ok);
	for (size_t i = 0; i < count && r == 0; i++)
		r = go_on(work, &work->waiting[alike[i]], ok[i] ? bytes + i * want : NULL);
	return r;
}

/* One round: each gets what it asks for, at least once. */
static int settle_round(struct census_work *work, uint8_t *bytes)
{
	size_t n = work->n_waiting, kept = 0;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		struct census_wait *wait = &work->waiting[i];
		const uint8_t *known;

		if (!wait->size.need.bytes)
			continue;
		if (wait->size.need.bytes > OBJECT_NEED_MAX) {
			r = go_on(work, wait, NULL);
			continue;
		}
		known = work->reader ? pool_reader_find(work->reader, wait->size.need.addr, wait->size.need.bytes) : NULL;
		r = known ? go_on(work, wait, known) : settle_alike(work, i, n, bytes);
	}
	for (size_t i = 0; i < n; i++)
		if (work->waiting[i].size.need.bytes)
			work->waiting[kept++] = work->waiting[i];
	work->n_waiting = kept;
	return r;
}

int census_settle(struct census_work *work)
{
	_cleanup_(freep) uint8_t *bytes = malloc(GATHER_MAX * OBJECT_NEED_MAX);
	int r = bytes ? 0 : -ENOMEM;

	/* each round is a step of each at least, and steps are bounded */
	while (r == 0 && work->n_waiting)
		r = settle_round(work, bytes);
	return r;
}
