/* SPDX-License-Identifier: MIT */
/* What the files of estimates share. Private to them. */
#pragma once

#include "base/map64.h"
#include "diagnose/estimates.h"

#define CLASS_BYTES 16u          /* between size classes */
#define LARGE_CLASS UINT32_MAX   /* size class of all blocks over 512 bytes */
#define MOVED_SHARE 0.5          /* a line that gives back so much of what it takes in large blocks moves a container */

struct sample {
	uint32_t group, window, size_class, type;
	float weight;
	uint32_t size;
	bool step;           /* what a container gained when it moved: no block more */
	double t;            /* seconds after the start */
};

struct estimates {
	const struct estimates_input *in;
	double seconds, age, from, to;
	struct sample *samples;        /* by group, then window */
	size_t n_samples, cap_samples;
	struct map64 *chains;          /* containers that moved and are still there */
	struct estimate *groups;
	size_t n_groups;
	struct survivor_fates *fates;  /* of each group */
	double scale;                  /* weights of small blocks are too small by this factor */
	int error;
};

/* estimates_samples.c: fills samples, of [from, to]. 0, -ENOMEM. */
int estimates_collect(struct estimates *e);
/* estimates_net.c: puts the samples' growth right by the heap's own counts. */
int estimates_apply_net(struct estimates *e);
/* estimates_types.c */
int estimates_find_types(struct estimates *e);
