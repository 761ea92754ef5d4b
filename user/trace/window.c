/* SPDX-License-Identifier: MIT */
#include "trace/window.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "trace/pace.h"
#include "trace/running.h"
#include "trace/watchdog.h"

#define NEVER UINT64_MAX
#define FIRST_LOOK_NS 150000000ull
/* The most time between two looks at the target's clock: its pace may change. */
#define LOOK_NS 100000000ull

/* The least share of a window that the target is believed to have had for itself: what is left when nearly all was overhead is not known well. */
#define BARE_MIN 0.02
/*
 * Of a window's time, the part in which what is born may become a survivor. What is born later is left out: its end would come after the
 * window's, unseen, and the next object of its type in the same place would pass for it.
 */
#define SURVIVORS_SHARE 0.75
/* Share of the time that a target computes from which on times without hits are no idle times. */
#define LOAD_FULL 0.9

/* The groups' shares of the budget, and of the time. Small blocks are armed for at most half of it, so that windows stay samples. */
static const double budget_share[WINDOW_GROUP_COUNT] = { [WINDOW_SMALL] = 0.75, [WINDOW_LARGE] = 0.25 };
static const double share_max[WINDOW_GROUP_COUNT] = { [WINDOW_SMALL] = 0.5, [WINDOW_LARGE] = 1 };

struct group {
	struct arming *arming;         /* NULL: no slots */
	volatile struct window *shared;
	struct pace pace;
	struct pace_plan plan;
	bool open;
	bool amid;                     /* the window began while the target was at work */
	uint64_t start_ns;
	uint64_t next_ns;              /* to open, or to close */
	double waited_ns;              /* that plans given up since the last window spent waiting for the account */
	struct window_totals totals;
};

struct windows {
	struct windows_options options;
	clockid_t cpu_clock;
	int schedstat;                 /* /proc/PID/schedstat, or -1 */
	struct running running;
	struct group groups[WINDOW_GROUP_COUNT];
	bool stopped;
};

static uint64_t now(void)
{
	return clock_mono_ns(&clock_real);
}

/* As of the last scheduler tick of each thread; zeros when the process is gone. */
static struct pace_clock clock_of_target(const struct windows *w)
{
	struct pace_clock clock = { 0 };
	unsigned long long delay_ns;
	struct timespec ts;
	char line[96];
	ssize_t n = w->schedstat < 0 ? -1 : pread(w->schedstat, line, sizeof(line) - 1, 0);

	if (!clock_gettime(w->cpu_clock, &ts))
		clock.cpu_ns = (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
	if (n > 0) {
		line[n] = '\0';
		if (sscanf(line, "%*u %llu", &delay_ns) == 1)
			clock.delay_ns = delay_ns;
	}
	return clock;
}

/* -1 where this kernel does not say. */
static int schedstat_open(pid_t pid)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/schedstat", pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void group_plan(struct windows *w, struct group *g)
{
	uint64_t now_ns = now(), look;

	/* Of a plan given up the chance of a window is over and counted; what it had to wait before is not. */
	g->waited_ns += fmin((double)(now_ns - g->pace.now_ns), g->plan.wait_ns);
	pace_earn(&g->pace, now_ns, clock_of_target(w));
	g->plan = pace_next(&g->pace);
	look = now_ns + 10 * LOOK_NS;
	g->next_ns = g->plan.start_ns < look ? g->plan.start_ns : look;
}

int windows_new(const struct windows_options *o, struct arming *const armings[WINDOW_GROUP_COUNT],
		struct target_windows *shared, struct windows **ret_windows, struct err *err)
{
	_cleanup_(windows_freep) struct windows *w = calloc(1, sizeof(*w));
	bool alone = false;
	int r;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->options = *o;
	w->schedstat = schedstat_open(o->pid);
	running_init(&w->running, o->pid);
	r = clock_getcpuclockid(o->pid, &w->cpu_clock);
	if (r)
		return err_set(err, -r, "cannot tell how much process %d computes: %s", o->pid, strerror(r));
	/* Where libc serves small blocks, too (PYTHONMALLOC=malloc), there is one group. */
	for (int i = 0; i < WINDOW_GROUP_COUNT; i++)
		alone |= !armings[i] || arming_is_empty(armings[i]);
	for (int i = 0; i < WINDOW_GROUP_COUNT; i++) {
		struct pace_options pace = {
			.budget = o->budget * (alone ? 1 : budget_share[i]),
			.share_max = share_max[i],
			.trap_ns = o->trap_ns,
			.seed = o->seed ^ (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ull,
		};
		struct group *g = &w->groups[i];

		g->arming = armings[i] && !arming_is_empty(armings[i]) ? armings[i] : NULL;
		g->shared = &shared->group[i];
		g->next_ns = NEVER;
		if (!g->arming)
			continue;
		r = watchdog_guard(o->watchdog, o->target, (enum window_group)i, g->arming);
		if (r)
			return err_set(err, r, "cannot reach the watchdog: %s", strerror(-r));
		pace_init(&g->pace, &pace, now(), clock_of_target(w));
		/* First it must be known how much the target computes. */
		g->next_ns = now() + FIRST_LOOK_NS;
		g->plan.start_ns = NEVER;
	}
	*ret_windows = take_ptr(w);
	return 0;
}

void windows_free(struct windows *w)
{
	if (!w)
		return;
	windows_stop(w, NULL, NULL);
	closep(&w->schedstat);
	running_close(&w->running);
	free(w);
}

uint64_t windows_next_ns(const struct windows *w)
{
	uint64_t next = NEVER;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++)
		if (w->groups[i].next_ns < next)
			next = w->groups[i].next_ns;
	return next;
}

/* The kernel's side first: the first hit looks at it. */
static void shared_open(volatile struct window *s, const struct pace_plan *plan, uint64_t deadline_ns)
{
	s->hits_max = plan->hits_max;
	s->hits = 0;
	s->run_ns = 0;
	s->idle_ns = 0;
	s->first_ns = 0;
	s->last_switches = 0;
	s->last_ns = 0;
	s->ended_ns = 0;
	s->deadline_ns = deadline_ns;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static enum window_group group_id(const struct windows *w, const struct group *g)
{
	return (enum window_group)(g - w->groups);
}

static int group_open(struct windows *w, struct group *g)
{
	struct err err = { 0 };
	int r;

	g->amid = running_now(&w->running, now());
	shared_open(g->shared, &g->plan, now() + g->plan.length_ns);
	r = watchdog_open(w->options.watchdog, w->options.target, group_id(w, g), g->shared->deadline_ns);
	if (r == -ECHILD)
		return r;
	if (!r)
		r = arming_arm(g->arming, &err);
	if (r == -ESRCH) {
		watchdog_close(w->options.watchdog, w->options.target, group_id(w, g));
		return r;
	}
	if (r) {
		/* A hook was laid over the slots: perhaps it goes again. */
		g->totals.failed++;
		g->shared->deadline_ns = 0;
		watchdog_close(w->options.watchdog, w->options.target, group_id(w, g));
		group_plan(w, g);
		return 0;
	}
	g->open = true;
	g->start_ns = now();
	/* Arming took a moment; a window is as long as it was meant to be. */
	g->shared->deadline_ns = g->start_ns + g->plan.length_ns;
	g->next_ns = g->start_ns + (g->plan.stay ? LOOK_NS : g->plan.length_ns);
	return 0;
}

/* Times in which the target slept: between two hits, before the first, and after the last. */
static double idle_share(const struct group *g, uint64_t end_ns, double armed_ns, bool amid, bool at_work)
{
	uint64_t first_ns = g->shared->first_ns, last_ns = g->shared->last_ns;
	double idle = (double)g->shared->idle_ns, tail = end_ns > last_ns ? (double)(end_ns - last_ns) : 0;

	if (first_ns > g->start_ns && !amid)
		idle += (double)(first_ns - g->start_ns);
	return fmin((idle + (tail > WINDOW_IDLE_NS && !at_work ? tail : 0)) / armed_ns, 1);
}

/*
 * How long the target would have taken, untraced, for what it did in the window up to a thing and since: that is how long before the thing
 * the window may begin and still see it. Hits before the thing, in the same burst of work, held it up: those seen, when the window began
 * before the burst did; of a window that began amid one it is not known how many they would have been, and all its overhead stands for them.
 */
static double bare_ns(const struct window_record *r, uint64_t time_ns, double share)
{
	double armed_ns = r->end_ns > r->start_ns ? (double)(r->end_ns - r->start_ns) : 1, seen_ns = 0;

	if (r->last_ns > r->first_ns && time_ns > r->first_ns)
		seen_ns = r->overhead_ns * fmin((double)(time_ns - r->first_ns) / (double)(r->last_ns - r->first_ns), 1);
	return fmax(share * armed_ns - (r->amid ? share * r->overhead_ns + r->idle * seen_ns : seen_ns), share * BARE_MIN * armed_ns);
}

double window_weight(const struct window_record *r, uint64_t time_ns)
{
	return fmax(r->cycle_ns / bare_ns(r, time_ns, 1), 1);
}

double window_survivor_weight(const struct window_record *r, uint64_t time_ns)
{
	if (r->stay)
		return window_weight(r, time_ns);
	if ((double)(time_ns - r->start_ns) > SURVIVORS_SHARE * (double)(r->end_ns - r->start_ns))
		return 0;
	return fmax(r->cycle_ns / bare_ns(r, time_ns, SURVIVORS_SHARE), 1);
}

static void group_record(struct windows *w, struct group *g, uint64_t end_ns, struct window_record *ret)
{
	uint64_t ended_ns = g->shared->ended_ns, hits = g->shared->hits, run_ns = g->shared->run_ns;
	double armed_ns;

	if (ended_ns && ended_ns < end_ns)
		end_ns = ended_ns;
	if (g->shared->deadline_ns < end_ns)
		end_ns = g->shared->deadline_ns;
	armed_ns = end_ns > g->start_ns ? (double)(end_ns - g->start_ns) : 1;
	*ret = (struct window_record){
		.group = group_id(w, g),
		.index = (uint32_t)g->totals.count,
		.start_ns = g->start_ns,
		.end_ns = end_ns,
		.hits = hits,
		.cut = hits > g->plan.hits_max,
		.stay = g->plan.stay,
		.overhead_ns = pace_pay(&g->pace, armed_ns, hits, run_ns),
	};
	ret->cycle_ns = g->plan.stay ? (double)(now() - g->start_ns) : g->waited_ns + g->plan.cycle_ns;
	/* What stays armed sees all: nothing was kept out of it by its own cost. */
	if (!g->plan.stay) {
		ret->first_ns = g->shared->first_ns;
		ret->last_ns = ret->first_ns ? g->shared->last_ns : 0;
		ret->amid = g->amid || pace_load(&g->pace) > LOAD_FULL;
		ret->idle = pace_load(&g->pace) > LOAD_FULL ? 0 : idle_share(g, end_ns, armed_ns, ret->amid, running_now(&w->running, now()));
	}
	g->waited_ns = 0;
	g->plan.wait_ns = 0;
	g->totals.count++;
	g->totals.cut += ret->cut;
	g->totals.hits += hits;
	g->totals.weighted_hits += (double)hits * window_weight(ret, ret->first_ns / 2 + ret->last_ns / 2);
	g->totals.armed_s += armed_ns / 1e9;
	g->totals.overhead_s += ret->overhead_ns / 1e9;
}

/* A group that may stay armed: the window that ends and the one that begins meet, and no slot is written. */
static bool group_renew(struct windows *w, struct group *g, struct window_record *ret_record)
{
	uint64_t end_ns = now();

	if (!g->plan.stay || g->shared->ended_ns || end_ns > g->shared->deadline_ns)
		return false;
	pace_earn(&g->pace, end_ns, clock_of_target(w));
	group_record(w, g, end_ns, ret_record);
	g->plan = pace_next(&g->pace);
	if (!g->plan.stay)
		return true;
	g->start_ns = end_ns;
	shared_open(g->shared, &g->plan, end_ns + g->plan.length_ns);
	if (watchdog_open(w->options.watchdog, w->options.target, group_id(w, g), g->shared->deadline_ns))
		g->plan.stay = false;
	g->next_ns = end_ns + LOOK_NS;
	return true;
}

static int group_disarm(struct windows *w, struct group *g)
{
	int r = arming_disarm(g->arming);

	g->open = false;
	watchdog_close(w->options.watchdog, w->options.target, group_id(w, g));
	return r;
}

static int group_close(struct windows *w, struct group *g, window_fn on_close, void *ctx)
{
	struct window_record record;
	int r = 0;

	if (!w->stopped && group_renew(w, g, &record)) {
		if (!g->plan.stay) {
			r = group_disarm(w, g);
			g->next_ns = g->plan.start_ns;
		}
	} else {
		uint64_t end_ns = now();

		r = group_disarm(w, g);
		group_record(w, g, end_ns, &record);
		g->next_ns = NEVER;
		if (!w->stopped)
			group_plan(w, g);
	}
	if (on_close)
		on_close(ctx, &record);
	return r;
}

static int group_step(struct windows *w, struct group *g, window_fn on_close, void *ctx)
{
	if (now() < g->next_ns)
		return 0;
	if (g->open)
		return group_close(w, g, on_close, ctx);
	if (now() >= g->plan.start_ns)
		return group_open(w, g);
	/* A long wait: what the target does now may shorten it. */
	group_plan(w, g);
	return 0;
}

int windows_step(struct windows *w, window_fn on_close, void *ctx)
{
	int result = 0;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++) {
		int r = w->groups[i].arming ? group_step(w, &w->groups[i], on_close, ctx) : 0;

		if (r)
			result = r;
	}
	return result;
}

void windows_stop(struct windows *w, window_fn on_close, void *ctx)
{
	w->stopped = true;
	for (int i = 0; i < WINDOW_GROUP_COUNT; i++) {
		struct group *g = &w->groups[i];

		if (g->open)
			group_close(w, g, on_close, ctx);
		g->next_ns = NEVER;
	}
}

double windows_load(const struct windows *w)
{
	double load = 0;

	for (int i = 0; i < WINDOW_GROUP_COUNT; i++)
		load = fmax(load, w->groups[i].arming ? pace_load(&w->groups[i].pace) : 0);
	return load;
}

struct window_totals windows_totals(const struct windows *w, enum window_group group)
{
	return w->groups[group].totals;
}
