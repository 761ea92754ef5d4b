/* SPDX-License-Identifier: MIT */
/*
 * Large blocks: chunks of libc's heap. pymalloc hands requests over 512 bytes on to malloc(), and what was large and was shrunk by
 * realloc() stays there; with PYTHONMALLOC=malloc all are chunks. Their first bytes are read many at a time: as one piece where they lie
 * close together.
 *
 * Whose is a chunk that is no object? One that an object claims is the interpreter's. Of the rest, C libraries hold some and the
 * interpreter some; pymalloc's own count of its large blocks says how many are still missing there, and the smallest over 512 bytes
 * that are left stand for them: in "unknown" the count is exact, and the bytes are at least so many. Without pymalloc nobody counts: all
 * are unknown. Limits: up to 512 bytes, what an object in a later chunk claims is unknown.
 */
#include <errno.h>
#include <stdlib.h>

#include "heap/census_impl.h"
#include "heap/libc_heap.h"
#include "interp/obmalloc.h"

#define SMALL_MAX 512u           /* SMALL_REQUEST_THRESHOLD */
#define HEAD 1024u               /* bytes of a chunk that are read: enough for a type object behind all that may stand in front */
#define BATCH 256u
#define SPAN_MAX (256u << 10)    /* read as one piece */
#define SPARSE 4096u             /* bytes of a span for each chunk in it: more, and each chunk is read alone */

struct large_pass {
	struct census_work *work;
	struct census_chunk batch[BATCH];    /* ascending, within SPAN_MAX unless alone */
	size_t n;
	uint8_t bytes[BATCH * HEAD > SPAN_MAX ? BATCH * HEAD : SPAN_MAX];
};

static size_t head_of(const struct census_chunk *chunk)
{
	return chunk->bytes < HEAD ? (size_t)chunk->bytes : HEAD;
}

/* Counts it if it is claimed. */
static bool name_chunk(struct census_work *work, const struct census_chunk *chunk)
{
	/* pymalloc asks the raw domain, which has hooks of its own */
	uint64_t behind = work->reader ? types_debug_front(work->types) : 0;
	raddr_t block = raddr_add(chunk->block, (int64_t)behind);
	uint8_t mark = marks_get(work->marks, block);
	struct census_row *row;

	if (!mark)
		return false;
	row = &work->census->non_objects[census_claimed_as(work, block, mark)];
	row->count++;
	row->bytes += chunk->bytes;
	work->census->block_bytes += chunk->bytes;
	work->large_blocks++;
	return true;
}

/* There are as many as C libraries please: what nobody has claimed by now is not remembered. */
static int count_small(struct census_work *work, const struct census_chunk *chunk)
{
	name_chunk(work, chunk);
	return 0;
}

/* numpy takes memory for types of its own and fills them in as if they were static: nothing stands before them. */
static uint32_t made_like_static(struct census_work *work, const struct census_chunk *chunk, const uint8_t *bytes, size_t len)
{
	static const uint8_t before[16];
	uint32_t size, type = static_object_find(work->types, chunk->block, before, bytes, len, RADDR(0), RADDR(0), &size);

	return type && types_find(work->types, chunk->block) ? type : 0;
}

static int count_chunk(struct census_work *work, const struct census_chunk *chunk, const uint8_t *bytes)
{
	const struct census_place place = { chunk->block, chunk->bytes, true };
	struct census_row *parked = &work->census->non_objects[CENSUS_FREE_LIST];
	struct block_object object = { 0 };
	uint32_t front = work->reader ? types_debug_front(work->types) : 0, back = work->reader ? types_debug_back(work->types) : 0;
	size_t len = head_of(chunk);

	if (bytes && len > front + back)
		block_object_find(work->types, bytes + front, len - front, chunk->bytes - front - back, &object);
	object.start += front;
	if (bytes && !object.type)
		object.type = made_like_static(work, chunk, bytes, len);
	if (!object.type)
		return work->reader && chunk->bytes <= SMALL_MAX ? count_small(work, chunk) : census_add_no_object(work, &place);
	if (!object.parked)
		return census_add_object(work, object.type, raddr_add(chunk->block, object.start), bytes + object.start, len - object.start,
					 object.start > 0, &place);
	parked->count++;
	parked->bytes += chunk->bytes;
	work->census->block_bytes += chunk->bytes;
	work->large_blocks++;
	return 0;
}

static int count_span(struct large_pass *pass, uint64_t from)
{
	int r = 0;

	for (size_t i = 0; i < pass->n && r == 0; i++)
		r = count_chunk(pass->work, &pass->batch[i], pass->bytes + (pass->batch[i].block.v - from));
	return r;
}

static int count_each(struct large_pass *pass)
{
	struct rmem *mem = python_rmem(pass->work->python);
	raddr_t addrs[BATCH];
	bool ok[BATCH];
	int r;

	for (size_t i = 0; i < pass->n; i++)
		addrs[i] = pass->batch[i].block;
	r = rmem_gather_each(mem, addrs, pass->n, HEAD, pass->bytes, ok);
	for (size_t i = 0; i < pass->n && r == 0; i++) {
		uint8_t *bytes = pass->bytes + i * HEAD;

		/* the last chunk of a mapping is shorter than what was asked for */
		if (!ok[i])
			r = rmem_read(mem, addrs[i], bytes, head_of(&pass->batch[i]));
		if (r == 0 || r == -EFAULT)
			r = count_chunk(pass->work, &pass->batch[i], r == 0 ? bytes : NULL);
	}
	return r;
}

static int flush(struct large_pass *pass)
{
	uint64_t from = pass->batch[0].block.v, span, chunks_bytes = 0;
	int r;

	if (pass->n == 0)
		return 0;
	span = pass->batch[pass->n - 1].block.v + head_of(&pass->batch[pass->n - 1]) - from;
	if (span > pass->n * SPARSE || rmem_read(python_rmem(pass->work->python), RADDR(from), pass->bytes, (size_t)span) < 0)
		r = count_each(pass);
	else
		r = count_span(pass, from);
	for (size_t i = 0; i < pass->n; i++)
		chunks_bytes += pass->batch[i].bytes;
	pass->n = 0;
	return r < 0 ? r : census_progress(pass->work, pass->work->reader ? 0 : chunks_bytes);
}

/* A libc_chunk_fn. */
static int add_chunk(void *ctx, raddr_t block, uint64_t bytes, enum libc_chunk_state state)
{
	struct large_pass *pass = ctx;
	int r = 0;

	if (state == LIBC_CHUNK_FREE)
		return 0;
	if (pass->n == BATCH || (pass->n && (block.v <= pass->batch[pass->n - 1].block.v || block.v - pass->batch[0].block.v > SPAN_MAX - HEAD)))
		r = flush(pass);
	pass->batch[pass->n++] = (struct census_chunk){ block, bytes };
	return r;
}

int census_large(struct census_work *work, bool pymalloc)
{
	_cleanup_(freep) struct large_pass *pass = malloc(sizeof(*pass));
	struct libc_heap_info info;
	int r;

	if (!pass)
		return -ENOMEM;
	pass->work = work;
	pass->n = 0;
	r = libc_heap_walk(work->python, add_chunk, pass, &info, NULL);
	work->census->small_only = r == -ENOTSUP && pymalloc;
	if (r < 0)
		return work->census->small_only ? 0 : r;
	work->census->retries += info.retries;
	work->census->refused += info.refused;
	return flush(pass);
}

static int by_bytes(const void *a, const void *b)
{
	uint64_t x = ((const struct census_chunk *)a)->bytes, y = ((const struct census_chunk *)b)->bytes;

	return x < y ? -1 : x > y;
}

/* Counts the chunks that are claimed; the others stay, in front. */
static void name_chunks(struct census_work *work)
{
	size_t kept = 0;

	for (size_t i = 0; i < work->n_chunks; i++)
		if (!name_chunk(work, &work->chunks[i]))
			work->chunks[kept++] = work->chunks[i];
	work->n_chunks = kept;
}

int census_count_large(struct census_work *work, bool pymalloc)
{
	struct census_row *unknown = &work->census->non_objects[CENSUS_UNKNOWN];
	uint64_t raw = 0, missing;
	int r = pymalloc ? obmalloc_raw_blocks(work->python, work->census->blocks, &raw) : 0;

	if (r < 0)
		return r;
	name_chunks(work);
	if (work->n_chunks > 1)
		qsort(work->chunks, work->n_chunks, sizeof(*work->chunks), by_bytes);
	missing = !pymalloc ? work->n_chunks : raw > work->large_blocks ? raw - work->large_blocks : 0;
	unknown->count += missing;
	work->census->blocks += work->large_blocks + missing;
	for (uint64_t i = 0; i < missing; i++) {
		/* more than there are chunks: the walk missed some, or they are not glibc's */
		uint64_t bytes = i < work->n_chunks ? work->chunks[i].bytes : 0;

		if (i >= work->n_chunks)
			break;
		unknown->bytes += bytes;
		work->census->block_bytes += bytes;
	}
	return 0;
}
