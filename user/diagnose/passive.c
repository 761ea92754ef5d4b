/* SPDX-License-Identifier: MIT */
/*
 * See passive.h. A reading takes a few small reads: what the kernel counts (/proc/PID/status), and the entries of pymalloc's arenas, by which
 * pools in use are known exactly. Dearer ones wait for their time and for an allowance:
 *
 *   pools   the header of every pool (30 us an arena): live blocks and bytes
 *   sheet   the balance sheet; the Python is opened anew for it, since image and mappings are most of what an open one keeps
 *
 * Invariant: both descriptors belong to the process of the open; the memory's to its address space, so that after an exec, or when the PID is
 * another process's, there is nothing to read, and that is the end.
 */
#include "diagnose/passive.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "diagnose/keeps.h"
#include "diagnose/memory.h"
#include "heap/balance.h"
#include "interp/obmalloc.h"
#include "interp/slots.h"
#include "target/proc.h"

#define SECOND_NS 1000000000ull
#define READ_NS (6 * SECOND_NS)
#define READ_STEADY_NS (10 * SECOND_NS)    /* of what has not grown for so many readings */
#define STEADY_READINGS 60
#define READ_GROWING_NS (4 * SECOND_NS)    /* of what grows, and in the first minute */
#define READ_RECORD_NS (3 * SECOND_NS)     /* after a reading far above all before */
#define RECORD_BYTES (1024.0 * 1024)
#define EARLY_READINGS 15
#define READ_COST 10000                    /* of the time at most this part goes into readings: 0.01 % */

/* Dear readings: how often at most, and which part of the time they may take. */
#define FIRST_SHEET_NS (20 * SECOND_NS)
#define FIRST_POOLS_NS (20 * SECOND_NS)

struct dear_pace {
	uint64_t steady_ns, growing_ns;
	uint32_t steady_cost, growing_cost;
};
static const struct dear_pace sheet_pace = { 600 * SECOND_NS, 60 * SECOND_NS, 20000, 2000 };
static const struct dear_pace pools_pace = { 300 * SECOND_NS, 60 * SECOND_NS, 50000, 10000 };

/* What a sheet costs where none was drawn yet: to open, and a byte of RSS. Measured: 3 to 4 ms for 25 MB, 110 to 340 ms for 1 GB. */
#define SHEET_NS 4e6
#define SHEET_BYTE_NS 0.4
#define POOLS_ARENA_NS 40e3
#define DEAR_MARGIN 1.25
#define FIRST_MARGIN 4.0                   /* of the first: all processes want theirs when a watch begins */

/* Without pymalloc it is opened again now and then: it may just not have begun. */
#define REOPEN_NS (5 * SECOND_NS)
#define REOPEN_MAX_NS (600 * SECOND_NS)

struct dear {
	uint64_t next_ns;
	double cost_ns, size;      /* of the last one, and RSS or arenas then; 0: there was none */
};

struct passive {
	struct process_id id;
	struct python *python;     /* shed */
	int status;
	size_t armed;              /* slots, when it was opened */
	double age_before;         /* seconds that it had lived at start_ns; not counted beyond what keeps takes for its start */
	uint64_t random, start_ns, next_ns, readings;
	uint64_t steady;           /* readings in a row without suspicion */
	double cost_ns;            /* of a cheap reading, smoothed */
	struct dear sheet, pools;
	uint64_t reopen_ns, reopen_pause_ns;
	struct keeps keeps;
	struct memory_series *series;

	/* as of the last reading */
	struct proc_counters counters;
	bool has_arenas, has_totals;
	struct obmalloc_pools arenas;
	struct obmalloc_totals totals;
};

static uint64_t computed_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

/* Three quarters to five quarters of it: processes that came together are not read together for ever. */
static uint64_t about(struct passive *p, uint64_t ns)
{
	return ns - ns / 4 + random_next(&p->random) % (ns / 2);
}

static int open_python(struct process_id id, struct python **ret_python, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct proc_stat stat;
	int r = python_open(id.pid, &python, err);

	if (r < 0)
		return r == -EAGAIN ? -ENOEXEC : r;
	if (!rmem_is_bound(python_rmem(python)))
		return err_set(err, -EMFILE, "cannot open the memory of process %d", id.pid);
	/* Whoever has the PID now has had it all the time, or it started later. */
	r = proc_stat_read(id.pid, &stat);
	if (r == 0 && stat.start_ticks != id.start_ticks)
		r = -ESRCH;
	if (r < 0)
		return err_set(err, r, "there is no process %d any more", id.pid);
	*ret_python = take_ptr(python);
	return 0;
}

int passive_new(struct process_id id, uint64_t now_ns, uint64_t seed, struct passive **ret_passive, struct err *err)
{
	_cleanup_(passive_freep) struct passive *p = calloc(1, sizeof(*p));
	struct slots slots;
	int r;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->id = id;
	p->random = seed | 1;
	p->start_ns = now_ns;
	p->age_before = fmin((double)proc_age_ns(id.start_ticks) / 1e9, KEEPS_START_SECONDS);
	p->status = proc_counters_open(id.pid);
	if (p->status < 0)
		return err_set(err, p->status, "cannot read process %d: %s", id.pid, strerror(-p->status));
	r = open_python(id, &p->python, err);
	if (r == 0)
		r = memory_series_new(&p->series);
	if (r < 0)
		return r;
	/* An unusual build is watched all the same; only tracing needs its slots. */
	if (slots_read(p->python, &slots, NULL) == 0)
		p->armed = slots_armed(&slots);
	python_shed(p->python);
	random_next(&p->random);
	p->next_ns = now_ns;
	p->sheet.next_ns = now_ns + about(p, FIRST_SHEET_NS);
	p->pools.next_ns = now_ns + about(p, FIRST_POOLS_NS);
	p->reopen_pause_ns = REOPEN_NS;
	p->reopen_ns = now_ns + REOPEN_NS;
	*ret_passive = take_ptr(p);
	return 0;
}

void passive_free(struct passive *p)
{
	if (!p)
		return;
	if (p->status >= 0)
		close(p->status);
	python_free(p->python);
	memory_series_free(p->series);
	free(p);
}

size_t passive_armed(const struct passive *p)
{
	return p->armed;
}

uint64_t passive_next_ns(const struct passive *p)
{
	return p->next_ns;
}

double passive_suspicion(const struct passive *p)
{
	return keeps_suspicion(&p->keeps);
}

uint64_t passive_own_bytes(const struct passive *p)
{
	return sizeof(*p) + python_bytes(p->python) + memory_series_bytes();
}

/* Is it still there, in the address space of the open? */
static int look(struct passive *p)
{
	uint64_t word;
	int r = rmem_u64(python_rmem(p->python), python_runtime(p->python), &word);

	return r == -ESRCH ? r : 0;
}

/* It had no arena at the open: where they are could not be found then. -ENOENT: nor now. */
static int reopen(struct passive *p, uint64_t now_ns)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct err err = { 0 };

	p->reopen_ns = now_ns + p->reopen_pause_ns;
	p->reopen_pause_ns = p->reopen_pause_ns * 2 < REOPEN_MAX_NS ? p->reopen_pause_ns * 2 : REOPEN_MAX_NS;
	if (open_python(p->id, &python, &err) < 0)
		return -ENOENT;
	/* an exec in between: the new one is not what was watched */
	if (look(p) < 0)
		return -ESRCH;
	python_shed(python);
	python_free(p->python);
	p->python = take_ptr(python);
	return obmalloc_pools(p->python, &p->arenas);
}

static int read_cheap(struct passive *p, uint64_t now_ns)
{
	int r = proc_counters_again(p->status, &p->counters);

	if (r == 0)
		r = look(p);
	if (r < 0)
		return r;
	r = obmalloc_pools(p->python, &p->arenas);
	if (r == -EAGAIN)
		r = obmalloc_pools(p->python, &p->arenas);
	if (r == -ENOENT && now_ns >= p->reopen_ns)
		r = reopen(p, now_ns);
	p->has_arenas = r == 0;
	/* a table that makes no sense leaves the kernel's counts */
	return r == -ESRCH || r == -ENOMEM ? r : 0;
}

static void keep(struct passive *p, uint64_t now_ns, bool fresh_totals)
{
	bool large = p->has_arenas && p->arenas.raw_blocks != UINT64_MAX;
	double values[KEEPS_SERIES] = {
		[KEEPS_POOLS] = p->has_arenas ? (double)p->arenas.used_bytes : NAN,
		[KEEPS_OWN] = (double)(p->counters.anon_bytes + p->counters.shmem_bytes + p->counters.swap_bytes),
		[KEEPS_LARGE] = large ? 512.0 * (double)p->arenas.raw_blocks : NAN,
		[KEEPS_LIVE] = fresh_totals ? (double)p->totals.live_bytes : NAN,
	};

	keeps_add(&p->keeps, p->age_before + (double)(now_ns - p->start_ns) / 1e9, values);
}

/* size: RSS or arenas now. */
static bool may_spend(const struct dear *d, uint64_t now_ns, uint64_t may_ns, double size, double guess_ns)
{
	double cost = d->size > 0 ? d->cost_ns * fmax(1, size / d->size) : guess_ns;

	return now_ns >= d->next_ns && cost * (d->size > 0 ? DEAR_MARGIN : FIRST_MARGIN) <= (double)may_ns;
}

static void dear_done(struct passive *p, struct dear *d, const struct dear_pace *pace, uint64_t now_ns, uint64_t cost_ns, double size)
{
	bool grows = passive_suspicion(p) > 0;
	uint64_t pause = grows ? pace->growing_ns : pace->steady_ns, least = cost_ns * (grows ? pace->growing_cost : pace->steady_cost);

	d->cost_ns = (double)cost_ns;
	d->size = size;
	d->next_ns = now_ns + about(p, pause > least ? pause : least);
}

/* A process that has begun to grow need not wait as long as a steady one. */
static void hasten(struct passive *p, struct dear *d, const struct dear_pace *pace, uint64_t now_ns)
{
	uint64_t cost = (uint64_t)d->cost_ns * pace->growing_cost, pause = pace->growing_ns > cost ? pace->growing_ns : cost;

	if (passive_suspicion(p) > 0 && d->next_ns > now_ns + 2 * pause)
		d->next_ns = now_ns + about(p, pause);
}

/* Returns whether the totals are new. */
static bool read_pools(struct passive *p, uint64_t now_ns, uint64_t may_ns)
{
	double arenas = (double)p->arenas.arenas;
	uint64_t began_ns = computed_ns();

	if (!p->has_arenas || !may_spend(&p->pools, now_ns, may_ns, arenas, arenas * POOLS_ARENA_NS))
		return false;
	p->has_totals = obmalloc_totals(p->python, &p->totals, NULL) == 0;
	dear_done(p, &p->pools, &pools_pace, now_ns, computed_ns() - began_ns, arenas);
	return p->has_totals;
}

static int draw_sheet(struct passive *p, struct balance *ret_balance)
{
	_cleanup_(python_freep) struct python *python = NULL;
	_cleanup_(balancer_freep) struct balancer *balancer = NULL;
	struct err err = { 0 };
	int r = open_python(p->id, &python, &err);

	if (r == 0)
		r = balancer_new(python, &balancer);
	if (r == 0)
		r = balancer_read(balancer, ret_balance, &err);
	/* drawn of what is watched, not of a program that took its place */
	if (look(p) < 0)
		return -ESRCH;
	return r;
}

static int read_sheet(struct passive *p, uint64_t now_ns, uint64_t may_ns)
{
	double rss = (double)p->counters.rss_bytes;
	uint64_t began_ns = computed_ns();
	struct balance balance;
	int r;

	if (!may_spend(&p->sheet, now_ns, may_ns, rss, SHEET_NS + SHEET_BYTE_NS * rss))
		return 0;
	r = draw_sheet(p, &balance);
	if (r == 0)
		memory_series_add(p->series, (double)(now_ns - p->start_ns) / 1e9, &balance);
	dear_done(p, &p->sheet, &sheet_pace, now_ns, computed_ns() - began_ns, rss);
	return r == -ESRCH ? r : 0;
}

/* Of the memory that blocks have had: heap/arena_map.h. */
static double fragmentation(const struct obmalloc_totals *t)
{
	double had = (double)(t->pools_used + t->pools_free) * (double)t->pool_size;

	return had > 0 ? fmax(0, 1 - (double)t->live_bytes / had) : NAN;
}

static void fill(const struct passive *p, struct watched *w)
{
	bool totals = p->has_totals;

	memory_series_report(p->series, &w->memory);
	if (!memory_series_count(p->series)) {
		w->memory.pss_bytes = REPORT_UNKNOWN;
		w->memory.explained_ratio = NAN;
	}
	w->growth = keeps_growth(&p->keeps);
	w->memory.rss_bytes = p->counters.rss_bytes;
	w->memory.growth_bytes_per_second = w->growth;
	w->arenas = p->has_arenas ? p->arenas.arenas : REPORT_UNKNOWN;
	w->arena_bytes = p->has_arenas ? p->arenas.arena_bytes : REPORT_UNKNOWN;
	w->live_blocks = totals ? p->totals.live_blocks : REPORT_UNKNOWN;
	w->live_bytes = totals ? p->totals.live_bytes : REPORT_UNKNOWN;
	w->fragmentation = totals ? fragmentation(&p->totals) : NAN;
	snprintf(w->python, sizeof(w->python), "%.*s", (int)sizeof(w->python) - 1, python_version(p->python));
}

static void plan(struct passive *p, uint64_t now_ns, uint64_t took_ns)
{
	uint64_t pause, least;

	p->cost_ns = p->readings > 1 ? 0.8 * p->cost_ns + 0.2 * (double)took_ns : (double)took_ns;
	p->steady = passive_suspicion(p) > 0 ? 0 : p->steady + 1;
	if (p->readings < EARLY_READINGS || p->steady == 0)
		pause = READ_GROWING_NS;
	else if (keeps_record(&p->keeps) >= RECORD_BYTES)
		pause = READ_RECORD_NS;
	else
		pause = p->steady < STEADY_READINGS ? READ_NS : READ_STEADY_NS;
	least = (uint64_t)(p->cost_ns * READ_COST);
	p->next_ns = now_ns + about(p, pause > least ? pause : least);
}

int passive_step(struct passive *p, uint64_t now_ns, uint64_t may_ns, struct watched *w)
{
	uint64_t began_ns = computed_ns(), pools_ns, sheet_ns;
	bool fresh = false;
	int r = read_cheap(p, now_ns);

	pools_ns = sheet_ns = computed_ns();
	if (r == 0) {
		hasten(p, &p->pools, &pools_pace, now_ns);
		hasten(p, &p->sheet, &sheet_pace, now_ns);
		fresh = read_pools(p, now_ns, may_ns);
		pools_ns = computed_ns() - pools_ns;
		keep(p, now_ns, fresh);
		sheet_ns = computed_ns();
		r = read_sheet(p, now_ns, pools_ns < may_ns ? may_ns - pools_ns : 0);
		sheet_ns = computed_ns() - sheet_ns;
	}
	p->readings++;
	plan(p, now_ns, r == 0 ? computed_ns() - began_ns - pools_ns - sheet_ns : 0);
	if (r == 0)
		fill(p, w);
	return r;
}
