/* SPDX-License-Identifier: MIT */
/* Days of taking turns, simulated: hosts of many processes, some of which leak, with what sampling them costs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "diagnose/rota.h"

#define SECOND_NS 1000000000ull
#define HOUR 3600
#define MAX_PROCESSES 400
#define MAX_SECONDS 200000
#define BUDGET 0.02
#define TURN 60

struct process {
	struct rota_candidate c;
	enum verdict_kind verdict;   /* what sampling it will say */
	bool running;
	uint32_t turns;
	uint64_t last_ns, longest_gap_ns, began_ns;
};

struct host {
	struct rota *rota;
	struct process p[MAX_PROCESSES];
	size_t n;
	uint64_t now_ns, random;
	double own_ns[MAX_SECONDS];  /* processor time so far, each second */
	size_t seconds;
	double base, start_ns, turn_rate;   /* shares of a core, and what beginning costs */
	double early;                /* share of turns that end before their time */
	size_t at_once, most_at_once;
};

static struct host *host_new(size_t n, size_t at_once)
{
	struct rota_options options = { .host_budget = BUDGET, .max_at_once = at_once, .turn_seconds = TURN };
	struct host *h = calloc(1, sizeof(*h));

	assert_non_null(h);
	h->n = n;
	h->now_ns = 5000 * SECOND_NS;
	h->random = 99;
	h->base = 0.003;
	h->start_ns = 3e8;
	h->turn_rate = 0.015;
	for (size_t i = 0; i < n; i++) {
		h->p[i].c = (struct rota_candidate){ .id = { (pid_t)(1000 + i), 77 + i }, .group = (pid_t)(1000 + i) };
		h->p[i].verdict = VERDICT_steady;
	}
	assert_int_equal(rota_new(&options, h->now_ns, &h->rota), 0);
	return h;
}

static void host_free(struct host *h)
{
	rota_free(h->rota);
	free(h);
}

static double chance(struct host *h)
{
	return (double)(random_next(&h->random) >> 11) / 9007199254740992.0;
}

static void begin(struct host *h, struct process *p, double *spent)
{
	assert_false(p->running);
	assert_true(p->c.suspicion > 0);
	for (size_t i = 0; i < h->n; i++)
		assert_false(h->p[i].running && h->p[i].c.group == p->c.group);
	if (p->turns && h->now_ns - p->last_ns > p->longest_gap_ns)
		p->longest_gap_ns = h->now_ns - p->last_ns;
	p->running = true;
	p->began_ns = p->last_ns = h->now_ns;
	p->turns++;
	h->at_once++;
	h->most_at_once = h->at_once > h->most_at_once ? h->at_once : h->most_at_once;
	*spent += h->start_ns;
	rota_began(h->rota, p->c.id, h->now_ns);
}

static void end(struct host *h, struct process *p)
{
	p->running = false;
	h->at_once--;
	rota_ended(h->rota, p->c.id, h->now_ns, p->verdict);
}

/* A second goes by. */
static void step(struct host *h)
{
	double own = h->seconds ? h->own_ns[h->seconds - 1] : 0, spent = h->base * 1e9;
	struct rota_candidate candidates[MAX_PROCESSES];
	size_t chosen[MAX_PROCESSES], n, order[MAX_PROCESSES];

	h->now_ns += SECOND_NS;
	for (size_t i = 0; i < h->n; i++) {
		struct process *p = &h->p[i];

		spent += p->running ? h->turn_rate * 1e9 : 0;
		if (p->running && (rota_is_over(h->rota, p->c.id, h->now_ns) || chance(h) < h->early / TURN))
			end(h, p);
		order[i] = i;
	}
	for (size_t i = h->n; i > 1; i--) {
		size_t k = random_next(&h->random) % i, swap = order[i - 1];

		order[i - 1] = order[k];
		order[k] = swap;
	}
	for (size_t i = 0; i < h->n; i++)
		candidates[i] = h->p[order[i]].c;
	n = rota_choose(h->rota, h->now_ns, candidates, h->n, chosen, MAX_PROCESSES);
	for (size_t i = 0; i < n; i++)
		begin(h, &h->p[order[chosen[i]]], &spent);
	assert_true(h->seconds < MAX_SECONDS);
	h->own_ns[h->seconds++] = own + spent;
	rota_spend(h->rota, h->now_ns, (uint64_t)(own + spent));
}

static void run(struct host *h, size_t seconds)
{
	for (size_t i = 0; i < seconds; i++)
		step(h);
}

/* The most used in any span, beyond what the budget gives for it, in seconds of a core. */
static double most_beyond(const struct host *h, size_t span)
{
	double most = 0;

	for (size_t i = span; i < h->seconds; i++)
		most = fmax(most, (h->own_ns[i] - h->own_ns[i - span]) / 1e9 - BUDGET * (double)span);
	return most;
}

static void leak(struct host *h, size_t i, double rate)
{
	h->p[i].c.suspicion = rate;
	h->p[i].verdict = VERDICT_leak;
}

/* 200 processes, 5 leak at different rates, 10 more look as if: all leaks are sampled soon, and again and again, within the budget. */
static void test_many(void **state)
{
	static const double rates[] = { 100, 2e3, 1e4, 1e5, 1e6 };
	struct host *h = host_new(200, 2);

	(void)state;
	for (size_t i = 0; i < 5; i++)
		leak(h, 20 * i + 3, rates[i]);
	for (size_t i = 0; i < 10; i++)
		h->p[100 + i].c.suspicion = 500 * (double)(i + 1);
	run(h, 900);
	for (size_t i = 1; i < 5; i++)
		assert_true(h->p[20 * i + 3].turns >= 1);
	run(h, 900);
	assert_true(h->p[3].turns >= 1);
	/* the most suspicious was first */
	assert_true(h->p[83].began_ns <= h->p[3].began_ns && h->p[83].turns >= h->p[3].turns);
	run(h, 12 * HOUR);
	for (size_t i = 0; i < 5; i++) {
		assert_in_range(h->p[20 * i + 3].turns, 12 * 3, 12 * 5 + 2);
		assert_true(h->p[20 * i + 3].longest_gap_ns < 30 * 60 * SECOND_NS);
	}
	for (size_t i = 0; i < 10; i++)
		assert_in_range(h->p[100 + i].turns, 5, 16);
	for (size_t i = 0; i < h->n; i++)
		assert_true(h->p[i].c.suspicion > 0 || h->p[i].turns == 0);
	print_message("beyond the budget: %.2f s in 60 s, %.2f s in 10 minutes, %.2f s in an hour; %.4f of a core\n", most_beyond(h, 60),
		      most_beyond(h, 600), most_beyond(h, 3600), h->own_ns[h->seconds - 1] / 1e9 / (double)h->seconds);
	/* what can be saved up, and the start of a turn or two */
	assert_true(most_beyond(h, 60) < 60 * BUDGET + 0.7);
	assert_true(most_beyond(h, 3600) < 60 * BUDGET + 0.7);
	assert_true(h->own_ns[h->seconds - 1] / 1e9 <= BUDGET * (double)h->seconds + 60 * BUDGET);
	/* what it begins with is within the budget of the first ten minutes */
	print_message("beyond the budget of the first ten minutes: %.2f s\n", h->own_ns[600] / 1e9 - BUDGET * 600);
	assert_true(h->own_ns[600] / 1e9 - BUDGET * 600 < 0.7);
	host_free(h);
}

/* A turn that costs more than can ever be saved: seldom, but it comes; the budget holds over time. */
static void test_dear(void **state)
{
	struct host *h = host_new(50, 4);

	(void)state;
	h->turn_rate = 0.15;
	h->start_ns = 2e9;
	for (size_t i = 0; i < 5; i++)
		leak(h, i, 1e4);
	run(h, 12 * HOUR);
	for (size_t i = 0; i < 5; i++)
		assert_true(h->p[i].turns >= 8);
	print_message("dear turns: %.2f s beyond in an hour; %.4f of a core\n", most_beyond(h, 3600),
		      h->own_ns[h->seconds - 1] / 1e9 / (double)h->seconds);
	assert_true(h->own_ns[h->seconds - 1] / 1e9 <= (BUDGET + 0.001) * (double)h->seconds);
	host_free(h);
}

/* Everybody is suspicious: nobody waits for ever, and alike ones get alike shares. */
static void test_fair(void **state)
{
	struct host *h = host_new(100, 2);
	uint32_t least = UINT32_MAX, most = 0;

	(void)state;
	for (size_t i = 0; i < h->n; i++)
		leak(h, i, i == 0 ? 1 : 1e4);
	run(h, 40 * HOUR);
	for (size_t i = 1; i < h->n; i++) {
		least = h->p[i].turns < least ? h->p[i].turns : least;
		most = h->p[i].turns > most ? h->p[i].turns : most;
	}
	print_message("turns of each in 40 hours: %u to %u, %u of one that hardly leaks\n", least, most, h->p[0].turns);
	assert_true(least >= 10 && most <= least + 3);
	assert_true(h->p[0].turns >= 1);
	host_free(h);
}

/* Workers of one parent: one at a time, all of them in the end, and not before other processes. */
static void test_prefork(void **state)
{
	struct host *h = host_new(20, 4);
	uint64_t first_other = UINT64_MAX, second_worker = UINT64_MAX;
	bool one = false;

	(void)state;
	h->base = h->start_ns = h->turn_rate = 0;
	for (size_t i = 0; i < 8; i++) {
		leak(h, i, 1e5 + (double)i);
		h->p[i].c.group = 999;
	}
	leak(h, 15, 2e4);
	leak(h, 16, 1e4);
	for (size_t s = 0; s < 4 * HOUR; s++) {
		step(h);
		for (size_t i = 0; i < 8; i++) {
			if (h->p[i].turns && one && h->p[i].began_ns < second_worker && h->p[i].turns == 1 && i != 7)
				second_worker = h->p[i].began_ns;
			one |= h->p[i].turns > 0;
		}
		if (h->p[15].turns && first_other == UINT64_MAX)
			first_other = h->p[15].began_ns;
	}
	for (size_t i = 0; i < 8; i++)
		assert_true(h->p[i].turns >= 2);
	assert_true(first_other < second_worker);
	assert_true(h->most_at_once <= 3);
	host_free(h);
}

/* What turned out steady waits twice as long each time, up to an hour and a half, unless it becomes many times as suspicious. */
static void test_back_off(void **state)
{
	struct host *h = host_new(3, 4);

	(void)state;
	h->base = h->start_ns = h->turn_rate = 0;
	h->p[0].c.suspicion = 1e3;
	run(h, 24 * HOUR);
	assert_in_range(h->p[0].turns, 15, 22);
	assert_true(h->p[0].longest_gap_ns < 100 * 60 * SECOND_NS && h->p[0].longest_gap_ns > 80 * 60 * SECOND_NS);
	while (h->p[0].running || h->now_ns - h->p[0].last_ns < 200 * SECOND_NS || h->now_ns - h->p[0].last_ns > 600 * SECOND_NS)
		step(h);
	h->p[0].c.suspicion = 2e3;
	run(h, 100);
	assert_false(h->p[0].running);
	h->p[0].c.suspicion = 9e3;
	run(h, 3);
	assert_true(h->p[0].running);
	/* too early to say: asked again soon */
	h->p[1].c.suspicion = 1e3;
	h->p[1].verdict = VERDICT_unknown;
	run(h, HOUR);
	assert_in_range(h->p[1].turns, 3, 6);
	/* and no more once it does not grow */
	h->p[1].c.suspicion = 0;
	run(h, HOUR);
	h->p[2].c.suspicion = NAN;
	h->p[1].turns = 0;
	run(h, 5 * HOUR);
	assert_int_equal(h->p[1].turns, 0);
	assert_int_equal(h->p[2].turns, 0);
	host_free(h);
}

/* The process is gone, its PID is another's: that one begins anew, and the turn that was on does not stay on. */
static void test_reuse(void **state)
{
	struct host *h = host_new(2, 1);
	struct process_id old;

	(void)state;
	h->base = h->start_ns = h->turn_rate = 0;
	leak(h, 0, 1e4);
	leak(h, 1, 1e3);
	run(h, 30);
	assert_true(h->p[0].running);
	old = h->p[0].c.id;
	rota_forget(h->rota, old);
	assert_true(rota_is_over(h->rota, old, h->now_ns));
	rota_ended(h->rota, old, h->now_ns, VERDICT_leak);
	h->p[0].running = false;
	h->at_once--;
	h->p[0].c.id.start_ticks++;
	run(h, 2);
	assert_true(h->p[0].running);
	assert_int_equal(h->p[0].turns, 2);
	host_free(h);
}

/* A million processes come, are suspicious and go without a word: what is kept of them is bounded. Absurd calls do no harm. */
static void test_bounded(void **state)
{
	struct rota_options options = { .host_budget = BUDGET, .max_at_once = 2, .turn_seconds = TURN };
	uint64_t now_ns = SECOND_NS, own_ns = 0;
	struct rota *rota;
	size_t chosen[2];

	(void)state;
	assert_int_equal(rota_new(&options, now_ns, &rota), 0);
	/* It begins with what a minute saves up. */
	assert_in_range(rota_allowance(rota), (uint64_t)(59 * BUDGET * 1e9), (uint64_t)(61 * BUDGET * 1e9));
	for (uint64_t i = 0; i < 1000000; i += 20) {
		struct rota_candidate c[20];
		size_t n;

		for (size_t k = 0; k < 20; k++)
			c[k] = (struct rota_candidate){ .id = { (pid_t)(1 + (i + k) % 30000), i + k }, .group = 1, .suspicion = 1e3 };
		now_ns += SECOND_NS;
		own_ns += 1000000;
		n = rota_choose(rota, now_ns, c, 20, chosen, 2);
		assert_true(n <= 1);
		if (n) {
			rota_began(rota, c[chosen[0]].id, now_ns);
			rota_began(rota, c[chosen[0]].id, now_ns);
			rota_forget(rota, c[chosen[0]].id);
			rota_forget(rota, c[chosen[0]].id);
		}
		rota_spend(rota, now_ns, own_ns);
	}
	assert_true(rota_own_bytes(rota) < 1 << 20);
	assert_true(rota_allowance(rota) > 0 && rota_allowance(rota) <= 60 * BUDGET * 1e9);
	/* clocks that go backwards */
	rota_spend(rota, 0, 0);
	rota_spend(rota, now_ns, own_ns);
	rota_ended(rota, (struct process_id){ 5, 5 }, now_ns, VERDICT_leak);
	rota_free(rota);
}

/* The allowance for what is not urgent: what was saved, less what turns will take; nothing while in debt. */
static void test_allowance(void **state)
{
	struct rota_options options = { .host_budget = BUDGET, .max_at_once = 1, .turn_seconds = TURN };
	struct rota_candidate c = { .id = { 1, 1 }, .group = 1, .suspicion = 100 };
	uint64_t now_ns = 0, own_ns = 0, full;
	struct rota *rota;
	size_t chosen;

	(void)state;
	assert_int_equal(rota_new(&options, now_ns, &rota), 0);
	rota_spend(rota, now_ns, own_ns);
	for (int i = 0; i < 200; i++)
		rota_spend(rota, now_ns += SECOND_NS, own_ns += 1000000);
	full = rota_allowance(rota);
	assert_in_range(full, 1100000000, 1200000000);
	assert_int_equal(rota_choose(rota, now_ns, &c, 1, &chosen, 1), 1);
	rota_began(rota, c.id, now_ns);
	assert_true(rota_allowance(rota) < full / 2);
	/* a debt is paid before anybody begins */
	rota_ended(rota, c.id, now_ns, VERDICT_leak);
	rota_spend(rota, now_ns += SECOND_NS, own_ns += 3 * SECOND_NS);
	assert_int_equal(rota_allowance(rota), 0);
	c.id.pid = 2;
	assert_int_equal(rota_choose(rota, now_ns, &c, 1, &chosen, 1), 0);
	for (int i = 0; i < 300; i++)
		rota_spend(rota, now_ns += SECOND_NS, own_ns += 1000000);
	assert_int_equal(rota_choose(rota, now_ns, &c, 1, &chosen, 1), 1);
	rota_free(rota);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_dear),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_prefork),
		cmocka_unit_test(test_back_off),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_allowance),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
