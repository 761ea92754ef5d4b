/* SPDX-License-Identifier: MIT */
#include "diagnose/growth.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "base/map64.h"

#define KINDS 4

struct sum {
	uint64_t bytes, blocks, oldest_ns, second_blocks, bare_dicts;
};

struct before {
	uint64_t bytes, blocks;
};

struct growth {
	const struct stacks *stacks;
	struct growth_options options;
	uint64_t now_ns;
	struct map64 *sums;        /* kind and stack -> struct sum */
	struct map64 *index;       /* group key -> index into groups + 1 */
	struct map64 *before;      /* group key -> struct before: of the last report */
	struct growth_group *groups;
	uint64_t *heaviest;        /* of each group, while they are made */
	size_t count, cap;
	uint64_t filtered_bytes, total_bytes;
	bool knows_hands;
	int error;
};

int growth_new(const struct stacks *stacks, const struct growth_options *options, struct growth **ret_growth)
{
	_cleanup_(growth_freep) struct growth *g = calloc(1, sizeof(*g));
	int r;

	if (!g)
		return -ENOMEM;
	g->stacks = stacks;
	g->options = *options;
	r = map64_new(sizeof(struct sum), &g->sums);
	if (!r)
		r = map64_new(sizeof(size_t), &g->index);
	if (!r)
		r = map64_new(sizeof(struct before), &g->before);
	if (r)
		return r;
	*ret_growth = take_ptr(g);
	return 0;
}

void growth_free(struct growth *g)
{
	if (!g)
		return;
	map64_free(g->sums);
	map64_free(g->index);
	map64_free(g->before);
	free(g->groups);
	free(g->heaviest);
	free(g);
}

void growth_begin(struct growth *g, uint64_t now_ns)
{
	map64_clear(g->sums);
	map64_clear(g->index);
	g->now_ns = now_ns;
	g->count = 0;
	g->filtered_bytes = g->total_bytes = 0;
	g->error = 0;
}

void growth_know_hands(struct growth *g, bool known)
{
	g->knows_hands = known;
}

/* Sizes are what a target asked for, and so may be anything: sums stop where their differences still fit a signed number. */
static uint64_t plus(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) || sum > INT64_MAX ? INT64_MAX : sum;
}

/* NULL: too young, or no memory. */
static struct sum *sum_add(struct growth *g, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns)
{
	struct sum *sum;
	bool fresh;

	if (g->options.min_age_ns && (time_ns > g->now_ns || g->now_ns - time_ns < g->options.min_age_ns))
		return NULL;
	sum = map64_put(g->sums, (uint64_t)stack * KINDS + kind, &fresh);
	if (!sum) {
		g->error = -ENOMEM;
		return NULL;
	}
	sum->bytes = plus(sum->bytes, bytes);
	sum->blocks = plus(sum->blocks, blocks);
	if (fresh || time_ns < sum->oldest_ns)
		sum->oldest_ns = time_ns;
	return sum;
}

void growth_add(struct growth *g, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns)
{
	sum_add(g, kind, stack, bytes, blocks, time_ns);
}

void growth_add_blocks(struct growth *g, uint32_t stack, uint64_t bytes, uint64_t blocks, uint64_t time_ns, enum growth_hand hand)
{
	struct sum *sum = sum_add(g, FINDING_python, stack, bytes, blocks, time_ns);

	if (sum && hand == HAND_SECOND)
		sum->second_blocks = plus(sum->second_blocks, blocks);
}

void growth_note_bare(struct growth *g, uint32_t stack)
{
	struct sum *sum = map64_get(g->sums, (uint64_t)stack * KINDS + FINDING_python);

	if (sum)
		sum->bare_dicts++;
}

static bool matches_any(const char *const *globs, const char *file)
{
	for (; globs && *globs; globs++)
		/* As Python's fnmatch: * crosses slashes, a backslash is a backslash. */
		if (!fnmatch(*globs, file, FNM_NOESCAPE))
			return true;
	return false;
}

/* tracemalloc's rule: some inclusive filter matches (if there are any), and no exclusive one. */
static bool passes(const struct growth *g, const char *file)
{
	if (g->options.include && *g->options.include && !matches_any(g->options.include, file))
		return false;
	return !matches_any(g->options.exclude, file);
}

static const struct frame *innermost(const struct growth *g, uint32_t stack)
{
	const struct stack *s = stacks_get(g->stacks, stack);

	return s->count ? stacks_frame(g->stacks, s->frames[0]) : NULL;
}

static uint64_t group_key(const struct growth *g, enum finding_kind kind, uint32_t stack)
{
	const struct frame *f = innermost(g, stack);
	uint64_t key = stack;

	if (f && g->options.group_by == GROUP_LINE)
		key = ((uint64_t)f->file << 32) | (uint32_t)f->line;
	else if (f && g->options.group_by == GROUP_FILE)
		key = f->file;
	/* Stacks without a frame have a key of their own, whatever the grouping. */
	return (key << 3) | (uint64_t)kind << 1 | (f ? 1 : 0);
}

static int group_room(struct growth *g)
{
	size_t cap = g->cap ? g->cap * 2 : 256;
	void *groups, *heaviest;

	if (g->count < g->cap)
		return 0;
	groups = reallocarray(g->groups, cap, sizeof(*g->groups));
	if (groups)
		g->groups = groups;
	heaviest = reallocarray(g->heaviest, cap, sizeof(*g->heaviest));
	if (heaviest)
		g->heaviest = heaviest;
	if (!groups || !heaviest)
		return -ENOMEM;
	g->cap = cap;
	return 0;
}

static int group_add(struct growth *g, enum finding_kind kind, uint32_t stack, const struct sum *sum)
{
	uint64_t key = group_key(g, kind, stack);
	struct growth_group *group;
	size_t *index;
	bool fresh;
	int r;

	r = group_room(g);
	if (r)
		return r;
	index = map64_put(g->index, key, &fresh);
	if (!index)
		return -ENOMEM;
	if (fresh) {
		*index = g->count++;
		g->groups[*index] = (struct growth_group){ .kind = kind, .stack = stack, .oldest_ns = sum->oldest_ns, .key = key };
		g->heaviest[*index] = 0;
	}
	group = &g->groups[*index];
	group->live_bytes = plus(group->live_bytes, sum->bytes);
	group->live_blocks = plus(group->live_blocks, sum->blocks);
	group->second_blocks = plus(group->second_blocks, sum->second_blocks);
	group->bare_dicts = plus(group->bare_dicts, sum->bare_dicts);
	if (sum->oldest_ns < group->oldest_ns)
		group->oldest_ns = sum->oldest_ns;
	/* Ties go to the older stack, so that the choice does not depend on the map's order. */
	if (sum->bytes > g->heaviest[*index] || (sum->bytes == g->heaviest[*index] && stack < group->stack)) {
		g->heaviest[*index] = sum->bytes;
		group->stack = stack;
	}
	return 0;
}

/* Differences to the report before; then this one is the one before. */
static int group_deltas(struct growth *g)
{
	struct map64 *now = NULL;
	int r;

	r = map64_new(sizeof(struct before), &now);
	if (r)
		return r;
	for (size_t i = 0; i < g->count; i++) {
		const struct before *before = map64_get(g->before, g->groups[i].key);
		struct growth_group *group = &g->groups[i];
		struct before *b = map64_put(now, g->groups[i].key, NULL);

		if (!b) {
			map64_free(now);
			return -ENOMEM;
		}
		*b = (struct before){ group->live_bytes, group->live_blocks };
		group->delta_bytes = (int64_t)(group->live_bytes - (before ? before->bytes : 0));
		group->delta_blocks = (int64_t)(group->live_blocks - (before ? before->blocks : 0));
	}
	map64_free(g->before);
	g->before = now;
	return 0;
}

static int compare_frames(const struct growth *g, uint32_t a, uint32_t b)
{
	const struct frame *fa = innermost(g, a), *fb = innermost(g, b);
	int r;

	if (!fa || !fb)
		return (fa != NULL) - (fb != NULL);
	r = strcmp(stacks_str(g->stacks, fa->file), stacks_str(g->stacks, fb->file));
	if (!r)
		r = (fa->line > fb->line) - (fa->line < fb->line);
	if (!r)
		r = strcmp(stacks_str(g->stacks, fa->function), stacks_str(g->stacks, fb->function));
	return r ? r : (a > b) - (a < b);
}

static int compare_groups(const void *pa, const void *pb, void *ctx)
{
	const struct growth_group *a = pa, *b = pb;
	int r;

	if (a->live_bytes != b->live_bytes)
		return a->live_bytes > b->live_bytes ? -1 : 1;
	if (a->live_blocks != b->live_blocks)
		return a->live_blocks > b->live_blocks ? -1 : 1;
	r = compare_frames(ctx, a->stack, b->stack);
	/* One stack can stand for blocks and for mappings. */
	return r ? r : (a->kind > b->kind) - (a->kind < b->kind);
}

/* From a group's key to its rank, now that they are ranked. */
static void index_ranks(struct growth *g)
{
	for (size_t i = 0; i < g->count; i++) {
		size_t *rank = map64_get(g->index, g->groups[i].key);

		if (rank)
			*rank = i;
	}
}

int growth_end(struct growth *g)
{
	const struct sum *sum;
	size_t cursor = 0;
	uint64_t key;
	int r = g->error;

	while (!r && (sum = map64_next(g->sums, &cursor, &key))) {
		uint32_t stack = (uint32_t)(key / KINDS);
		const struct frame *f = innermost(g, stack);

		g->total_bytes = plus(g->total_bytes, sum->bytes);
		if (passes(g, f ? stacks_str(g->stacks, f->file) : "<unknown>"))
			r = group_add(g, (enum finding_kind)(key % KINDS), stack, sum);
		else
			g->filtered_bytes = plus(g->filtered_bytes, sum->bytes);
	}
	if (!r)
		r = group_deltas(g);
	if (!r && g->count)
		qsort_r(g->groups, g->count, sizeof(*g->groups), compare_groups, g);
	index_ranks(g);
	return r;
}

size_t growth_rank_of(const struct growth *g, enum finding_kind kind, uint32_t stack)
{
	const size_t *rank = map64_get(g->index, group_key(g, kind, stack));

	return rank ? *rank : SIZE_MAX;
}

int growth_reorder(struct growth *g, const size_t *ranks)
{
	struct growth_group *groups = calloc(g->cap + 1, sizeof(*groups));

	if (!groups)
		return -ENOMEM;
	for (size_t i = 0; i < g->count; i++)
		groups[i] = g->groups[ranks[i]];
	free(g->groups);
	g->groups = groups;
	index_ranks(g);
	return 0;
}

size_t growth_count(const struct growth *g)
{
	return g->count;
}

const struct growth_group *growth_get(const struct growth *g, size_t rank)
{
	return &g->groups[rank];
}

int growth_first_hand(const struct growth *g, const struct growth_group *group)
{
	if (!g->knows_hands || group->kind != FINDING_python)
		return -1;
	return group->second_blocks <= group->live_blocks / 2;
}

const struct growth_group *growth_likelier(const struct growth *g)
{
	const struct growth_group *best = NULL;

	for (size_t i = 0; i < g->count; i++)
		if (g->groups[i].bare_dicts > (best ? best->bare_dicts : 0) && growth_first_hand(g, &g->groups[i]) == 1)
			best = &g->groups[i];
	return best;
}

uint64_t growth_filtered_bytes(const struct growth *g)
{
	return g->filtered_bytes;
}

uint64_t growth_total_bytes(const struct growth *g)
{
	return g->total_bytes;
}
