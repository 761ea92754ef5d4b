/* SPDX-License-Identifier: MIT */
/*
 * The one reader of pools. They are read READ_POOLS at a time with one system
 * call; one that was torn by the running target is read again, TRIES times in all.
 *
 * Invariant: a look that is handed out satisfies pool_free_list()'s equation. The
 * ring of snapshots is written round and round; by_pool leads from a pool's number to
 * the place in the ring where it was put last, and owner says which pool is there
 * now. Limits: each pool is whole, but the pools are of different moments.
 */
#include "heap/pools.h"

#include <errno.h>
#include <stdlib.h>

#include "interp/obmalloc.h"

#define READ_POOLS 16u
#define POOL_SIZE_MAX 16384u
#define TRIES 3
#define POOLS_MAX (1u << 26)   /* 1 TiB of heap */

struct pool_reader {
	const struct python *python;
	struct pool_reader_stats stats;
	uint32_t pool_size, shift;   /* 1 << shift is pool_size */
	size_t room, at;             /* of the ring: multiples of READ_POOLS */
	uint8_t *ring;
	uint64_t *owner;             /* room of them; 0: none */
	uint32_t *by_pool;           /* 2 * room of them, a power of two or more: by number modulo that */
	size_t mask;
};

/* An obmalloc_pool_fn. */
static int list_pool(void *ctx, raddr_t pool, uint32_t size_class, uint32_t live)
{
	struct pool_list *list = ctx;

	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 1024;
		struct pool_ref *grown = room > POOLS_MAX ? NULL : reallocarray(list->pools, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->pools = grown;
		list->room = room;
	}
	list->pools[list->count++] = (struct pool_ref){ pool, size_class, live };
	return 0;
}

int pool_list_read(const struct python *python, struct pool_list *list)
{
	int r = -EAGAIN;

	/* the array of arenas moves when it grows: look again */
	for (int tries = 0; tries < TRIES && r == -EAGAIN; tries++) {
		list->count = 0;
		list->refused = 0;
		r = obmalloc_visit_pools(python, list_pool, list, &list->refused);
	}
	return r;
}

void pool_list_clear(struct pool_list *list)
{
	free(list->pools);
	*list = (struct pool_list){ 0 };
}

int pool_reader_new(const struct python *python, size_t remembered, struct pool_reader **ret_reader)
{
	_cleanup_(pool_reader_freep) struct pool_reader *reader = calloc(1, sizeof(*reader));
	uint64_t pool_size = obmalloc_pool_size(python);
	size_t hashed = 2 * READ_POOLS;

	if (!reader)
		return -ENOMEM;
	if (pool_size > POOL_SIZE_MAX || pool_size < pool_header_bytes(python) || pool_size & (pool_size - 1))
		return -EPROTO;
	reader->python = python;
	reader->pool_size = (uint32_t)pool_size;
	reader->shift = (uint32_t)__builtin_ctzll(pool_size);
	reader->room = remembered > READ_POOLS ? (remembered + READ_POOLS - 1) / READ_POOLS * READ_POOLS : READ_POOLS;
	while (hashed < 2 * reader->room)
		hashed *= 2;
	reader->mask = hashed - 1;
	reader->ring = malloc(reader->room * pool_size);
	reader->owner = calloc(reader->room, sizeof(*reader->owner));
	reader->by_pool = calloc(hashed, sizeof(*reader->by_pool));
	if (!reader->ring || !reader->owner || !reader->by_pool)
		return -ENOMEM;
	*ret_reader = take_ptr(reader);
	return 0;
}

void pool_reader_free(struct pool_reader *reader)
{
	if (!reader)
		return;
	free(reader->ring);
	free(reader->owner);
	free(reader->by_pool);
	free(reader);
}

/* -EAGAIN: torn. -ENOENT: empty by now. */
static int look_at(const struct pool_reader *reader, struct pool_look *look)
{
	int r = pool_head_parse(reader->python, look->bytes, &look->head);

	if (r == 0)
		r = pool_free_list(reader->python, look->addr, look->bytes, &look->head, &look->free);
	return r < 0 && r != -ENOENT ? -EAGAIN : r;
}

/* What is in the ring at place: hands it out once it holds together. */
static int settle_pool(struct pool_reader *reader, size_t place, size_t index, bool mapped, pool_look_fn fn, void *ctx)
{
	uint8_t *snapshot = reader->ring + place * reader->pool_size;
	struct pool_look look = { .index = index, .addr = RADDR(reader->owner[place]), .bytes = snapshot };
	int r = mapped ? look_at(reader, &look) : -EFAULT;

	for (int tries = 1; tries < TRIES && r == -EAGAIN; tries++) {
		r = rmem_read(python_rmem(reader->python), look.addr, snapshot, reader->pool_size);
		reader->stats.bytes += reader->pool_size;
		reader->stats.retries++;
		if (r == 0)
			r = look_at(reader, &look);
	}
	if (r == -EAGAIN)
		reader->stats.torn++;
	else if (r == -ENOENT || r == -EFAULT)
		reader->stats.gone++;
	else if (r < 0)
		return r;
	if (r < 0) {
		reader->owner[place] = 0;
		return 0;
	}
	reader->stats.read++;
	return fn(ctx, &look);
}

static int read_batch(struct pool_reader *reader, const struct pool_ref *pools, size_t from, size_t n, pool_look_fn fn, void *ctx)
{
	raddr_t addrs[READ_POOLS];
	bool ok[READ_POOLS];
	size_t at = reader->at;
	int r;

	for (size_t i = 0; i < n; i++) {
		addrs[i] = pools[from + i].addr;
		reader->owner[at + i] = addrs[i].v;
		reader->by_pool[(addrs[i].v >> reader->shift) & reader->mask] = (uint32_t)(at + i);
	}
	r = rmem_gather_each(python_rmem(reader->python), addrs, n, reader->pool_size, reader->ring + at * reader->pool_size, ok);
	reader->stats.bytes += n * reader->pool_size;
	for (size_t i = 0; i < n && r == 0; i++)
		r = settle_pool(reader, at + i, from + i, ok[i], fn, ctx);
	reader->at = (at + READ_POOLS) % reader->room;
	return r;
}

int pool_reader_read(struct pool_reader *reader, const struct pool_ref *pools, size_t count, pool_look_fn fn, void *ctx)
{
	int r = 0;

	for (size_t done = 0; done < count && r == 0; done += READ_POOLS)
		r = read_batch(reader, pools, done, count - done < READ_POOLS ? count - done : READ_POOLS, fn, ctx);
	return r;
}

const uint8_t *pool_reader_find(const struct pool_reader *reader, raddr_t addr, size_t len)
{
	uint64_t number = addr.v >> reader->shift, offset = addr.v & (reader->pool_size - 1);
	uint32_t place = reader->by_pool[number & reader->mask];

	if (reader->owner[place] != number << reader->shift || !number || offset + len > reader->pool_size)
		return NULL;
	return reader->ring + (size_t)place * reader->pool_size + offset;
}

const struct pool_reader_stats *pool_reader_stats(const struct pool_reader *reader)
{
	return &reader->stats;
}
