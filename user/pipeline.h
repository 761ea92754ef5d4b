/* SPDX-License-Identifier: MIT */
/*
 * The spine: decode → intern → apply → profile → report. Records come in from
 * the ring (or a capture), tables are kept up to date, and at any moment a
 * report can be drawn from them. Knows nothing of how records are made.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "diagnose/growth.h"
#include "diagnose/source.h"
#include "track/ledger.h"
#include "track/mappings.h"
#include "track/sampling.h"
#include "track/owners.h"
#include "track/stacks.h"

/* What happened to the target, as the stream told. */
enum pipeline_end { PIPELINE_RUNS, PIPELINE_EXITED, PIPELINE_EXECED };

struct pipeline;

/* fork: called when the target forked (its child has pid). May be NULL. */
typedef void (*pipeline_fork_fn)(void *ctx, pid_t child);

int pipeline_new(stacks_fetch_fn fetch, pipeline_fork_fn on_fork, void *ctx, struct pipeline **ret_pipeline);
void pipeline_free(struct pipeline *pipeline);
DEFINE_CLEANUP(struct pipeline, pipeline_free)

/* Tells of a process whose records carry this target index. Takes mappings over, also on failure; NULL: they are not followed. */
int pipeline_add_target(struct pipeline *pipeline, uint32_t target, pid_t pid, enum linetable_kind kind, struct mappings *mappings);

/* The target's blocks are samples from now on. Takes sampling over. */
void pipeline_sample(struct pipeline *pipeline, uint32_t target, struct sampling *sampling);
/* NULL: it is traced exactly. */
struct sampling *pipeline_sampling(struct pipeline *pipeline, uint32_t target);

/* The target's address space is followed no longer. */
void pipeline_drop_mappings(struct pipeline *pipeline, uint32_t target);

/* A session_event_fn: takes one record of size bytes. Malformed records are counted, not fatal. */
int pipeline_on_event(void *pipeline, const void *data, size_t size);

enum pipeline_end pipeline_end(const struct pipeline *pipeline, int *ret_exit_code);
struct stacks *pipeline_stacks(struct pipeline *pipeline);
struct ledger *pipeline_ledger(struct pipeline *pipeline);
struct owners *pipeline_owners(struct pipeline *pipeline);
uint64_t pipeline_events(const struct pipeline *pipeline);
uint64_t pipeline_malformed(const struct pipeline *pipeline);

/*
 * Profiles what is alive now. Between growth_begin() and growth_end(): the ledger's blocks, each block that still sits in the nursery
 * (through pipeline_add_nursery()), and what grew in the address space.
 */
void pipeline_add_ledger(struct pipeline *pipeline, struct growth *growth);
void pipeline_add_nursery(struct pipeline *pipeline, struct growth *growth, uint32_t target, uint64_t addr,
			  const struct nursery_slot *slot);
/* Sampled mode: each survivor, as often as it stands for. */
void pipeline_add_survivors(struct pipeline *pipeline, struct growth *growth, uint32_t target);
/* fn, which may be NULL, is told of each piece besides. */
typedef void (*pipeline_piece_fn)(void *ctx, enum finding_kind kind, uint32_t stack, uint64_t bytes, uint64_t time_ns);
void pipeline_add_mappings(struct pipeline *pipeline, struct growth *growth, uint32_t target, const struct mappings_witness *witness,
			   pipeline_piece_fn fn, void *ctx);
/* An arena that no probe told of. */
void pipeline_add_arena(struct pipeline *pipeline, uint32_t target, uint64_t addr, uint64_t size);
/* After those two: the key tables of dicts, each with its dict. read NULL: nobody can say whose they are. */
void pipeline_add_owned(struct pipeline *pipeline, struct growth *growth, owners_read_fn read, void *ctx);
