/* SPDX-License-Identifier: MIT */
/*
 * First smaps, the truth about every mapping's share of RSS; then the walks of
 * pymalloc's pools and of libc's heaps claim pages of mappings, as the
 * pagemap knows them to be in memory. What is claimed of a mapping is at most
 * its RSS (claims that exceed it, made moments later, are scaled down); the
 * rest goes to what the mapping is.
 */
#include "heap/balance.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "heap/libc_visit.h"
#include "heap/python_large.h"
#include "heap/residency.h"
#include "heap/thread_stacks.h"
#include "interp/obmalloc.h"
#include "target/pagemap.h"
#include "target/smaps.h"

#define TRIES 3
#define BLOCK_ALIGN 16u

struct balancer {
	const struct python *python;
	struct types *types;
};

struct claim {
	uint64_t bytes[MEMORY_PART_COUNT];
	enum memory_part rest;     /* what is not claimed */
};

struct sheet {
	const struct python *python;
	const struct smaps *smaps;
	const struct maps *maps;
	struct claim *claims;      /* one a mapping */
	struct residency pages;
	struct python_large large;
	struct balance *balance;
};

const char *memory_part_name(enum memory_part part)
{
	static const char *const names[] = {
#define X(id, name) name,
		MEMORY_PARTS(X)
#undef X
	};

	return part < MEMORY_PART_COUNT ? names[part] : "?";
}

double balance_explained(const struct balance *balance)
{
	return balance->rss ? 1 - (double)balance->part[MEMORY_other] / (double)balance->rss : NAN;
}

int balancer_new(const struct python *python, struct balancer **ret_balancer)
{
	_cleanup_(balancer_freep) struct balancer *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return -ENOMEM;
	b->python = python;
	r = types_new(python, &b->types);
	if (r < 0)
		return r;
	*ret_balancer = take_ptr(b);
	return 0;
}

void balancer_free(struct balancer *b)
{
	if (b)
		types_free(b->types);
	free(b);
}

/* resident: bytes of [start, end) in memory. Memory that smaps does not know came later, and is not in its sum. */
static int claim(struct sheet *s, uint64_t start, uint64_t end, uint64_t resident, enum memory_part part)
{
	while (start < end) {
		const struct map *map = maps_at(s->maps, start);
		uint64_t stop = map && map->end < end ? map->end : end, bytes = resident;

		if (!map)
			return 0;
		if (stop < end || bytes > stop - start) {
			int r = residency_bytes(&s->pages, start, stop, &bytes);

			if (r < 0)
				return r;
		}
		s->claims[map - maps_get(s->maps, 0)].bytes[part] += bytes;
		resident -= bytes < resident ? bytes : resident;
		start = stop;
	}
	return 0;
}

/* An obmalloc_arena_fn: all of it is free at first. */
static int claim_arena(void *ctx, raddr_t addr, uint64_t size)
{
	struct sheet *s = ctx;
	uint64_t resident;
	int r = residency_bytes(&s->pages, addr.v, addr.v + size, &resident);

	if (r < 0)
		return r;
	s->balance->arenas++;
	s->balance->arena_bytes += size;
	return claim(s, addr.v, addr.v + size, resident, MEMORY_pymalloc_free);
}

/* An obmalloc_pool_fn: what lives in it is taken off the free part. */
static int claim_pool(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live)
{
	struct sheet *s = ctx;
	uint64_t size = obmalloc_pool_size(s->python), resident, bytes = (uint64_t)live * (size_class + 1) * BLOCK_ALIGN;
	const struct map *map = maps_at(s->maps, pool.v);
	struct claim *c;
	int r = residency_bytes(&s->pages, pool.v, pool.v + size, &resident);

	if (r < 0 || !map)
		return r;
	if (bytes > size)
		bytes = size;
	bytes = resident == size ? bytes : (uint64_t)((double)bytes * (double)resident / (double)size);
	c = &s->claims[map - maps_get(s->maps, 0)];
	c->bytes[MEMORY_pymalloc_live] += bytes;
	c->bytes[MEMORY_pymalloc_free] -= bytes < c->bytes[MEMORY_pymalloc_free] ? bytes : c->bytes[MEMORY_pymalloc_free];
	return 0;
}

static int claim_pymalloc(struct sheet *s)
{
	uint64_t refused;
	int r = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		for (size_t i = 0; i < maps_count(s->maps); i++)
			s->claims[i].bytes[MEMORY_pymalloc_live] = s->claims[i].bytes[MEMORY_pymalloc_free] = 0;
		s->balance->arenas = s->balance->arena_bytes = 0;
		r = obmalloc_visit_arenas(s->python, claim_arena, s);
		if (r == 0)
			r = obmalloc_visit_pools(s->python, claim_pool, s, &refused);
	}
	s->balance->has_pymalloc = r == 0;
	return r == -ENOENT || r == -EAGAIN ? 0 : r;
}

/* A libc_visit_fn. */
static int claim_chunk(void *ctx, const struct libc_chunk *chunk)
{
	struct sheet *s = ctx;
	uint64_t start = chunk->block - 16;
	enum memory_part part = chunk->state == LIBC_CHUNK_FREE ? MEMORY_libc_free : MEMORY_libc_live;

	if (part == MEMORY_libc_live && python_large_is(&s->large, chunk->head, chunk->head_bytes, chunk->bytes)) {
		part = MEMORY_python_large;
		s->balance->large_blocks++;
	}
	/* a mapping of its own begins before an aligned block */
	if (chunk->state == LIBC_CHUNK_MMAPPED)
		start = chunk->block + chunk->bytes - chunk->size;
	return claim(s, start, start + chunk->size, chunk->resident, part);
}

static int claim_libc(struct sheet *s, int pagemap)
{
	_cleanup_(libc_ranges_free) struct libc_ranges taken = { 0 };
	struct libc_view view = { .mem = python_rmem(s->python), .maps = s->maps, .pagemap = pagemap };
	int r = libc_ranges_add_arenas(&taken, s->python);

	if (r == 0)
		r = libc_visit(&view, &taken, claim_chunk, s, &s->balance->libc);
	s->balance->has_libc = r == 0;
	/* none of it is believed then */
	for (size_t i = 0; r < 0 && i < maps_count(s->maps); i++)
		for (int part = MEMORY_python_large; part <= MEMORY_libc_free; part++)
			s->claims[i].bytes[part] = 0;
	return r == -ENOTSUP ? 0 : r;
}

static bool is_shared_memory(const struct map *map)
{
	static const char *const starts[] = { "/dev/shm/", "/memfd:", "/SYSV", "/dev/zero", "/anon_hugepage" };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (strncmp(map->path, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}

/* What a mapping is, if nobody claims it. before: the mapping below, or NULL; image: whether that is part of an image in memory. */
static enum memory_part rest_of(const struct map *map, const struct map *before, bool image)
{
	if (map->inode)
		return is_shared_memory(map) ? MEMORY_mmap : MEMORY_file;
	if (strncmp(map->path, "[stack", 6) == 0)
		return MEMORY_stack;
	if (strcmp(map->path, "[heap]") == 0)
		return MEMORY_other;
	if (map->path[0] == '[' && strncmp(map->path, "[anon", 5) != 0)
		return MEMORY_file;
	/* bss: what a program's data ends with */
	return before && image && before->write && map->write && before->end == map->start ? MEMORY_file : MEMORY_mmap;
}

static void classify(struct sheet *s)
{
	for (size_t i = 0; i < maps_count(s->maps); i++) {
		const struct map *before = i ? maps_get(s->maps, i - 1) : NULL;

		s->claims[i].rest = rest_of(maps_get(s->maps, i), before, before && before->inode && !is_shared_memory(before));
	}
}

/* A stack_fn. */
static int claim_stack(void *ctx, uint64_t start, uint64_t end)
{
	struct sheet *s = ctx;
	uint64_t resident;
	int r = residency_bytes(&s->pages, start, end, &resident);

	if (r < 0)
		return r;
	s->balance->stacks++;
	return claim(s, start, end, resident, MEMORY_stack);
}

/* One mapping's claims to the sheet. */
static void settle(const struct claim *c, uint64_t rss, struct balance *balance)
{
	uint64_t claimed = 0, given = 0;
	double scale;

	for (int i = 0; i < MEMORY_PART_COUNT; i++)
		claimed += c->bytes[i];
	scale = claimed > rss ? (double)rss / (double)claimed : 1;
	for (int i = 0; i < MEMORY_PART_COUNT; i++) {
		uint64_t bytes = scale < 1 ? (uint64_t)((double)c->bytes[i] * scale) : c->bytes[i];

		if (bytes > rss - given)
			bytes = rss - given;
		balance->part[i] += bytes;
		given += bytes;
	}
	balance->part[c->rest] += rss - given;
}

static void settle_all(struct sheet *s)
{
	struct balance *b = s->balance;
	uint64_t missing;

	for (size_t i = 0; i < maps_count(s->maps); i++)
		settle(&s->claims[i], smaps_usage(s->smaps, i)->rss, b);
	/* chunks that malloc mapped and the walk did not find are among what is taken for mapped by the program */
	missing = b->libc.mmapped_missing < b->part[MEMORY_mmap] ? b->libc.mmapped_missing : b->part[MEMORY_mmap];
	b->part[MEMORY_mmap] -= missing;
	b->part[MEMORY_other] += missing;
}

static int fill(struct balancer *b, struct sheet *s, int pagemap)
{
	struct smaps_usage total = smaps_total(s->smaps);
	int r;

	s->balance->rss = total.rss;
	s->balance->pss = total.pss;
	s->balance->swap = total.swap;
	residency_init(&s->pages, pagemap);
	classify(s);
	r = thread_stacks_visit(b->python, s->maps, &s->pages, claim_stack, s);
	if (r == 0)
		r = python_large_init(&s->large, b->types, s->maps);
	if (r == 0)
		r = claim_pymalloc(s);
	if (r == 0)
		r = claim_libc(s, pagemap);
	if (r == 0)
		settle_all(s);
	return r;
}

int balancer_read(struct balancer *b, struct balance *ret_balance, struct err *err)
{
	_cleanup_(smaps_freep) struct smaps *smaps = NULL;
	_cleanup_(freep) struct claim *claims = NULL;
	_cleanup_(closep) int pagemap = -1;
	uint64_t start_ns = clock_mono_ns(&clock_real);
	struct balance balance = { 0 };
	struct sheet sheet = { .python = b->python, .balance = &balance };
	pid_t pid = python_pid(b->python);
	int r = smaps_load(pid, &smaps);

	if (r == 0 && maps_count(smaps_maps(smaps)) == 0)
		r = -ESRCH;
	if (r == 0)
		r = pagemap = pagemap_open(pid);
	if (r < 0)
		return err_set(err, r, "cannot read the memory of process %d: %s", pid, strerror(-r));
	sheet.smaps = smaps;
	sheet.maps = smaps_maps(smaps);
	sheet.claims = claims = calloc(maps_count(sheet.maps), sizeof(*claims));
	r = claims ? fill(b, &sheet, pagemap) : -ENOMEM;
	if (r < 0)
		return err_set(err, r, "cannot read the memory of process %d: %s", pid, strerror(-r));
	balance.seconds = clock_seconds_since(&clock_real, start_ns);
	*ret_balance = balance;
	return 0;
}
