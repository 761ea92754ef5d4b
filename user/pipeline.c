/* SPDX-License-Identifier: MIT */
#include "pipeline.h"

#include <errno.h>

#include "../bpf/control.h"

struct pipeline {
	struct stacks *stacks;
	struct ledger *ledger;
	struct owners *owners;
	pipeline_fork_fn on_fork;
	void *ctx;
	struct {
		pid_t pid;
		struct mappings *mappings;   /* NULL: not followed */
		struct sampling *sampling;   /* NULL: traced exactly, by the ledger */
	} targets[MAX_TARGETS];
	enum pipeline_end end;
	int exit_code;
	uint64_t events, malformed;
};

int pipeline_new(stacks_fetch_fn fetch, pipeline_fork_fn on_fork, void *ctx, struct pipeline **ret_pipeline)
{
	_cleanup_(pipeline_freep) struct pipeline *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->on_fork = on_fork;
	p->ctx = ctx;
	r = stacks_new(fetch, ctx, &p->stacks);
	if (!r)
		r = ledger_new(&p->ledger);
	if (!r)
		r = owners_new(&p->owners);
	if (r)
		return r;
	*ret_pipeline = take_ptr(p);
	return 0;
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < MAX_TARGETS; i++)
		mappings_free(p->targets[i].mappings);
	for (size_t i = 0; i < MAX_TARGETS; i++)
		sampling_free(p->targets[i].sampling);
	stacks_free(p->stacks);
	ledger_free(p->ledger);
	owners_free(p->owners);
	free(p);
}

int pipeline_add_target(struct pipeline *p, uint32_t target, pid_t pid, enum linetable_kind kind, struct mappings *mappings)
{
	int r = stacks_add_target(p->stacks, target, kind);

	if (r) {
		mappings_free(mappings);
		return r;
	}
	mappings_free(p->targets[target].mappings);
	p->targets[target].pid = pid;
	p->targets[target].mappings = mappings;
	return 0;
}

void pipeline_sample(struct pipeline *p, uint32_t target, struct sampling *sampling)
{
	sampling_free(p->targets[target].sampling);
	p->targets[target].sampling = sampling;
}

void pipeline_drop_mappings(struct pipeline *p, uint32_t target)
{
	mappings_free(p->targets[target].mappings);
	p->targets[target].mappings = NULL;
}

struct sampling *pipeline_sampling(struct pipeline *p, uint32_t target)
{
	return target < MAX_TARGETS ? p->targets[target].sampling : NULL;
}

/* The target itself, not a forked child whose slots are still to be restored. */
static bool is_target(const struct pipeline *p, const struct event_task *e)
{
	return e->pid && e->hdr.target < MAX_TARGETS && p->targets[e->hdr.target].pid == (pid_t)e->pid;
}

static int take_alloc(struct pipeline *p, const void *data, size_t size)
{
	const struct event_alloc *e = data;
	struct sampling *sampling = pipeline_sampling(p, e->hdr.target);

	(void)size;
	if (sampling)
		return sampling_on_alloc(sampling, e, stacks_find(p->stacks, e->stack));
	return ledger_on_alloc(p->ledger, e, stacks_find(p->stacks, e->stack));
}

static int take_free(struct pipeline *p, const void *data, size_t size)
{
	const struct event_block *e = data;
	struct sampling *sampling = pipeline_sampling(p, e->hdr.target);

	(void)size;
	if (!sampling)
		return ledger_on_free(p->ledger, e);
	sampling_on_free(sampling, e, e->hdr.flags & EVENT_F_LARGE ? stacks_find(p->stacks, e->stack) : 0);
	return 0;
}

static int take_realloc_failed(struct pipeline *p, const void *data, size_t size)
{
	(void)size;
	return ledger_on_realloc_failed(p->ledger, data);
}

static int take_stack(struct pipeline *p, const void *data, size_t size)
{
	return stacks_on_stack(p->stacks, data, size);
}

static int take_code(struct pipeline *p, const void *data, size_t size)
{
	return stacks_on_code(p->stacks, data, size);
}

static int take_code_free(struct pipeline *p, const void *data, size_t size)
{
	const struct event_block *e = data;

	(void)size;
	return stacks_on_code_free(p->stacks, e->hdr.target, e->addr);
}

static struct mappings *mappings_of(const struct pipeline *p, const struct event_hdr *hdr)
{
	return hdr->target < MAX_TARGETS ? p->targets[hdr->target].mappings : NULL;
}

static int take_map(struct pipeline *p, const void *data, size_t size)
{
	const struct event_map *e = data;
	struct mappings *m = mappings_of(p, &e->hdr);

	(void)size;
	return m ? mappings_on_map(m, e, stacks_find(p->stacks, e->stack)) : 0;
}

/* The records of one address. */
static int take_place(struct pipeline *p, const void *data, size_t size)
{
	const struct event_block *e = data;
	struct mappings *m = mappings_of(p, &e->hdr);
	uint32_t stack = m ? stacks_find(p->stacks, e->stack) : 0;

	(void)size;
	if (!m)
		return 0;
	switch (e->hdr.kind) {
	case EVENT_MUNMAP:
		return mappings_on_munmap(m, e);
	case EVENT_BRK:
		return mappings_on_brk(m, e, stack);
	case EVENT_POOL:
		return mappings_on_pool(m, e, stack);
	case EVENT_FAULT:
		return mappings_on_fault(m, e, stack);
	default:
		return mappings_on_arena(m, e, stack);
	}
}

static int take_fork(struct pipeline *p, const void *data, size_t size)
{
	const struct event_task *e = data;

	(void)size;
	if (p->on_fork)
		p->on_fork(p->ctx, (pid_t)e->pid);
	return 0;
}

static int take_exec(struct pipeline *p, const void *data, size_t size)
{
	(void)size;
	if (is_target(p, data) && p->end == PIPELINE_RUNS)
		p->end = PIPELINE_EXECED;
	return 0;
}

static int take_exit(struct pipeline *p, const void *data, size_t size)
{
	const struct event_task *e = data;

	(void)size;
	/* The first end counts: an exit after an exec is another program's. */
	if (!is_target(p, e) || p->end != PIPELINE_RUNS)
		return 0;
	p->end = PIPELINE_EXITED;
	p->exit_code = (int)e->exit_code;
	return 0;
}

/* What takes a record of each kind, and the least it must be. A kind without a row is passed over. */
static const struct {
	int (*take)(struct pipeline *p, const void *data, size_t size);
	size_t size;
} takers[EVENT_KIND_COUNT] = {
	[EVENT_ALLOC] = { take_alloc, sizeof(struct event_alloc) },
	[EVENT_FREE] = { take_free, sizeof(struct event_block) },
	[EVENT_REALLOC_FAILED] = { take_realloc_failed, sizeof(struct event_block) },
	[EVENT_STACK] = { take_stack, sizeof(struct event_stack) },
	[EVENT_CODE] = { take_code, sizeof(struct event_code) },
	[EVENT_CODE_FREE] = { take_code_free, sizeof(struct event_block) },
	[EVENT_POOL] = { take_place, sizeof(struct event_block) },
	[EVENT_ARENA_ALLOC] = { take_place, sizeof(struct event_block) },
	[EVENT_ARENA_FREE] = { take_place, sizeof(struct event_block) },
	[EVENT_MMAP] = { take_map, sizeof(struct event_map) },
	[EVENT_MREMAP] = { take_map, sizeof(struct event_map) },
	[EVENT_MUNMAP] = { take_place, sizeof(struct event_block) },
	[EVENT_BRK] = { take_place, sizeof(struct event_block) },
	[EVENT_FAULT] = { take_place, sizeof(struct event_block) },
	[EVENT_FORK] = { take_fork, sizeof(struct event_task) },
	[EVENT_EXEC] = { take_exec, sizeof(struct event_task) },
	[EVENT_EXIT] = { take_exit, sizeof(struct event_task) },
};

int pipeline_on_event(void *pipeline, const void *data, size_t size)
{
	const struct event_hdr *hdr = data;
	struct pipeline *p = pipeline;
	int r;

	p->events++;
	if (size < sizeof(*hdr) || hdr->kind >= EVENT_KIND_COUNT || size < takers[hdr->kind].size) {
		p->malformed++;
		return 0;
	}
	if (!takers[hdr->kind].take)
		return 0;
	r = takers[hdr->kind].take(p, data, size);
	if (r == -EBADMSG || r == -ENOSPC)
		p->malformed++;
	/* One record that makes no sense, or finds a bounded table full, is counted; without memory there is no going on. */
	return r == -EBADMSG || r == -ENOSPC ? 0 : r;
}

enum pipeline_end pipeline_end(const struct pipeline *p, int *ret_exit_code)
{
	if (ret_exit_code)
		*ret_exit_code = p->exit_code;
	return p->end;
}

struct stacks *pipeline_stacks(struct pipeline *p)
{
	return p->stacks;
}

struct ledger *pipeline_ledger(struct pipeline *p)
{
	return p->ledger;
}

uint64_t pipeline_events(const struct pipeline *p)
{
	return p->events;
}

uint64_t pipeline_malformed(const struct pipeline *p)
{
	return p->malformed;
}

struct profile {
	struct pipeline *p;
	struct growth *growth;
};

static void profile_block(void *ctx, uint32_t target, uint64_t addr, const struct block *block)
{
	const struct profile *profile = ctx;

	if (!owners_take(profile->p->owners, target, addr, block))
		growth_add_blocks(profile->growth, block->stack, block->size, 1, block->time_ns, HAND_FIRST);
}

void pipeline_add_ledger(struct pipeline *p, struct growth *growth)
{
	struct profile profile = { p, growth };

	ledger_visit(p->ledger, profile_block, &profile);
}

void pipeline_add_nursery(struct pipeline *p, struct growth *growth, uint32_t target, uint64_t addr,
			  const struct nursery_slot *slot)
{
	struct profile profile = { p, growth };
	struct block block = {
		.size = NURSERY_SIZE(slot->size), .stack = stacks_find(p->stacks, slot->stack), .flags = NURSERY_FLAGS(slot->size),
		.time_ns = slot->time_ns,
	};

	profile_block(&profile, target, addr, &block);
}

static void profile_owned(void *ctx, const struct block *block, bool owned)
{
	growth_add_blocks(ctx, block->stack, block->size, 1, block->time_ns, owned ? HAND_FIRST : HAND_SECOND);
}

static void profile_bare(void *ctx, const struct block *dict)
{
	growth_note_bare(ctx, dict->stack);
}

void pipeline_add_owned(struct pipeline *p, struct growth *growth, owners_read_fn read, void *ctx)
{
	owners_resolve(p->owners, read, ctx);
	owners_visit(p->owners, profile_owned, profile_bare, growth);
	owners_clear(p->owners);
}

struct owners *pipeline_owners(struct pipeline *p)
{
	return p->owners;
}

struct survivor_profile {
	struct growth *growth;
	const struct sampling *sampling;
};

static void profile_survivor(void *ctx, const struct survivor *b)
{
	const struct survivor_profile *p = ctx;
	double blocks = (double)b->weight;

	growth_add_blocks(p->growth, b->stack, (uint64_t)(blocks * b->size), (uint64_t)(blocks + 0.5), b->time_ns,
			  sampling_is_second_hand(p->sampling, b) ? HAND_SECOND : HAND_FIRST);
	if (sampling_is_new_dict(p->sampling, b))
		growth_note_bare(p->growth, b->stack);
}

void pipeline_add_survivors(struct pipeline *p, struct growth *growth, uint32_t target)
{
	struct sampling *sampling = pipeline_sampling(p, target);
	struct survivor_profile profile = { .growth = growth, .sampling = sampling };

	if (sampling)
		survivors_visit(sampling_survivors(sampling), profile_survivor, &profile);
}

struct mapping_profile {
	struct growth *growth;
	pipeline_piece_fn fn;
	void *ctx;
};

static void profile_mapping(void *ctx, enum mapping_kind kind, uint32_t stack, uint64_t bytes, uint64_t time_ns)
{
	static const enum finding_kind findings[] = {
		[MAPPING_MMAP] = FINDING_mmap,
		[MAPPING_HEAP] = FINDING_native,
		[MAPPING_PAGE] = FINDING_native,
		[MAPPING_POOL] = FINDING_python,
		[MAPPING_ARENA_PAGE] = FINDING_python,
	};
	const struct mapping_profile *p = ctx;

	growth_add(p->growth, findings[kind], stack, bytes, 1, time_ns);
	if (p->fn)
		p->fn(p->ctx, findings[kind], stack, bytes, time_ns);
}

void pipeline_add_mappings(struct pipeline *p, struct growth *growth, uint32_t target, const struct mappings_witness *witness,
			   pipeline_piece_fn fn, void *ctx)
{
	struct mapping_profile profile = { growth, fn, ctx };

	if (target < MAX_TARGETS && p->targets[target].mappings)
		mappings_visit(p->targets[target].mappings, witness, profile_mapping, &profile);
}

void pipeline_add_arena(struct pipeline *p, uint32_t target, uint64_t addr, uint64_t size)
{
	if (target < MAX_TARGETS && p->targets[target].mappings)
		mappings_add_arena(p->targets[target].mappings, addr, size);
}
