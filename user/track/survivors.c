/* SPDX-License-Identifier: MIT */
/*
 * Survivors wait in queues, one for each age at which they are looked at next;
 * a queue is in the order of due times, so that only heads need looking at.
 */
#include "track/survivors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/map64.h"
#include "base/random.h"

#define NONE UINT32_MAX
#define BATCH 1024
/* Call sites with fewer survivors keep them all when the table is thinned out. */
#define CROWDED 64

/* After the look at one age comes the next; the last repeats. */
static const uint64_t ages_ns[] = { 0, 20000000ull, 100000000ull, 500000000ull, 2000000000ull, 5000000000ull, 10000000000ull };
#define QUEUES (sizeof(ages_ns) / sizeof(ages_ns[0]) + 1)
#define REPEAT_NS 10000000000ull

struct entry {
	struct survivor block;
	uint64_t due_ns;
	uint32_t prev, next;
	uint8_t queue;
};

struct queue {
	uint32_t head, tail;
};

struct survivors {
	struct entry *entries;
	size_t max, used;           /* entries[used..max) were never used */
	uint32_t free;              /* list of those given back */
	struct queue queues[QUEUES];
	struct map64 *index;        /* address -> uint32_t entry */
	struct map64 *fates;        /* stack -> struct survivor_fates */
	struct map64 *owned;        /* address -> struct survivor: told of instead */
	struct block_look *looks;   /* scratch of a check */
	uint32_t *looked;
	size_t count;
	uint64_t added, died, evicted;
	uint64_t random;
};

int survivors_new(size_t max, struct survivors **ret_survivors)
{
	_cleanup_(survivors_freep) struct survivors *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	if (!max || max >= NONE)
		return -EINVAL;
	s->max = max;
	s->free = NONE;
	s->random = 0x9e3779b97f4a7c15ull;
	for (size_t i = 0; i < QUEUES; i++)
		s->queues[i] = (struct queue){ NONE, NONE };
	s->entries = malloc(max * sizeof(*s->entries));
	s->looks = calloc(BATCH, sizeof(*s->looks));
	s->looked = calloc(BATCH, sizeof(*s->looked));
	if (!s->entries || !s->looks || !s->looked)
		return -ENOMEM;
	r = map64_new(sizeof(uint32_t), &s->index);
	if (!r)
		r = map64_new(sizeof(struct survivor_fates), &s->fates);
	if (!r)
		r = map64_new(sizeof(struct survivor), &s->owned);
	if (r)
		return r;
	*ret_survivors = take_ptr(s);
	return 0;
}

void survivors_free(struct survivors *s)
{
	if (!s)
		return;
	map64_free(s->index);
	map64_free(s->fates);
	map64_free(s->owned);
	free(s->entries);
	free(s->looks);
	free(s->looked);
	free(s);
}

static void queue_put(struct survivors *s, uint32_t i, uint8_t queue, uint64_t due_ns)
{
	struct queue *q = &s->queues[queue];
	struct entry *e = &s->entries[i];

	e->queue = queue;
	e->due_ns = due_ns;
	e->next = NONE;
	e->prev = q->tail;
	if (q->tail != NONE)
		s->entries[q->tail].next = i;
	else
		q->head = i;
	q->tail = i;
}

static void queue_take(struct survivors *s, uint32_t i)
{
	struct entry *e = &s->entries[i];
	struct queue *q = &s->queues[e->queue];

	if (e->prev != NONE)
		s->entries[e->prev].next = e->next;
	else
		q->head = e->next;
	if (e->next != NONE)
		s->entries[e->next].prev = e->prev;
	else
		q->tail = e->prev;
}

static void drop(struct survivors *s, uint32_t i)
{
	struct entry *e = &s->entries[i];

	queue_take(s, i);
	map64_remove(s->index, e->block.addr, NULL);
	e->next = s->free;
	s->free = i;
	s->count--;
}

static void die(struct survivors *s, uint32_t i, uint64_t now_ns)
{
	static const double ages[SURVIVOR_AGE_COUNT] = {
#define X(seconds) seconds,
		SURVIVOR_AGES(X)
#undef X
	};
	const struct survivor *b = &s->entries[i].block;
	struct survivor_fates *fates = map64_get(s->fates, b->stack);
	double age = now_ns > b->time_ns ? (double)(now_ns - b->time_ns) / 1e9 : 0;
	int k = 0;

	while (k < SURVIVOR_AGE_COUNT - 1 && age > ages[k])
		k++;
	if (fates)
		fates->died[k] += (double)b->weight;
	s->died++;
	drop(s, i);
}

/* A coin. The same program, fed the same, draws the same. */
static bool coin(struct survivors *s)
{
	return random_next(&s->random) >> 63;
}

static void evict_or_double(struct survivors *s, uint32_t i)
{
	if (coin(s)) {
		s->evicted++;
		drop(s, i);
	} else {
		s->entries[i].block.weight *= 2;
	}
}

/* What one queue holds of a stack. */
struct crowd {
	double weight;
	uint32_t count;
};

/* All of the queue's in ret_all. */
static int count_crowds(const struct survivors *s, int queue, struct map64 *crowds, struct crowd *ret_all)
{
	*ret_all = (struct crowd){ 0 };
	for (uint32_t i = s->queues[queue].head; i != NONE; i = s->entries[i].next) {
		const struct survivor *b = &s->entries[i].block;
		struct crowd *crowd = map64_put(crowds, b->stack, NULL);

		if (!crowd)
			return -ENOMEM;
		crowd->count++;
		crowd->weight += (double)b->weight;
		ret_all->count++;
		ret_all->weight += (double)b->weight;
	}
	return 0;
}

/* How far thinning goes. */
struct thinning {
	uint32_t crowd;   /* stacks with no more blocks than this keep them */
	bool heavy;       /* those heavier than the mean, too */
};

static bool is_light(const struct survivor *b, const struct crowd *among)
{
	return (double)b->weight * among->count <= 1.001 * among->weight;
}

/*
 * Halves one queue's share of every crowded stack: of its light blocks, those up to the mean weight of the stack (of all, where there is
 * no crowd). Were all halved again and again, the old would be forgotten but for a few, by chance, of enormous weight.
 */
static int thin_queue(struct survivors *s, int queue, const struct thinning *how)
{
	_cleanup_(map64_freep) struct map64 *crowds = NULL;
	struct crowd all;
	int r = map64_new(sizeof(struct crowd), &crowds);

	if (!r)
		r = count_crowds(s, queue, crowds, &all);
	for (uint32_t i = s->queues[queue].head, next; i != NONE && !r; i = next) {
		const struct survivor *b = &s->entries[i].block;
		const struct crowd *crowd = map64_get(crowds, b->stack);

		next = s->entries[i].next;
		if (crowd->count > how->crowd && (how->heavy || is_light(b, how->crowd ? crowd : &all)))
			evict_or_double(s, i);
	}
	return r;
}

/* Makes room: the oldest first, those of crowded stacks first. */
static int thin(struct survivors *s)
{
	static const struct thinning steps[] = {
		{ CROWDED, false }, { CROWDED, false }, { CROWDED, false }, { CROWDED, true }, { 0, false }, { 0, false }, { 0, false }, { 0, true },
	};
	size_t goal = s->max - s->max / 8;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		for (int queue = QUEUES - 1; queue >= 0 && s->count > goal; queue--) {
			int r = thin_queue(s, queue, &steps[i]);

			if (r)
				return r;
		}
	}
	/* Chance may leave too many. */
	while (s->count >= s->max) {
		int queue = QUEUES - 1;

		while (s->queues[queue].head == NONE)
			queue--;
		s->evicted++;
		drop(s, s->queues[queue].head);
	}
	return 0;
}

static uint32_t entry_new(struct survivors *s)
{
	uint32_t i = s->free;

	if (i == NONE)
		return (uint32_t)s->used++;
	s->free = s->entries[i].next;
	return i;
}

int survivors_add(struct survivors *s, const struct survivor *block)
{
	uint32_t *known = map64_get(s->index, block->addr), i;
	struct survivor_fates *fates;

	if (known) {
		/* Records of one address can cross: the ring's are older than the nursery's. */
		if (s->entries[*known].block.time_ns > block->time_ns)
			return 0;
		die(s, *known, block->time_ns);
	}
	if (s->count == s->max) {
		int r = thin(s);

		if (r)
			return r;
	}
	fates = map64_put(s->fates, block->stack, NULL);
	known = map64_put(s->index, block->addr, NULL);
	if (!fates || !known)
		return -ENOMEM;
	i = entry_new(s);
	*known = i;
	fates->left_window += (double)block->weight;
	s->entries[i].block = *block;
	queue_put(s, i, 0, block->time_ns);
	s->count++;
	s->added++;
	return 0;
}

bool survivors_freed(struct survivors *s, uint64_t addr, uint64_t time_ns, struct survivor *ret_block)
{
	const uint32_t *i = map64_get(s->index, addr);

	if (!i || s->entries[*i].block.time_ns > time_ns)
		return false;
	if (ret_block)
		*ret_block = s->entries[*i].block;
	die(s, *i, time_ns);
	return true;
}

static void requeue(struct survivors *s, uint32_t i, uint64_t now_ns)
{
	struct entry *e = &s->entries[i];
	uint8_t queue = e->queue;

	queue_take(s, i);
	if (queue < QUEUES - 1)
		queue++;
	/* A queue stays in the order of due times: what comes late is due with those before it. */
	queue_put(s, i, queue, queue == QUEUES - 1 ? now_ns + REPEAT_NS : e->block.time_ns + ages_ns[queue]);
}

static bool is_dead(struct survivor *b, const struct block_look *look)
{
	switch (look->state) {
	case BLOCK_FREE:
	case BLOCK_GONE:
		return true;
	case BLOCK_UNSURE:
		return false;
	case BLOCK_LIVE:
		break;
	}
	/* An object is not yet one when it was just allocated: what it is may be learned later, but then it must stay that. */
	if (b->type && (look->type != b->type || look->print != b->print))
		return true;
	b->type = look->type;
	b->print = look->print;
	b->block_bytes = (uint16_t)look->block_bytes;
	return false;
}

static size_t take_due(struct survivors *s, uint64_t now_ns, size_t max)
{
	size_t n = 0;

	/* The young first: their look must not be late. */
	for (size_t queue = 0; queue < QUEUES; queue++) {
		for (uint32_t i = s->queues[queue].head; i != NONE && n < max; i = s->entries[i].next) {
			const struct entry *e = &s->entries[i];

			if (e->due_ns > now_ns)
				break;
			s->looked[n] = i;
			s->looks[n++] = (struct block_look){ .addr = RADDR(e->block.addr), .size = e->block.size };
		}
	}
	return n;
}

int survivors_check(struct survivors *s, struct blocks *blocks, uint64_t now_ns, size_t max)
{
	size_t n = take_due(s, now_ns, max < BATCH ? max : BATCH);
	int r;

	if (!n)
		return 0;
	r = blocks_look(blocks, s->looks, n);
	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++) {
		struct entry *e = &s->entries[s->looked[k]];

		if (is_dead(&e->block, &s->looks[k])) {
			die(s, s->looked[k], now_ns);
			continue;
		}
		e->block.checked_ns = now_ns;
		requeue(s, s->looked[k], now_ns);
	}
	return (int)n;
}

uint64_t survivors_next_ns(const struct survivors *s)
{
	uint64_t next = UINT64_MAX;

	for (size_t queue = 0; queue < QUEUES; queue++) {
		uint32_t i = s->queues[queue].head;

		if (i != NONE && s->entries[i].due_ns < next)
			next = s->entries[i].due_ns;
	}
	return next;
}

int survivors_set_owned(struct survivors *s, const struct survivor *owned, size_t count)
{
	map64_clear(s->owned);
	for (size_t i = 0; i < count; i++) {
		struct survivor *b = map64_put(s->owned, owned[i].addr, NULL);

		if (!b)
			return -ENOMEM;
		*b = owned[i];
	}
	return 0;
}

void survivors_visit(const struct survivors *s, survivor_fn fn, void *ctx)
{
	const struct survivor *b;
	size_t cursor = 0;
	uint64_t addr;

	for (int queue = QUEUES - 1; queue >= 0; queue--)
		for (uint32_t i = s->queues[queue].head; i != NONE; i = s->entries[i].next)
			if (!map64_get(s->owned, s->entries[i].block.addr))
				fn(ctx, &s->entries[i].block);
	while ((b = map64_next(s->owned, &cursor, &addr)))
		fn(ctx, b);
}

const struct survivor_fates *survivors_fates(const struct survivors *s, uint32_t stack)
{
	return map64_get(s->fates, stack);
}

void survivors_visit_fates(const struct survivors *s, survivor_fates_fn fn, void *ctx)
{
	const struct survivor_fates *fates;
	size_t cursor = 0;
	uint64_t stack;

	while ((fates = map64_next(s->fates, &cursor, &stack)))
		fn(ctx, (uint32_t)stack, fates);
}

size_t survivors_count(const struct survivors *s)
{
	return s->count;
}

uint64_t survivors_added(const struct survivors *s)
{
	return s->added;
}

uint64_t survivors_died(const struct survivors *s)
{
	return s->died;
}

uint64_t survivors_evicted(const struct survivors *s)
{
	return s->evicted;
}
