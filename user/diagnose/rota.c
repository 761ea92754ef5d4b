/* SPDX-License-Identifier: MIT */
/*
 * See rota.h. A turn costs what leaksnoop uses beyond its ordinary pace while turns are on; that is learned, start and last report
 * included. Nobody begins while the account could not pay for the turn (with what it earns meanwhile), or, where a turn costs more than can ever
 * be saved, before the account is full.
 *
 * Who is chosen: the highest score among those whose wait is over. At equal waits the most suspicious; but who has waited long goes before one
 * that is a little more suspicious, so that nobody waits for ever.
 *
 * Invariant: an entry is of a process that was suspicious when it was offered, or has had a turn; entries that are not offered any more are
 * dropped when they are many, so that the memory is bounded by what is offered.
 */
#include "diagnose/rota.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/map64.h"

#define SECOND_NS 1000000000.0
#define SAVINGS_SECONDS 60.0      /* of the budget, that can be saved up */
#define LOAN_SHARE 0.1            /* of what is earned goes back, until what a watch begins with is paid: 10 minutes */
#define DEBT_SECONDS 600.0        /* of the budget, that is remembered */
#define FIRST_COST 0.02           /* of a core while a turn is on, until it is known */
#define FIRST_COST_START 3e8      /* and to begin one, ns */
#define LEARN 0.3
#define ORDINARY_SECONDS 30.0     /* over which the ordinary pace is smoothed */

#define LEAK_WAIT 720.0           /* seconds until a leak is looked at again */
#define STEADY_WAIT 300.0
#define STEADY_WAIT_MAX 5400.0
#define UNKNOWN_WAIT 120.0
#define UNKNOWN_WAIT_MAX 1800.0
#define MANYFOLD 8.0              /* so many times as suspicious: it need not wait, but this */
#define MANYFOLD_WAIT 60.0

#define PATIENCE_TURNS 8.0        /* waiting so many turns doubles the score */
#define GROUP_SECONDS 900.0       /* a worker whose sibling had a turn within this is less urgent */
#define GROUP_SCORE 0.25
#define CUT_SHARE 0.25            /* of a turn at least, however dear it is */
#define SPARE_SHARE 8.0           /* of the account, that something else may take while somebody waits for a turn */
#define STALE_ENTRIES 1024
#define STALE_BATCH 256
#define AT_ONCE_MAX 64u

struct entry {
	struct process_id id;
	pid_t group;
	bool running;
	uint64_t began_ns, ended_ns;     /* of its last turn; ended_ns 0: it had none */
	uint64_t due_ns;                 /* not before */
	double suspicion, sampled_at;    /* as offered last; when its last turn began */
	uint32_t fruitless;              /* turns in a row that found nothing */
	uint64_t offered;                /* number of the choice that saw it last */
};

/* A process that has a turn, or had one lately. */
struct busy {
	uint64_t key;
	pid_t group;
	bool on;
};

struct rota {
	struct rota_options options;
	struct map64 *entries;           /* key_of() -> struct entry */
	uint64_t now_ns, own_ns;
	bool own_known;
	double account_ns;
	double loan_ns;                  /* of what it began with, not yet earned */
	double ordinary;                 /* share of a core, nobody being sampled */
	double turn_cost_ns;             /* learned */
	double turns_ns;                 /* spent by the turns that are on now, together */
	size_t running;
	bool settling;                   /* what is spent until the next word belongs to the turn that ended */
	bool waiting;                    /* somebody could have begun but for the account */
	uint64_t choices;
	struct busy busy[2 * AT_ONCE_MAX];   /* while a choice is made */
	size_t n_busy;
};

/* PIDs have 22 bits, and 42 bits of ticks are a thousand years. */
static uint64_t key_of(struct process_id id)
{
	return (uint64_t)id.pid << 42 | (id.start_ticks & ((1ull << 42) - 1));
}

static double full_ns(const struct rota *r)
{
	return SAVINGS_SECONDS * SECOND_NS * r->options.host_budget;
}

int rota_new(const struct rota_options *options, uint64_t now_ns, struct rota **ret_rota)
{
	_cleanup_(rota_freep) struct rota *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	error = map64_new(sizeof(struct entry), &r->entries);
	if (error)
		return error;
	r->options = *options;
	if (r->options.max_at_once > AT_ONCE_MAX)
		r->options.max_at_once = AT_ONCE_MAX;
	r->now_ns = now_ns;
	/* A watch begins with what a minute saves up, so that what leaks already need not wait for that long; it is lent. */
	r->account_ns = r->loan_ns = full_ns(r);
	r->turn_cost_ns = FIRST_COST_START + FIRST_COST * options->turn_seconds * SECOND_NS;
	*ret_rota = take_ptr(r);
	return 0;
}

void rota_free(struct rota *r)
{
	if (r)
		map64_free(r->entries);
	free(r);
}

static double seconds_between(uint64_t from_ns, uint64_t to_ns)
{
	return to_ns > from_ns ? (double)(to_ns - from_ns) / SECOND_NS : 0;
}

/* What was spent in a time goes to the turns that are on, to the one that has just ended, or into the ordinary pace. */
static void assign(struct rota *r, double spent_ns, double seconds)
{
	double beyond = fmax(0, spent_ns - r->ordinary * seconds * SECOND_NS), share;

	if (r->running) {
		r->turns_ns += beyond;
	} else if (r->settling) {
		r->turn_cost_ns += LEARN * beyond;
	} else if (seconds > 0) {
		share = spent_ns / (seconds * SECOND_NS);
		r->ordinary += (share - r->ordinary) * (1 - exp(-seconds / ORDINARY_SECONDS));
	}
	r->settling = false;
}

void rota_spend(struct rota *r, uint64_t now_ns, uint64_t own_cpu_ns)
{
	double seconds = seconds_between(r->now_ns, now_ns), earned = seconds * SECOND_NS * r->options.host_budget, spent = 0, repaid;

	if (r->own_known && own_cpu_ns > r->own_ns)
		spent = (double)(own_cpu_ns - r->own_ns);
	repaid = fmin(r->loan_ns, LOAN_SHARE * earned);
	r->loan_ns -= repaid;
	r->account_ns += earned - repaid - spent;
	r->account_ns = fmin(r->account_ns, full_ns(r));
	r->account_ns = fmax(r->account_ns, -DEBT_SECONDS * SECOND_NS * r->options.host_budget);
	if (r->own_known)
		assign(r, spent, seconds);
	r->own_known = true;
	r->own_ns = own_cpu_ns;
	r->now_ns = now_ns > r->now_ns ? now_ns : r->now_ns;
}

/* What the turns that are on will still take. */
static double promised_ns(const struct rota *r)
{
	return fmax(0, (double)r->running * r->turn_cost_ns - r->turns_ns);
}

uint64_t rota_allowance(const struct rota *r)
{
	double free_ns = r->account_ns - promised_ns(r);

	if (r->waiting)
		free_ns /= SPARE_SHARE;
	return free_ns > 0 ? (uint64_t)free_ns : 0;
}

/* Can the account pay for one more turn? */
static bool affords(const struct rota *r)
{
	double earned = fmax(0, r->options.host_budget - r->ordinary) * r->options.turn_seconds * SECOND_NS;
	double need = r->turn_cost_ns + promised_ns(r) - earned;

	if (r->account_ns <= 0)
		return false;
	return r->account_ns >= need || (!r->running && r->account_ns >= 0.99 * full_ns(r));
}

static struct entry *find(const struct rota *r, struct process_id id)
{
	return map64_get(r->entries, key_of(id));
}

static struct entry *enter(struct rota *r, const struct rota_candidate *c, uint64_t now_ns)
{
	bool fresh;
	struct entry *e = map64_put(r->entries, key_of(c->id), &fresh);

	if (e && fresh)
		*e = (struct entry){ .id = c->id, .due_ns = now_ns };
	return e;
}

/* Takes down whose groups have somebody on, or had lately: few. Of more than there is room for those lately on are passed over. */
static void take_busy(struct rota *r, uint64_t now_ns)
{
	const struct entry *e;
	size_t cursor = 0, others = 0;
	uint64_t key;

	r->n_busy = 0;
	while ((e = map64_next(r->entries, &cursor, &key))) {
		bool lately = e->ended_ns && seconds_between(e->ended_ns, now_ns) < GROUP_SECONDS;

		if (e->running || (lately && others++ < AT_ONCE_MAX))
			r->busy[r->n_busy++] = (struct busy){ key, e->group, e->running };
	}
}

/* Is another of its group on, or was lately? */
static void look_at_group(const struct rota *r, const struct entry *e, bool *ret_on, bool *ret_lately)
{
	*ret_on = *ret_lately = false;
	for (size_t i = 0; i < r->n_busy; i++) {
		if (r->busy[i].group != e->group || r->busy[i].key == key_of(e->id))
			continue;
		*ret_on |= r->busy[i].on;
		*ret_lately |= !r->busy[i].on;
	}
}

static bool is_due(const struct entry *e, uint64_t now_ns)
{
	if (now_ns >= e->due_ns)
		return true;
	return e->suspicion >= MANYFOLD * e->sampled_at && e->sampled_at > 0 && seconds_between(e->ended_ns, now_ns) >= MANYFOLD_WAIT;
}

/* 0: not now, or not over least. */
static double score_of(const struct rota *r, const struct entry *e, uint64_t now_ns, double least)
{
	double patience = PATIENCE_TURNS * fmax(1, r->options.turn_seconds), score;
	bool on, lately;

	if (e->running || !(e->suspicion > 0) || !is_due(e, now_ns))
		return 0;
	score = log2(1 + e->suspicion) * (1 + seconds_between(e->due_ns, now_ns) / patience);
	if (score < least)
		return 0;
	look_at_group(r, e, &on, &lately);
	if (on)
		return 0;
	return lately ? score * GROUP_SCORE : score;
}

/* Those that nobody offers any more and nobody forgot. */
static void drop_stale(struct rota *r, size_t offered)
{
	uint64_t stale[STALE_BATCH], key;
	const struct entry *e;
	size_t n = STALE_BATCH;

	while (map64_count(r->entries) > 2 * offered + STALE_ENTRIES && n == STALE_BATCH) {
		size_t cursor = 0;

		n = 0;
		while (n < STALE_BATCH && (e = map64_next(r->entries, &cursor, &key)))
			if (!e->running && e->offered != r->choices)
				stale[n++] = key;
		for (size_t i = 0; i < n; i++)
			map64_remove(r->entries, stale[i], NULL);
	}
}

/* Takes down what is offered; who has never been suspicious needs no entry. */
static void note(struct rota *r, uint64_t now_ns, const struct rota_candidate *candidates, size_t count)
{
	r->choices++;
	for (size_t i = 0; i < count; i++) {
		const struct rota_candidate *c = &candidates[i];
		bool suspicious = isfinite(c->suspicion) && c->suspicion > 0;
		struct entry *e = suspicious ? enter(r, c, now_ns) : find(r, c->id);

		if (!e)
			continue;
		/* it waits from when it becomes suspicious on */
		if (suspicious && !(e->suspicion > 0) && now_ns > e->due_ns)
			e->due_ns = now_ns;
		e->group = c->group;
		e->suspicion = suspicious ? c->suspicion : 0;
		e->offered = r->choices;
	}
	drop_stale(r, count);
}

static size_t best_of(const struct rota *r, uint64_t now_ns, const struct rota_candidate *candidates, size_t count)
{
	size_t best = SIZE_MAX;
	double most = 0;

	for (size_t i = 0; i < count; i++) {
		const struct entry *e = find(r, candidates[i].id);
		double score = e ? score_of(r, e, now_ns, most) : 0;

		/* the order of the candidates must not matter */
		if (score > most || (score > 0 && score == most && key_of(candidates[i].id) < key_of(candidates[best].id))) {
			most = score;
			best = i;
		}
	}
	return best;
}

size_t rota_choose(struct rota *r, uint64_t now_ns, const struct rota_candidate *candidates, size_t count, size_t *ret_chosen, size_t max)
{
	size_t chosen = 0, before = r->running;

	note(r, now_ns, candidates, count);
	take_busy(r, now_ns);
	r->waiting = false;
	while (chosen < max && r->running < r->options.max_at_once) {
		size_t best = best_of(r, now_ns, candidates, count);
		struct entry *e;

		if (best == SIZE_MAX)
			break;
		r->waiting = !affords(r);
		if (r->waiting)
			break;
		/* as if it had begun, so that the next one is chosen beside it */
		e = find(r, candidates[best].id);
		e->running = true;
		r->busy[r->n_busy++] = (struct busy){ key_of(e->id), e->group, true };
		r->running++;
		ret_chosen[chosen++] = best;
	}
	for (size_t i = 0; i < chosen; i++)
		find(r, candidates[ret_chosen[i]].id)->running = false;
	r->running = before;
	return chosen;
}

void rota_began(struct rota *r, struct process_id id, uint64_t now_ns)
{
	const struct rota_candidate c = { .id = id, .group = id.pid };
	struct entry *e = find(r, id);

	if (!e)
		e = enter(r, &c, now_ns);
	if (!e || e->running || r->running >= AT_ONCE_MAX)
		return;
	e->running = true;
	e->began_ns = now_ns;
	e->sampled_at = e->suspicion;
	r->running++;
}

bool rota_is_over(const struct rota *r, struct process_id id, uint64_t now_ns)
{
	const struct entry *e = find(r, id);
	double seconds;

	if (!e || !e->running)
		return true;
	seconds = seconds_between(e->began_ns, now_ns);
	/* far dearer than thought: enough of it */
	if (r->account_ns < -full_ns(r) && seconds >= CUT_SHARE * r->options.turn_seconds)
		return true;
	return seconds >= r->options.turn_seconds;
}

static double doubled(double wait, uint32_t times, double most)
{
	return fmin(most, ldexp(wait, times < 20 ? (int)times : 20));
}

static double wait_after(struct entry *e, enum verdict_kind verdict)
{
	switch (verdict) {
	case VERDICT_leak:
	case VERDICT_native:
		e->fruitless = 0;
		return LEAK_WAIT;
	case VERDICT_unknown:
		return doubled(UNKNOWN_WAIT, e->fruitless++, UNKNOWN_WAIT_MAX);
	default:
		return doubled(STEADY_WAIT, e->fruitless++, STEADY_WAIT_MAX);
	}
}

/* Takes one turn off the account of those that are on. seconds: that it lasted. */
static void turn_over(struct rota *r, double seconds)
{
	double cost = r->turns_ns / (double)r->running;

	r->turns_ns -= cost;
	r->running--;
	/* one that was cut short or whose process died says less */
	if (seconds >= CUT_SHARE * r->options.turn_seconds)
		r->turn_cost_ns += LEARN * (cost - r->turn_cost_ns);
	r->settling = r->running == 0;
}

void rota_ended(struct rota *r, struct process_id id, uint64_t now_ns, enum verdict_kind verdict)
{
	struct entry *e = find(r, id);

	if (!e || !e->running)
		return;
	turn_over(r, seconds_between(e->began_ns, now_ns));
	e->running = false;
	e->ended_ns = now_ns;
	e->due_ns = now_ns + (uint64_t)(wait_after(e, verdict) * SECOND_NS);
}

void rota_forget(struct rota *r, struct process_id id)
{
	struct entry e;

	if (map64_remove(r->entries, key_of(id), &e) && e.running)
		turn_over(r, 0);
}

size_t rota_own_bytes(const struct rota *r)
{
	return sizeof(*r) + map64_bytes(r->entries);
}
