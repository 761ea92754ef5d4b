/* SPDX-License-Identifier: MIT */
#include "trace/pace.h"

#include <math.h>

#include "base/random.h"

/* One window a period, shorter or longer; a shorter one than LENGTH_MIN would be lost in the time that arming takes, so then rarer ones. */
#define PERIOD_NS 100e6
#define LENGTH_MIN_NS 300e3
#define LENGTH_MAX_NS 50e6
/* A window that stays armed is renewed after STAY_NS; the programs end it if that does not happen for three times as long. */
#define STAY_NS 100e6
#define STAY_DEADLINE_NS 300e6

/* What is aimed at. The rest is for what cannot be counted, which is nearly as much again in a busy target: cold caches and branch predictors
 * after each hit and each window, and the tracer's own time on a core that shares them (tests/bench/services.py). */
#define AIM 0.6
/* The allowance even of a target that hardly computes, as if it computed this share of the time: 0.4 % of the time at 2 %. Its idle time pays. */
#define IDLE_SHARE 0.2
/* What can be saved up: seconds of allowance. More, and a quiet hour would pay for a noisy minute. */
#define SAVE_NS 1e9
#define WAIT_MAX_NS 5e9

/* Assumed before the first window has been seen: the worst there is. */
#define COST_FIRST 0.7
#define HIT_FIRST_NS 1500.0
/* A hit is believed to cost no more than this when it is decided how many a window may have. */
#define HIT_MAX_NS 3000.0
/*
 * A window cannot cost more than its own length, so none as short as this is ended by its hits: their number would be reached in bursts of
 * work, always at the same place, and what comes later in a burst would never be seen.
 */
#define UNCUT_NS 1e6
#define HITS_UNCUT (1ull << 32)

#define INCOME_SMOOTH_NS 1e9
#define HIT_SMOOTH 0.2
/* What an armed nanosecond costs is a mean over so much armed time: a target may compute in bursts that few windows meet. */
#define COST_ARMED_NS 50e6
/* Hits that may have been missed by chance, when few or none came, at 95 %. */
#define HITS_MISSED 3

void pace_init(struct pace *p, const struct pace_options *options, uint64_t now_ns, struct pace_clock clock)
{
	*p = (struct pace){
		.options = *options,
		.now_ns = now_ns,
		.clock = clock,
		.random = options->seed | 1,
		.cost = COST_FIRST,
		.hit_ns = HIT_FIRST_NS,
	};
}

/* Between 0 and 1, neither of them. */
static double uniform(struct pace *p)
{
	return ((double)(random_next(&p->random) >> 11) + 0.5) / 9007199254740992.0;
}

static double since(uint64_t before, uint64_t now)
{
	return now > before ? (double)(now - before) : 0;
}

void pace_earn(struct pace *p, uint64_t now_ns, struct pace_clock clock)
{
	double passed, worked, delayed, earned, smooth, save;

	if (now_ns <= p->now_ns)
		return;
	passed = (double)(now_ns - p->now_ns);
	/* Allocations happen under the GIL: more than one core's work slows down no more than one core's. */
	worked = fmin(fmax(since(p->clock.cpu_ns, clock.cpu_ns) - p->owed_ns, 0), passed);
	delayed = since(p->clock.delay_ns, clock.delay_ns);
	earned = p->options.budget * (worked + IDLE_SHARE * passed);
	smooth = p->income > 0 ? 1 - exp(-passed / INCOME_SMOOTH_NS) : 1;
	p->income += smooth * (earned / passed - p->income);
	p->load += smooth * (fmin((worked + delayed + p->owed_ns) / passed, 1) - p->load);
	p->account_ns += earned;
	/* The shortest window must be affordable, however small the allowance: then it comes seldom. */
	save = fmax(SAVE_NS * p->income, 2 * LENGTH_MIN_NS * p->cost);
	if (p->account_ns > save)
		p->account_ns = save;
	p->now_ns = now_ns;
	p->clock = clock;
	p->owed_ns = 0;
}

/* The first cost is a guess, far too high for most: what windows show to be impossible is dropped at once, until hits tell the cost. */
static void learn_cost(struct pace *p, double armed_ns, double spent, uint64_t hits)
{
	double weight;

	p->armed_ns = fmin(p->armed_ns + armed_ns, COST_ARMED_NS);
	weight = fmin(armed_ns / p->armed_ns, 1);
	p->mean += weight * (fmin(spent / armed_ns, 1) - p->mean);
	p->hits += hits;
	if (p->hits < 2 * HITS_MISSED)
		p->cost = fmin(p->cost, p->mean + HITS_MISSED * p->hit_ns / p->armed_ns);
	else
		p->cost = p->mean;
}

double pace_pay(struct pace *p, double armed_ns, uint64_t hits, uint64_t run_ns)
{
	double spent = (double)hits * p->options.trap_ns + (double)run_ns;

	p->account_ns -= spent;
	p->owed_ns += spent;
	if (hits >= 16)
		p->hit_ns += HIT_SMOOTH * (spent / (double)hits - p->hit_ns);
	if (armed_ns > 0)
		learn_cost(p, armed_ns, spent, hits);
	return spent;
}

double pace_load(const struct pace *p)
{
	return p->load;
}

/* How often a window may be hit. */
static uint64_t hits_max(const struct pace *p, double length_ns, double may_ns)
{
	if (length_ns <= fmax(UNCUT_NS, may_ns))
		return HITS_UNCUT;
	return (uint64_t)(fmax(may_ns, UNCUT_NS) / fmin(p->hit_ns, HIT_MAX_NS));
}

struct pace_plan pace_next(struct pace *p)
{
	double cost = fmax(p->cost, 1e-6), share = AIM * p->income / cost, length, gap, wait = 0, need, may;

	if (share >= 1 && p->options.share_max >= 1 && p->account_ns > 0) {
		may = p->account_ns + 2 * STAY_NS * p->income;
		return (struct pace_plan){
			.start_ns = p->now_ns,
			.length_ns = (uint64_t)STAY_DEADLINE_NS,
			.hits_max = hits_max(p, STAY_DEADLINE_NS, may),
			.cycle_ns = STAY_NS,
			.stay = true,
		};
	}
	/* Where staying armed is too much, a window must leave room for gaps. */
	share = fmin(share, fmin(p->options.share_max, 0.9));
	length = fmin(fmax(share * PERIOD_NS, LENGTH_MIN_NS), LENGTH_MAX_NS);
	gap = fmin(length / share - length, 10 * WAIT_MAX_NS);
	need = length * cost;
	if (p->account_ns < need)
		wait = fmin((need - p->account_ns) / fmax(p->income, 1e-9), WAIT_MAX_NS);
	may = fmax(p->account_ns, 0) + 2 * need;
	/* The longest gaps are cut: a thousandth of the windows, so what they stand for is not worth correcting. */
	return (struct pace_plan){
		.start_ns = p->now_ns + (uint64_t)(wait + fmin(-log(uniform(p)), 7) * gap),
		.length_ns = (uint64_t)length,
		.hits_max = hits_max(p, length, may),
		.wait_ns = wait,
		.cycle_ns = wait + gap + length,
	};
}
