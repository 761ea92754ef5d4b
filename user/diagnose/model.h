/* SPDX-License-Identifier: MIT */
/*
 * What a report says, whoever prints it: diagnose/ fills it, the writers walk
 * it. It mirrors the JSON contract (DESIGN: leaksnoop.report/1). A number that
 * is not known is REPORT_UNKNOWN (integers) or NAN (floating point) and
 * becomes null or "-", never a guess. Strings are UTF-8 but untrusted: the
 * writers escape control characters.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "heap/balance.h"

#define REPORT_UNKNOWN UINT64_MAX

struct report_target {
	pid_t pid;
	const char *python;       /* "3.11.2", NULL unknown */
	const char *const *cmdline; /* NULL-terminated */
	const char *container;    /* NULL none */
};

struct report_estimate {
	double estimate, low, high;   /* per second; NAN unknown; low == estimate == high when exact */
};

struct report_frame {
	const char *file, *function;  /* NULL unknown */
	int line;                     /* 0: unknown */
	bool native;
	const char *source;           /* the source line, stripped; NULL if it cannot be read. Text only */
};

struct report_type {
	const char *name;
	uint64_t count, bytes;
};

struct report_step {
	const char *type, *name;
	uint64_t address;
};

struct report_holder {
	const char *path, *type;
	uint64_t length;
	double growth_per_second;
	const struct report_step *steps;
	size_t n_steps;
};

/* X-macro lists shared by enum and names: FINDING_python -> "python". */
#define FINDING_KINDS(X) X(python) X(native) X(mmap) X(fragmentation)
enum finding_kind {
#define X(name) FINDING_##name,
	FINDING_KINDS(X)
#undef X
	FINDING_KIND_COUNT
};
/* "python" */
const char *finding_kind_name(enum finding_kind kind);

/* Of what was allocated, how much is still alive at an age. */
struct report_survival {
	double age_seconds, alive;    /* alive: 0..1 */
};

struct report_finding {
	enum finding_kind kind;
	double confidence;            /* 0..1, NAN unknown */
	struct report_estimate bytes_per_second, blocks_per_second;
	double allocations_per_second;      /* blocks, kept or not; NAN unknown */
	const struct report_survival *survival;   /* sampled mode; else NULL */
	size_t n_survival;
	uint64_t live_bytes, live_blocks;   /* allocated since the attach and alive */
	int64_t delta_bytes, delta_blocks;  /* since the report before; on the first, since the attach */
	double age_seconds;           /* of its oldest block; NAN unknown */
	int first_hand;               /* 1, 0, -1 unknown */
	const struct report_frame *likelier;   /* first_hand 0: the line that may hold these blocks instead; NULL unknown */
	const struct report_frame *traceback;  /* innermost first; may be empty: no Python frame */
	size_t n_traceback;
	bool truncated;               /* the traceback was deeper than --frames */
	const struct report_type *types;       /* NULL unknown */
	size_t n_types;
	const struct report_holder *holder;    /* NULL unknown */
};

struct report_memory {
	uint64_t rss_bytes, pss_bytes;
	double growth_bytes_per_second, explained_ratio;
	bool has_parts;
	struct {
		uint64_t bytes;
		double growth_bytes_per_second;
	} part[MEMORY_PART_COUNT];
};

#define VERDICT_KINDS(X) X(leak, "leak") X(levelling, "levelling") X(fragmentation, "fragmentation") X(high_water, "high-water") \
	X(native, "native") X(steady, "steady") X(unknown, "unknown")
enum verdict_kind {
#define X(id, name) VERDICT_##id,
	VERDICT_KINDS(X)
#undef X
	VERDICT_KIND_COUNT
};
/* "high-water" */
const char *verdict_name(enum verdict_kind kind);

struct report_verdict {
	enum verdict_kind kind;
	double confidence;
	const char *why;
};

/* One way events were lost, with its count and remedy: printed even when the count is 0 (text: one summed line). */
struct report_loss {
	const char *what, *remedy;
	uint64_t count;
};

struct report {
	struct report_target target;
	struct timespec start;         /* wall clock */
	double seconds;                /* attach to this report */
	const char *mode;              /* "exact", "passive", "sampled" */
	double armed_seconds;
	double overhead_ratio;         /* what tracing cost the target, of the time since the attach: 0.02 is 2 % of one processor; NAN unknown */
	const char *group_by;          /* "line", "file", "traceback" */

	struct {
		uint64_t seen, happened, dropped, unresolved_frames;
		double ratio;
		const char *const *notes;  /* NULL-terminated */
		const struct report_loss *losses;
		size_t n_losses;
	} coverage;

	const struct report_memory *memory;    /* NULL unknown */
	const struct report_verdict *verdict;  /* NULL unknown */

	const struct report_finding *findings;
	size_t n_findings;
	size_t n_findings_more;        /* found, but cut by --top or filters */
	uint64_t more_bytes;           /* live bytes of those */
};
