/* SPDX-License-Identifier: MIT */
#include "track/moves.h"

#include <errno.h>
#include <stdlib.h>

/* Blocks that left in one window; more are not followed. */
#define LEFT_MAX 512u

struct left {
	uint64_t time_ns, bytes;
	uint32_t stack;
	bool known, taken;
	struct survivor old;
};

struct moves {
	struct move *steps;   /* a ring */
	uint64_t n_steps;
	uint32_t n_chains;
	struct left *left;
	size_t n_left;
};

int moves_new(struct moves **ret_moves)
{
	_cleanup_(moves_freep) struct moves *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->steps = calloc(MOVES_MAX, sizeof(*m->steps));
	m->left = calloc(LEFT_MAX, sizeof(*m->left));
	if (!m->steps || !m->left)
		return -ENOMEM;
	*ret_moves = take_ptr(m);
	return 0;
}

void moves_free(struct moves *m)
{
	if (!m)
		return;
	free(m->steps);
	free(m->left);
	free(m);
}

void moves_leave(struct moves *m, uint32_t stack, uint64_t time_ns, uint64_t bytes, const struct survivor *old)
{
	struct left *l;

	if (m->n_left == LEFT_MAX)
		return;
	l = &m->left[m->n_left++];
	*l = (struct left){ .time_ns = time_ns, .bytes = bytes, .stack = stack, .known = old };
	if (old)
		l->old = *old;
}

/* The last that left at this line before the block came. */
static struct left *find_left(struct moves *m, const struct survivor *block)
{
	struct left *best = NULL;

	for (size_t i = 0; i < m->n_left; i++) {
		struct left *l = &m->left[i];

		if (!l->taken && l->stack == block->stack && l->time_ns <= block->time_ns && (!best || l->time_ns >= best->time_ns))
			best = l;
	}
	return best;
}

static void add_step(struct moves *m, const struct survivor *block, uint32_t chain, uint64_t bytes)
{
	m->steps[m->n_steps++ % MOVES_MAX] = (struct move){
		.time_ns = block->time_ns,
		.bytes = bytes,
		.chain = chain,
		.stack = block->stack,
		.window = block->window,
		.weight = block->weight,
	};
}

/* A container that shrinks gives back what it gained last. */
static void take_back(struct moves *m, uint32_t chain, uint64_t bytes)
{
	uint64_t first = m->n_steps > MOVES_MAX ? m->n_steps - MOVES_MAX : 0;

	for (uint64_t i = m->n_steps; i > first && bytes; i--) {
		struct move *step = &m->steps[(i - 1) % MOVES_MAX];
		uint64_t cut;

		if (step->chain != chain)
			continue;
		cut = step->bytes < bytes ? step->bytes : bytes;
		step->bytes -= cut;
		bytes -= cut;
	}
}

bool moves_link(struct moves *m, struct survivor *block)
{
	struct left *l = block->moved ? find_left(m, block) : NULL;

	if (!l)
		return false;
	l->taken = true;
	if (l->known && l->old.chain) {
		block->chain = l->old.chain;
	} else {
		block->chain = ++m->n_chains;
		/* Born in our sight: all of it is growth. */
		if (l->known)
			add_step(m, &l->old, block->chain, l->bytes);
	}
	if (block->size >= l->bytes)
		add_step(m, block, block->chain, block->size - l->bytes);
	else
		take_back(m, block->chain, l->bytes - block->size);
	return true;
}

void moves_end_window(struct moves *m)
{
	m->n_left = 0;
}

void moves_visit(const struct moves *m, move_fn fn, void *ctx)
{
	uint64_t first = m->n_steps > MOVES_MAX ? m->n_steps - MOVES_MAX : 0;

	for (uint64_t i = first; i < m->n_steps; i++)
		fn(ctx, &m->steps[i % MOVES_MAX]);
}
