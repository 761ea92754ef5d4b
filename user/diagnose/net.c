/* SPDX-License-Identifier: MIT */
#include "diagnose/net.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define SWEEPS 50 /* at most, at each stiffness of the priors */
#define STIFFEST 1e12
#define ROUNDS 4 /* variances depend a little on the shares: taken anew with those of the round before */
#define CLOSE_ENOUGH 1e-5 /* of a share: no sweep moved one further */
/* Rates beyond are no rates of a computer; bounded, their squares and sums stay finite. */
#define RATE_MAX 1e15
/* Nothing is known to better than this share of the biggest number in its cell, whatever it says: sampling and counters are seconds apart. */
#define ERROR_FLOOR 0.01
#define LEAST_VARIANCE 1e-6 /* a block in a thousand seconds: no measurement is exact */

struct problem {
	struct net_site *sites;
	size_t n_sites;
	struct net_entry *entries; /* sorted by site, usable ones only */
	size_t n_entries;
	size_t *first; /* of each site, into entries; n_sites + 1 */
	double *excess; /* of each cell: shared out minus measured */
	double *precision; /* of each cell: 1 / variance; 0: left out */
};

static void problem_done(struct problem *p)
{
	free(p->entries);
	free(p->first);
	free(p->excess);
	free(p->precision);
}

static bool is_rate(double v)
{
	return isfinite(v) && fabs(v) <= RATE_MAX;
}

static double error_of(double error)
{
	return isfinite(error) && error > 0 ? fmin(error, RATE_MAX) : 0;
}

/* Sorts by site (a counting sort: stable, so the order of sums is the caller's) and drops what cannot be used. */
static void take_entries(struct problem *p, const struct net_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_rate(entries[i].rate) && entries[i].rate > 0)
			p->first[entries[i].site + 1]++;
	for (size_t s = 0; s < p->n_sites; s++)
		p->first[s + 1] += p->first[s];
	p->n_entries = p->first[p->n_sites];
	for (size_t i = 0; i < n; i++)
		if (is_rate(entries[i].rate) && entries[i].rate > 0)
			p->entries[p->first[entries[i].site]++] = entries[i];
	/* Each start has moved to its end, which is the next one's start. */
	for (size_t s = p->n_sites; s > 0; s--)
		p->first[s] = p->first[s - 1];
	p->first[0] = 0;
}

/*
 * The variance of what is shared out of a cell: growth's own, and that of each rate in it as far as it counts as growth (a cache's
 * rate may be badly known; none of it is growth, and it blurs nothing), and the floor.
 */
static void weigh_cells(struct problem *p, const struct net_cell *cells, size_t n_cells)
{
	for (size_t c = 0; c < n_cells; c++) {
		double error = fmax(error_of(cells[c].error), ERROR_FLOOR * fabs(cells[c].growth));

		p->excess[c] = is_rate(cells[c].growth) ? -cells[c].growth : NAN;
		p->precision[c] = error * error;
	}
	for (size_t i = 0; i < p->n_entries; i++) {
		const struct net_entry *e = &p->entries[i];
		double net = p->sites[e->site].net, error = net * fmax(error_of(e->error), ERROR_FLOOR * e->rate);

		p->precision[e->cell] += error * error;
		p->excess[e->cell] += net * e->rate;
	}
	for (size_t c = 0; c < n_cells; c++) {
		bool known = isfinite(p->excess[c]);

		p->precision[c] = known ? 1 / fmax(p->precision[c], LEAST_VARIANCE) : 0;
		p->excess[c] = known ? p->excess[c] : 0;
	}
}

static void move(struct problem *p, size_t s, double net)
{
	double step = net - p->sites[s].net;

	for (size_t i = p->first[s]; i < p->first[s + 1]; i++)
		p->excess[p->entries[i].cell] += step * p->entries[i].rate;
	p->sites[s].net = net;
}

/* The best share of one site, all others staying: the root of a linear derivative, within its box. */
static double best(const struct problem *p, size_t s, double stiffness)
{
	const struct net_site *site = &p->sites[s];
	double weight = stiffness * site->prior_weight, slope = weight, pull = weight * (site->prior - site->net), net;

	for (size_t i = p->first[s]; i < p->first[s + 1]; i++) {
		const struct net_entry *e = &p->entries[i];

		slope += e->rate * e->rate * p->precision[e->cell];
		pull -= e->rate * p->excess[e->cell] * p->precision[e->cell];
	}
	net = site->net + pull / slope;
	return isfinite(net) ? fmin(1, fmax(0, net)) : site->prior;
}

static void descend(struct problem *p, double stiffness)
{
	double moved = 1;

	for (int sweep = 0; sweep < SWEEPS && moved > CLOSE_ENOUGH; sweep++) {
		moved = 0;
		for (size_t s = 0; s < p->n_sites; s++) {
			double net = best(p, s, stiffness);

			moved = fmax(moved, fabs(net - p->sites[s].net));
			move(p, s, net);
		}
	}
}

/* How much stronger than its prior the cells pull at the site at which they pull most. */
static double strongest_pull(const struct problem *p)
{
	double max = 1;

	for (size_t s = 0; s < p->n_sites; s++) {
		double pull = 0;

		for (size_t i = p->first[s]; i < p->first[s + 1]; i++)
			pull += p->entries[i].rate * p->entries[i].rate * p->precision[p->entries[i].cell];
		max = fmax(max, pull / p->sites[s].prior_weight);
	}
	return fmin(max, STIFFEST);
}

/*
 * Sites that differ in nothing would be told apart by their order: the first takes all that is to be corrected, and coordinate
 * descent takes ages to share it. So the priors are held stiff at first, where every site moves a little, and loosened step by step.
 */
static void solve(struct problem *p)
{
	for (double stiffness = strongest_pull(p); stiffness > 1; stiffness /= 4)
		descend(p, stiffness);
	descend(p, 1);
}

static void start(struct problem *p)
{
	for (size_t s = 0; s < p->n_sites; s++) {
		struct net_site *site = &p->sites[s];

		site->prior = isfinite(site->prior) ? fmin(1, fmax(0, site->prior)) : 1;
		if (!isfinite(site->prior_weight) || !(site->prior_weight > 0))
			site->prior_weight = NET_PRIOR_WEIGHT;
		site->net = site->prior;
	}
}

int net_share(struct net_site *sites, size_t n_sites, const struct net_cell *cells, size_t n_cells,
	      const struct net_entry *entries, size_t n_entries)
{
	_cleanup_(problem_done) struct problem p = { .sites = sites, .n_sites = n_sites };

	if (n_sites > NET_MAX_SITES || n_cells > NET_MAX_CELLS || n_entries > NET_MAX_ENTRIES)
		return -E2BIG;
	for (size_t i = 0; i < n_entries; i++)
		if (entries[i].site >= n_sites || entries[i].cell >= n_cells)
			return -EINVAL;
	p.entries = calloc(n_entries + 1, sizeof(*p.entries));
	p.first = calloc(n_sites + 1, sizeof(*p.first));
	p.excess = calloc(n_cells + 1, sizeof(*p.excess));
	p.precision = calloc(n_cells + 1, sizeof(*p.precision));
	if (!p.entries || !p.first || !p.excess || !p.precision)
		return -ENOMEM;
	take_entries(&p, entries, n_entries);
	start(&p);
	for (int round = 0; round < ROUNDS; round++) {
		weigh_cells(&p, cells, n_cells);
		solve(&p);
	}
	return 0;
}
