/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "diagnose/net.h"
#include "random.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void expect(const struct net_site *site, double net, double within)
{
	if (!(fabs(site->net - net) <= within))
		fail_msg("a share of %g, not %g", site->net, net);
}

/* A full cache with turnover beside a leak, which shares a cell with it. */
static void test_cache_and_leak(void **state)
{
	const struct net_cell cells[] = { { 0, 3 }, { 20, 3 }, { 20, 1 } };
	const struct net_entry entries[] = { { 0, 0, 500, 10 }, { 0, 1, 500, 10 }, { 1, 1, 20, 2 }, { 1, 2, 20, 2 } };
	/* The cache's rates are badly known: it takes nothing from the leak for all that. */
	const struct net_entry rough[] = { { 0, 0, 500, 80 }, { 0, 1, 500, 80 }, { 1, 1, 20, 5 } };
	struct net_site sites[] = { { 1, 0 }, { 1, 0 } };

	(void)state;
	assert_int_equal(net_share(sites, 2, cells, 3, entries, N(entries)), 0);
	expect(&sites[0], 0, 0.03);
	expect(&sites[1], 1, 0.05);
	assert_int_equal(net_share(sites, 2, cells, 2, rough, N(rough)), 0);
	expect(&sites[0], 0, 0.03);
	expect(&sites[1], 1, 0.1);
}

/* The same without anything in common: each cell speaks for itself. */
static void test_apart(void **state)
{
	const struct net_cell cells[] = { { 0, 1 }, { 20, 1 }, { 50, 1 }, { -30, 1 } };
	const struct net_entry entries[] = { { 0, 0, 500, 5 }, { 1, 1, 20, 1 }, { 2, 2, 100, 1 }, { 3, 3, 40, 1 } };
	struct net_site sites[] = { { 1, 1 }, { 0, 1 }, { 1, 1 }, { 1, 1 } };

	(void)state;
	assert_int_equal(net_share(sites, 4, cells, 4, entries, N(entries)), 0);
	expect(&sites[0], 0, 0.01);
	expect(&sites[1], 1, 0.02);
	expect(&sites[2], 0.5, 0.02);
	expect(&sites[3], 0, 0);
}

/* What cells leave open is the prior's: two sites in one cell that grows by half of what they keep. */
static void test_priors(void **state)
{
	const struct net_cell half = { 100, 1 }, unknown[] = { { NAN, 1 }, { INFINITY, 1 } };
	const struct net_entry entries[] = { { 0, 0, 100, 1 }, { 1, 0, 100, 1 } };
	struct net_site sites[] = { { 1, 10 }, { 0, 10 } };

	(void)state;
	assert_int_equal(net_share(sites, 2, &half, 1, entries, 2), 0);
	expect(&sites[0], 1, 0.01);
	expect(&sites[1], 0, 0.01);
	sites[0] = (struct net_site){ 0.2, 10 };
	sites[1] = (struct net_site){ 0.2, 10 };
	assert_int_equal(net_share(sites, 2, &half, 1, entries, 2), 0);
	expect(&sites[0], 0.5, 0.01);
	expect(&sites[1], 0.5, 0.01);
	/* ... however sure the cell is: the order of sites tells nothing. */
	const struct net_cell sure = { 50000, 1 };
	const struct net_entry many[] = { { 0, 0, 50000, 1 }, { 1, 0, 50000, 1 } };

	sites[0].prior = sites[1].prior = 0.2;
	assert_int_equal(net_share(sites, 2, &sure, 1, many, 2), 0);
	expect(&sites[0], 0.5, 0.02);
	expect(&sites[1], 0.5, 0.02);
	for (size_t i = 0; i < N(unknown); i++) {
		sites[0] = (struct net_site){ 0.3, 1 };
		sites[1] = (struct net_site){ NAN, NAN };
		assert_int_equal(net_share(sites, 2, &unknown[i], 1, entries, 2), 0);
		expect(&sites[0], 0.3, 1e-12);
		expect(&sites[1], 1, 1e-12);
	}
	assert_int_equal(net_share(sites, 2, NULL, 0, NULL, 0), 0);
	expect(&sites[0], 0.3, 1e-12);
	assert_int_equal(net_share(NULL, 0, NULL, 0, NULL, 0), 0);
}

/* An uncertain cell moves nothing, a certain one moves a site against its prior. */
static void test_certainty(void **state)
{
	const struct net_entry entry = { 0, 0, 10, 1 };
	struct net_cell cell = { 0, 1e6 };
	struct net_site site = { 1, 4 };

	(void)state;
	assert_int_equal(net_share(&site, 1, &cell, 1, &entry, 1), 0);
	expect(&site, 1, 0.001);
	cell.error = 1;
	assert_int_equal(net_share(&site, 1, &cell, 1, &entry, 1), 0);
	expect(&site, 0, 0.1);
}

/*
 * 2,000 sites in 300 cells, most of them caches with turnover, some leaks; measured with noise. Leaks are told from caches
 * where cells allow: on the average, and always the same.
 */
static void test_many(void **state)
{
	enum { SITES = 2000, CELLS = 300, EACH = 3 };
	struct net_site *sites = calloc(SITES, sizeof(*sites)), *again = calloc(SITES, sizeof(*again));
	struct net_entry *entries = calloc((size_t)SITES * EACH, sizeof(*entries));
	struct net_cell cells[CELLS] = { 0 };
	double leak_net = 0, cache_net = 0, leaked = 0, cached = 0;
	uint64_t rng = 1;

	(void)state;
	for (uint32_t i = 0; i < SITES * EACH; i++) {
		uint32_t site = i / EACH;
		/* Every 50th leaks, in cells that few caches use. */
		uint32_t cell = (uint32_t)(random_uniform(&rng) * (site % 50 ? CELLS - 100 : CELLS));
		double rate = 5 + 50 * random_uniform(&rng);

		entries[i] = (struct net_entry){ site, cell, rate * (1 + 0.02 * random_normal(&rng)), 0.02 * rate };
		cells[cell].growth += site % 50 ? 0 : rate;
	}
	for (size_t c = 0; c < CELLS; c++)
		cells[c] = (struct net_cell){ cells[c].growth + random_normal(&rng), 1 };
	assert_int_equal(net_share(sites, SITES, cells, CELLS, entries, SITES * EACH), 0);
	assert_int_equal(net_share(again, SITES, cells, CELLS, entries, SITES * EACH), 0);
	for (size_t s = 0; s < SITES; s++) {
		assert_true(sites[s].net == again[s].net && sites[s].net >= 0 && sites[s].net <= 1);
		*(s % 50 ? &cache_net : &leak_net) += sites[s].net;
		*(s % 50 ? &cached : &leaked) += 1;
	}
	print_message("net of leaks %.2f, of caches %.3f\n", leak_net / leaked, cache_net / cached);
	assert_true(leak_net / leaked > 0.6 && cache_net / cached < 0.05);
	free(sites);
	free(again);
	free(entries);
}

static void test_limits(void **state)
{
	struct net_site *sites = calloc(NET_MAX_SITES + 1, sizeof(*sites));
	struct net_cell *cells = calloc(NET_MAX_CELLS + 1, sizeof(*cells));
	struct net_entry *entries = calloc(NET_MAX_ENTRIES + 1, sizeof(*entries));

	(void)state;
	for (uint32_t i = 0; i < NET_MAX_ENTRIES; i++)
		entries[i] = (struct net_entry){ i % NET_MAX_SITES, i % NET_MAX_CELLS, 1 + i % 7, 1 };
	for (size_t i = 0; i < NET_MAX_CELLS; i++)
		cells[i] = (struct net_cell){ 100, 1 };
	assert_int_equal(net_share(sites, NET_MAX_SITES, cells, NET_MAX_CELLS, entries, NET_MAX_ENTRIES), 0);
	assert_int_equal(net_share(sites, NET_MAX_SITES + 1, cells, 1, entries, 1), -E2BIG);
	assert_int_equal(net_share(sites, 1, cells, NET_MAX_CELLS + 1, entries, 1), -E2BIG);
	assert_int_equal(net_share(sites, NET_MAX_SITES, cells, NET_MAX_CELLS, entries, NET_MAX_ENTRIES + 1), -E2BIG);
	assert_int_equal(net_share(sites, 1, cells, 1, entries, 2), -EINVAL);
	assert_int_equal(net_share(sites, 5, cells, 1, entries, 2), -EINVAL);
	assert_int_equal(net_share(sites, 0, cells, 0, entries, 1), -EINVAL);
	free(sites);
	free(cells);
	free(entries);
}

static void test_hostile(void **state)
{
	static const double absurd[] = { NAN, INFINITY, -INFINITY, -1, 0, 1e-300, 1e300, 1e15, 5e-324, 1.7e308, 1, 100 };
	uint64_t rng = 7;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct net_site sites[3];
		struct net_cell cells[2];
		struct net_entry entries[5];

#define ANY absurd[random_bits(&rng) % N(absurd)]
		for (size_t i = 0; i < N(sites); i++)
			sites[i] = (struct net_site){ ANY, ANY, ANY };
		for (size_t i = 0; i < N(cells); i++)
			cells[i] = (struct net_cell){ ANY, ANY };
		for (size_t i = 0; i < N(entries); i++)
			entries[i] = (struct net_entry){ random_bits(&rng) % 3, random_bits(&rng) % 2, ANY, ANY };
#undef ANY
		assert_int_equal(net_share(sites, 3, cells, 2, entries, N(entries)), 0);
		for (size_t i = 0; i < N(sites); i++)
			assert_true(sites[i].net >= 0 && sites[i].net <= 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cache_and_leak), cmocka_unit_test(test_apart), cmocka_unit_test(test_priors),
		cmocka_unit_test(test_certainty),      cmocka_unit_test(test_many),  cmocka_unit_test(test_limits),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
