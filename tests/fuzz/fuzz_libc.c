/* SPDX-License-Identifier: MIT */
/*
 * The walk of glibc's heaps, and smaps, on recorded memory: libc's data with a main arena, a brk heap, a thread's heap of two parts, chunks with
 * mappings of their own, with what the input says overwritten. Input: a byte that chooses the layout and the release; then (u8 area,
 * u16 offset / 8, u8 length - 1, bytes) patches. The rest of the input, from a 0xff area on, is text for smaps.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "heap/libc_visit.h"
#include "target/smaps.h"

#define DATA 0x7f0000000000ull
#define DATA_SIZE 0x4000u
#define HEAP 0x10000000ull
#define HEAP_SIZE 0x20000u
#define THREAD 0x7e0004000000ull     /* newest heap of a thread */
#define THREAD_OLD 0x7e0000000000ull /* the one before, with the arena in it */
#define THREAD_SIZE 0x10000u
#define MAPPED 0x7d0000000000ull
#define MAPPED_SIZE 0x10000u
#define STATE 0x1000u                /* of main_arena in DATA */
#define MP 0x400u                    /* of sbrk_base in DATA */
#define KEY_AT 0x3000u
#define KEY 0xfedcba9876543210ull
#define PATCHES_MAX 48

struct layout_of {
	uint32_t fast, top, bins, next, system, size;
};
static const struct layout_of layouts[] = { { 16, 96, 112, 2160, 2184, 2200 }, { 0, 8, 24, 2072, 2096, 2112 } };

struct area {
	uint64_t start;
	uint32_t size;
	uint8_t *now, *pristine;
};
static struct area areas[] = {
	{ DATA, DATA_SIZE, NULL, NULL },         { HEAP, HEAP_SIZE, NULL, NULL },     { THREAD, THREAD_SIZE, NULL, NULL },
	{ THREAD_OLD, THREAD_SIZE, NULL, NULL }, { MAPPED, MAPPED_SIZE, NULL, NULL },
};
#define AREAS (sizeof(areas) / sizeof(areas[0]))

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void put(struct area *area, uint64_t at, uint64_t value)
{
	memcpy(area->pristine + at, &value, sizeof(value));
}

/* Empty bins, top, ring and sums. */
static void build_state(struct area *area, uint64_t at, const struct layout_of *l, uint64_t top, uint64_t next, uint64_t system)
{
	for (uint32_t i = 0; i < 127; i++) {
		uint64_t self = area->start + at + l->bins + 16 * i - 16;

		put(area, at + l->bins + 16 * i, self);
		put(area, at + l->bins + 16 * i + 8, self);
	}
	put(area, at + l->top, top);
	put(area, at + l->next, next);
	put(area, at + l->system, system);
	put(area, at + l->system + 8, system);
}

/* Chunks of 96 to 1120 bytes up to end: used, free, in a tcache. Returns where they end. */
static uint64_t build_chunks(struct area *area, uint64_t at, uint64_t end, uint64_t flags)
{
	uint64_t prev_in_use = 1, size = 0;

	for (unsigned i = 0; at + 2048 < end; i++) {
		uint64_t before = size;

		size = 96 + 128 * (i % 9);
		if (!prev_in_use)
			put(area, at, before);
		put(area, at + 8, size | flags | prev_in_use);
		prev_in_use = i % 5 != 3;
		if (i % 5 == 1) {
			put(area, at + 16, (area->start + at + 16) >> 12);
			put(area, at + 24, KEY);
		}
		at += size;
	}
	if (!prev_in_use)
		put(area, at, size);
	put(area, at + 8, prev_in_use);   /* size comes later */
	return at;
}

static void end_with_top(struct area *area, uint64_t at, uint64_t end)
{
	uint64_t word;

	memcpy(&word, area->pristine + at + 8, 8);
	put(area, at + 8, word | (end - at));
}

static void build_thread(const struct layout_of *l, uint32_t info)
{
	struct area *new = &areas[2], *old = &areas[3];
	uint64_t arena = THREAD_OLD + info, at;

	put(new, 0, arena);
	put(new, 8, THREAD_OLD);
	put(new, 16, THREAD_SIZE);
	at = build_chunks(new, info, THREAD_SIZE, 4);
	end_with_top(new, at, THREAD_SIZE);
	put(old, 0, arena);
	put(old, 16, THREAD_SIZE);
	build_state(old, info, l, THREAD + at, DATA + STATE, 2 * THREAD_SIZE);
	at = build_chunks(old, (info + l->size + 15) & ~15u, THREAD_SIZE, 4);
	/* what is left is free, then two fenceposts */
	end_with_top(old, at, THREAD_SIZE - 32);
	put(old, THREAD_SIZE - 32, THREAD_SIZE - 32 - at);
	put(old, THREAD_SIZE - 24, 16);
	put(old, THREAD_SIZE - 8, 1);
}

static void build(unsigned which)
{
	static unsigned built = UINT32_MAX;
	const struct layout_of *l = &layouts[which & 1];
	uint32_t info = which & 2 ? 32 : 48;
	uint64_t at;

	if (which == built)
		return;
	for (size_t i = 0; i < AREAS; i++) {
		areas[i].now = areas[i].now ?: malloc(areas[i].size);
		areas[i].pristine = areas[i].pristine ?: malloc(areas[i].size);
		memset(areas[i].pristine, 0, areas[i].size);
	}
	at = build_chunks(&areas[1], 0, HEAP_SIZE, 0);
	end_with_top(&areas[1], at, HEAP_SIZE);
	build_state(&areas[0], STATE, l, HEAP + at, THREAD_OLD + info, HEAP_SIZE);
	build_thread(l, info);
	put(&areas[0], KEY_AT, KEY);
	put(&areas[0], MP, HEAP);
	put(&areas[0], MP - 8, 0x9000);
	put(&areas[0], MP - 16, 0x9000);
	put(&areas[0], MP + 8, 64);
	put(&areas[0], MP + 16, 1033);
	put(&areas[0], MP - 40, 3ull << 32);               /* n_mmaps 3 of 65536, 3 at most */
	put(&areas[0], MP - 32, 65536 | 3ull << 32);
	/* three chunks, the last one behind a page of something else */
	put(&areas[4], 8, 0x2002);
	put(&areas[4], 0x2000 + 0x30, 0x30);
	put(&areas[4], 0x2000 + 0x38, (0x3000 - 0x30) | 2);
	put(&areas[4], 0x6008, 0x4002);
	if (l->fast) {
		put(&areas[0], STATE + l->fast, HEAP);
		put(&areas[1], 16, (HEAP + 16) >> 12);
	}
	for (size_t i = 0; i < AREAS; i++)
		memcpy(areas[i].now, areas[i].pristine, areas[i].size);
	built = which;
}

struct sums {
	uint64_t chunks, bytes;
};

static int check_chunk(void *ctx, const struct libc_chunk *chunk)
{
	struct sums *s = ctx;
	uint8_t sum = 0;

	if (chunk->block % 16 || chunk->size < 32 || chunk->bytes > chunk->size || chunk->resident > chunk->size ||
	    chunk->trimmable > chunk->resident || chunk->head_bytes > LIBC_HEAD_BYTES || chunk->head_bytes > chunk->bytes)
		abort();
	for (uint32_t i = 0; i < chunk->head_bytes; i++)
		sum = (uint8_t)(sum + chunk->head[i]);
	s->bytes += chunk->size + (sum & 0);
	s->chunks++;
	return 0;
}

/* 0: walked; chunks are in *s. */
static int run(unsigned which, struct sums *s)
{
	static const char *const texts[] = {
		"10000000-10020000 rw-p 00000000 00:00 0 [heap]\n"
		"7d0000000000-7d0000008000 rw-p 00000000 00:00 0 \n7d0000008000-7d0000010000 rw-p 00000000 00:00 0 \n"
		"7e0000000000-7e0000010000 rw-p 00000000 00:00 0 \n7e0004000000-7e0004010000 rw-p 00000000 00:00 0 \n"
		"7f0000000000-7f0000001000 rw-p 00000000 08:01 1 /lib/libc.so.6\n7f0000001000-7f0000004000 rw-p 00000000 00:00 0 \n",
		"10000000-10020000 rw-p 00000000 00:00 0 [heap]\n"
		"7d0000000000-7d0000010000 rw-p 00000000 00:00 0 \n"
		"7e0000000000-7e0000010000 rw-p 00000000 00:00 0 \n7e0004000000-7e0004010000 rw-p 00000000 00:00 0 \n"
		"7f0000000000-7f0000004000 rw-p 00000000 08:01 1 /lib/libc-2.31.so\n",
	};
	const char *text = texts[which >> 2 & 1];
	struct rmem_region regions[AREAS];
	struct libc_range taken_range = { MAPPED + 0x5000, MAPPED + 0x6000 };
	struct libc_ranges taken = { 0 };
	struct libc_heap_info info = { 0 };
	struct libc_view view = { .pagemap = -1 };
	struct maps *maps = NULL;
	struct rmem *mem = NULL;
	int r;

	for (size_t i = 0; i < AREAS; i++)
		regions[i] = (struct rmem_region){ areas[i].start, areas[i].now, areas[i].size };
	if (maps_parse(text, strlen(text), &maps) < 0 || rmem_open_regions(regions, AREAS, &mem) < 0)
		abort();
	if (which & 8) {
		taken.range = malloc(sizeof(taken_range));
		taken.range[0] = taken_range;
		taken.count = taken.room = 1;
	}
	view.mem = mem;
	view.maps = maps;
	r = libc_visit(&view, &taken, check_chunk, s, &info);
	if (r == 0 && (info.used_chunks + info.mmapped_chunks > s->chunks || info.used + info.free + info.top + info.mmapped != s->bytes ||
		       info.cached > info.free || info.trimmable > info.resident_free || info.lost > 1ull << 32))
		abort();
	libc_ranges_free(&taken);
	maps_free(maps);
	rmem_free(mem);
	return r;
}

static void run_smaps(const uint8_t *data, size_t size)
{
	struct smaps *smaps = NULL;

	if (smaps_parse((const char *)data, size, &smaps) < 0)
		return;
	for (size_t i = 0; i < maps_count(smaps_maps(smaps)); i++)
		if (smaps_usage(smaps, i)->rss > maps_get(smaps_maps(smaps), i)->end - maps_get(smaps_maps(smaps), i)->start)
			abort();
	smaps_free(smaps);
}

/* What is not overwritten must be valid, or the fuzzing would stop at the door. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	for (unsigned which = 0; which < 16; which++) {
		struct sums s = { 0 };

		build(which);
		if (run(which, &s) < 0 || s.chunks < 300 || s.bytes < HEAP_SIZE + THREAD_SIZE + THREAD_SIZE / 2 + 0x9000)
			abort();
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct patch {
		struct area *area;
		uint32_t at, length;
	} patches[PATCHES_MAX];
	struct sums s = { 0 };
	size_t n = 0, i = 1;

	if (size < 1)
		return 0;
	build(data[0] % 16);
	while (n < PATCHES_MAX && i + 5 <= size && data[i] != 0xff) {
		struct patch *p = &patches[n];

		p->area = &areas[data[i] % AREAS];
		p->at = (((uint32_t)data[i + 1] | (uint32_t)data[i + 2] << 8) * 8) % (p->area->size - 8);
		p->length = data[i + 3] % 8u + 1;
		i += 4;
		if (p->length > size - i)
			break;
		memcpy(p->area->now + p->at, data + i, p->length);
		i += p->length;
		n++;
	}
	run(data[0] % 16, &s);
	while (n-- > 0)
		memcpy(patches[n].area->now + patches[n].at, patches[n].area->pristine + patches[n].at, patches[n].length);
	if (i < size && data[i] == 0xff)
		run_smaps(data + i + 1, size - i - 1);
	return 0;
}
