/* SPDX-License-Identifier: MIT */
/*
 * Whose survivors are growth. A site whose blocks survive may leak them, or may
 * put them where another's were taken out (a full cache). Which one cannot be
 * seen at the site, but the sum over sites can be measured: the heap's net
 * growth by cell (size class and type). So each site gets a share n in 0..1 of
 * its survivors that is growth, such that over the cells
 *
 *   sum_cells (sum_sites n * rate - growth)^2 / variance  +  sum_sites weight * (n - prior)^2
 *
 * is smallest: box-bounded least squares by coordinate descent, convex, in a
 * fixed order, so that the same input gives the same output. The prior (what
 * the site's own survival curve says) decides only what the cells leave open;
 * give it a weight of 1 / (standard deviation of the prior)^2.
 *
 * Limits: NET_MAX_SITES, NET_MAX_CELLS, NET_MAX_ENTRIES; more is -E2BIG, an index that is none -EINVAL. A cell whose
 * growth is not a number is left out, as is an entry whose rate is no positive number.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define NET_MAX_SITES 4096
#define NET_MAX_CELLS 1024
#define NET_MAX_ENTRIES (64 * 1024)

struct net_cell {
	double growth, error; /* blocks a second, its standard error; NAN: not known */
};

struct net_entry {
	uint32_t site, cell;
	double rate, error; /* survivors a second before anything is taken off, its standard error */
};

struct net_site {
	double prior; /* 0..1; not a number: 1 */
	double prior_weight; /* not a number, or not positive: NET_PRIOR_WEIGHT */
	double net; /* out: 0..1 */
};

/* A prior that is right within a half. */
#define NET_PRIOR_WEIGHT 4.0

int net_share(struct net_site *sites, size_t n_sites, const struct net_cell *cells, size_t n_cells,
	      const struct net_entry *entries, size_t n_entries);
