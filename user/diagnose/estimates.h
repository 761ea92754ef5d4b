/* SPDX-License-Identifier: MIT */
/*
 * From sampled survivors to what each group of growth.h gains a second, with 95 %
 * bounds. What counts is growth after the warm-up that goes on, not what is
 * alive: survivors must have reached an age, start-up is left out, what replaces
 * something that is freed elsewhere is taken off (net.h, by the heap's own
 * counts), and what has stopped growing ranks behind what goes on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "diagnose/growth.h"
#include "diagnose/history.h"
#include "diagnose/model.h"
#include "diagnose/trend.h"
#include "track/sampling.h"

/* A piece of the address space that grew: no sample, it was seen whole. */
struct estimates_piece {
	enum finding_kind kind;
	uint32_t stack;
	uint64_t bytes, time_ns;
};

/* Allocations of a stack, seen in windows. */
struct estimates_allocs {
	uint32_t stack;
	uint64_t blocks;
};

struct estimates_input {
	const struct growth *growth;           /* after growth_end(), fed with the same survivors */
	const struct survivors *survivors;
	const struct sampling *sampling;       /* for the frees of large blocks; NULL: none are known */
	const struct history *history;
	uint64_t start_ns, now_ns;             /* of the attach; now. CLOCK_MONOTONIC */
	uint64_t windows;                      /* closed so far, all groups */
	const struct estimates_piece *pieces;
	size_t n_pieces;
	const struct estimates_allocs *allocs;
	size_t n_allocs;
	double allocs_weight;                  /* what one allocation seen stands for, on average */
};

/* What a group's live blocks are, the most bytes first. */
#define ESTIMATE_TYPES_MAX 5

/* One a group of growth.h, in its order. */
struct estimate {
	struct report_estimate bytes, blocks;  /* a second, net */
	double gross_bytes, gross_blocks;      /* a second, before anything was taken off */
	double large_bytes;                    /* of gross_bytes, those in blocks over 512 bytes */
	double once_bytes;                     /* of a mapping's, its biggest piece */
	double moved_bytes;                    /* of those, what the same lines gave back for them: containers that moved */
	double net;                            /* 0..1: share of what survives that is growth */
	double score;                          /* what ranks: bytes a second that go on */
	double allocated;                      /* blocks a second, kept or not; NAN unknown */
	double alive[SURVIVOR_AGE_COUNT];      /* share of the allocations that were still alive at each age but the last (SURVIVOR_AGES), and now; NAN unknown */
	uint64_t aged;                         /* survivors seen that reached the age */
	struct report_type types[ESTIMATE_TYPES_MAX];   /* names belong to the sampling; blocks that are no objects are left out */
	size_t n_types;
	enum trend_kind trend;                 /* of what it keeps */
	bool moves;                            /* its large blocks are containers that grow by moving */
	bool counted;                          /* the heap's own counts went into it */
	bool goes_on;                          /* its growth has not stopped */
};

struct estimates;

int estimates_new(const struct estimates_input *input, struct estimates **ret_estimates);
void estimates_free(struct estimates *estimates);
DEFINE_CLEANUP(struct estimates, estimates_free)

/* Ranks the groups of growth by score, and these with them. */
int estimates_rank(struct estimates *estimates, struct growth *growth);
const struct estimate *estimates_get(const struct estimates *estimates, size_t rank);
/* Bytes a second, of all groups that go on growing. */
struct report_estimate estimates_total(const struct estimates *estimates);
/* The age in seconds that a survivor must have reached to count. */
double estimates_age(const struct estimates *estimates);
