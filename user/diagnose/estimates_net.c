/* SPDX-License-Identifier: MIT */
/*
 * Net growth. The heap's own counts by (size class, type) say how fast each kind of
 * block accumulates, to the block; survivors say whose they are. Sites get the
 * share of their survivors that is growth (net.h), all weights one common factor,
 * and then each cell's growth is split by survivors.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map64.h"
#include "diagnose/estimates_impl.h"
#include "diagnose/net.h"

/* Growth of the heap is measured over the later half: what goes on counts. */
#define LATER_SHARE 0.5
/* Survivors that are none (another object of their type took their place) take part when the heap's counts are shared out. */
#define RAKED_SYSTEMATIC 0.12
/* The factor by which all weights may be wrong: where it is looked for, and how far it is believed to be off one (in natural logarithms). */
#define SCALE_MIN 0.7
#define SCALE_MAX 60.0
#define SCALE_STEP 1.08
#define SCALE_SPREAD 1.0
/* A group's survivors must be counted cells' to this part for its growth to be taken from the counts. */
#define KNOWN_SHARE 0.5
/* Of so few survivors even the kind is a matter of chance: added to the relative error, over their number. */
#define FEW 2.0
/* From this part of what it allocates on a line is believed to keep its survivors; and how little is believed of one that keeps hardly any. */
#define KEPT_SURELY 20.0
#define PRIOR_LEAST 0.1
/* Growth beyond chance, in standard errors. */
#define CERTAIN_ERRORS 4

struct netting {
	struct net_cell *cells;
	struct net_entry *entries;
	double *bytes;                /* of each entry, a second */
	struct net_site *sites;
	struct map64 *cell_index;     /* (class, type) -> cell */
	size_t n_cells, n_entries;
	uint32_t large_cell;          /* of the large group, whose windows are long and cheap: its weights are right */
	uint32_t *site_groups;        /* site -> group */
	double *priors;               /* what is believed of each site before the counts are looked at */
	size_t n_sites;
};

static void netting_free(struct netting *n)
{
	free(n->cells);
	free(n->entries);
	free(n->bytes);
	free(n->sites);
	free(n->site_groups);
	free(n->priors);
	map64_free(n->cell_index);
}

static int netting_add_cell(struct netting *n, uint32_t size_class, uint32_t type, struct line growth)
{
	uint32_t *at;

	if (n->n_cells == NET_MAX_CELLS || !isfinite(growth.slope) || !isfinite(growth.error))
		return 0;
	at = map64_put(n->cell_index, (uint64_t)size_class << 32 | type, NULL);
	if (!at)
		return -ENOMEM;
	*at = (uint32_t)n->n_cells;
	n->cells[n->n_cells++] = (struct net_cell){ growth.slope, growth.error };
	return 0;
}

static int netting_cells(const struct estimates *e, struct netting *n)
{
	double since = LATER_SHARE * e->seconds;
	_cleanup_(freep) struct history_cell *cells = NULL;
	size_t count;
	int r = history_cells(e->in->history, since, &cells, &count);

	for (size_t i = 0; i < count && !r; i++)
		r = netting_add_cell(n, cells[i].size_class, cells[i].type, cells[i].growth);
	n->large_cell = (uint32_t)n->n_cells;
	return r ?: netting_add_cell(n, LARGE_CLASS, 0, history_raw_growth(e->in->history, since));
}

/* Survivors of a site in a cell, before and after they are added up. */
struct heap_entry {
	struct net_entry net;     /* error: the variance, until all are added up */
	double bytes;             /* a second */
};

static int compare_entries(const void *pa, const void *pb)
{
	const struct net_entry *a = &((const struct heap_entry *)pa)->net, *b = &((const struct heap_entry *)pb)->net;

	if (a->site != b->site)
		return a->site < b->site ? -1 : 1;
	return (a->cell > b->cell) - (a->cell < b->cell);
}

/* Entries of one site and cell become one. Returns how many there are then. */
static size_t add_up(struct heap_entry *entries, size_t count)
{
	size_t kept = 0;

	qsort(entries, count, sizeof(*entries), compare_entries);
	for (size_t i = 0; i < count; i++) {
		struct heap_entry *last = kept ? &entries[kept - 1] : NULL;

		if (last && last->net.site == entries[i].net.site && last->net.cell == entries[i].net.cell) {
			last->net.rate += entries[i].net.rate;
			last->net.error += entries[i].net.error;
			last->bytes += entries[i].bytes;
		} else {
			entries[kept++] = entries[i];
		}
	}
	return kept < NET_MAX_ENTRIES ? kept : NET_MAX_ENTRIES;
}

/* One entry a sample; the sites are the groups that have one. Returns how many. */
static size_t list_samples(const struct estimates *e, struct netting *n, struct heap_entry *entries)
{
	double span = e->to - e->from;
	size_t count = 0;

	for (size_t i = 0; i < e->n_samples; i++) {
		const struct sample *s = &e->samples[i];
		uint64_t key = (uint64_t)s->size_class << 32 | (s->size_class == LARGE_CLASS ? 0 : s->type);
		const uint32_t *cell = map64_get(n->cell_index, key);
		double rate = (double)s->weight / span;

		if (!n->n_sites || n->site_groups[n->n_sites - 1] != s->group) {
			if (n->n_sites == NET_MAX_SITES)
				break;
			n->site_groups[n->n_sites++] = s->group;
		}
		if (!cell || s->step || (s->size_class == LARGE_CLASS && e->groups[s->group].moves))
			continue;
		entries[count++] = (struct heap_entry){
			.net = { .site = (uint32_t)n->n_sites - 1, .cell = *cell, .rate = rate, .error = rate * rate },
			.bytes = rate * s->size,
		};
	}
	return count;
}

static int netting_entries(const struct estimates *e, struct netting *n)
{
	_cleanup_(freep) struct heap_entry *entries = calloc(e->n_samples + 1, sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	n->n_entries = add_up(entries, list_samples(e, n, entries));
	n->entries = calloc(n->n_entries + 1, sizeof(*n->entries));
	n->bytes = calloc(n->n_entries + 1, sizeof(*n->bytes));
	if (!n->entries || !n->bytes)
		return -ENOMEM;
	for (size_t i = 0; i < n->n_entries; i++) {
		n->entries[i] = entries[i].net;
		n->entries[i].error = sqrt(entries[i].net.error);
		n->bytes[i] = entries[i].bytes;
	}
	return 0;
}

/*
 * A line that allocates very much and keeps a thousandth of it hardly keeps anything: what looks like its survivors are mostly later objects of
 * the same type in the same place. The counts can still say otherwise.
 */
static double prior_of(const struct estimate *g)
{
	double kept = g->allocated > 0 ? g->gross_blocks / g->allocated : 1;

	return fmin(fmax(KEPT_SURELY * kept, PRIOR_LEAST), 1);
}

static int netting_new(const struct estimates *e, struct netting *n)
{
	int r = map64_new(sizeof(uint32_t), &n->cell_index);

	n->cells = calloc(NET_MAX_CELLS, sizeof(*n->cells));
	n->sites = calloc(NET_MAX_SITES, sizeof(*n->sites));
	n->site_groups = calloc(NET_MAX_SITES, sizeof(*n->site_groups));
	if (r || !n->cells || !n->sites || !n->site_groups)
		return -ENOMEM;
	r = netting_cells(e, n);
	if (!r)
		r = netting_entries(e, n);
	n->priors = calloc(n->n_sites + 1, sizeof(*n->priors));
	if (!n->priors)
		return -ENOMEM;
	for (size_t i = 0; i < n->n_sites; i++)
		n->priors[i] = prior_of(&e->groups[n->site_groups[i]]);
	return r;
}

/* How well shares and scale fit what is measured, and what is believed before: less is better. */
static double misfit(const struct netting *n, const double *sums, const double *variances, double scale)
{
	double sum = pow(log(scale) / SCALE_SPREAD, 2);

	for (size_t c = 0; c < n->n_cells; c++)
		if (variances[c] > 0)
			sum += pow(sums[c] - n->cells[c].growth, 2) / (variances[c] + n->cells[c].error * n->cells[c].error);
	for (size_t i = 0; i < n->n_sites; i++)
		sum += NET_PRIOR_WEIGHT * pow(n->sites[i].net - n->priors[i], 2);
	return sum;
}

/* Shares for weights taken times scale, in n->sites. sums and variances: scratch, one a cell. */
static int try_scale(struct netting *n, struct net_entry *scaled_entries, double *sums, double *variances, double scale,
		     double *ret_misfit)
{
	int r;

	for (size_t i = 0; i < n->n_sites; i++)
		n->sites[i] = (struct net_site){ .prior = n->priors[i], .prior_weight = NET_PRIOR_WEIGHT };
	for (size_t i = 0; i < n->n_entries; i++) {
		scaled_entries[i] = n->entries[i];
		if (n->entries[i].cell == n->large_cell)
			continue;
		scaled_entries[i].rate *= scale;
		scaled_entries[i].error *= scale;
	}
	r = net_share(n->sites, n->n_sites, n->cells, n->n_cells, scaled_entries, n->n_entries);
	if (r)
		return r;
	memset(sums, 0, (n->n_cells + 1) * sizeof(*sums));
	memset(variances, 0, (n->n_cells + 1) * sizeof(*variances));
	for (size_t i = 0; i < n->n_entries; i++) {
		double net = n->sites[scaled_entries[i].site].net;

		sums[scaled_entries[i].cell] += net * scaled_entries[i].rate;
		variances[scaled_entries[i].cell] += pow(scaled_entries[i].error, 2);
	}
	*ret_misfit = misfit(n, sums, variances, scale);
	return 0;
}

/*
 * In a busy target most of a window is overhead, and how much of the target's own time it covers is not known well: then all weights are
 * wrong by one factor. The heap's growth tells it, since no cell can grow by more than what survives in it.
 */
static int find_scale(struct estimates *e, struct netting *n)
{
	struct net_entry *entries = calloc(n->n_entries + 1, sizeof(*entries));
	double *sums = calloc(n->n_cells + 1, sizeof(*sums)), *variances = calloc(n->n_cells + 1, sizeof(*variances)), best = INFINITY;
	int r = entries && sums && variances ? 0 : -ENOMEM;

	for (double scale = SCALE_MIN; scale < SCALE_MAX && !r; scale *= SCALE_STEP) {
		double fit;

		r = try_scale(n, entries, sums, variances, scale, &fit);
		if (!r && fit < best) {
			best = fit;
			e->scale = scale;
		}
	}
	if (!r)
		r = try_scale(n, entries, sums, variances, e->scale, &best);
	free(entries);
	free(sums);
	free(variances);
	return r;
}

/* What a cell's sites make of it, with their shares. */
struct cell_sum {
	double sum, variance;
};

/* A quantity of a group, in blocks or bytes a second: its entries as the windows saw them, and as the heap's counts have it. */
struct quantity {
	double gross, net, variance;
};

struct raked {
	struct quantity blocks, bytes;
	double certain;            /* of the net blocks, in cells whose growth is beyond chance */
};

static void quantity_add(struct quantity *q, double gross, double net, double error)
{
	q->gross += gross;
	q->net += net;
	q->variance += error * error;
}

static double scale_of(const struct estimates *e, const struct netting *n, const struct net_entry *entry)
{
	return entry->cell == n->large_cell ? 1 : e->scale;
}

/* The growth of a cell is known far better than any survivor count: it is shared out among the sites by their survivors. */
static void rake(const struct estimates *e, const struct netting *n, size_t i, const struct cell_sum *cell, struct raked *raked)
{
	const struct net_entry *entry = &n->entries[i];
	double scale = scale_of(e, n, entry), mine = n->sites[entry->site].net * entry->rate * scale, error = entry->error * scale;
	double growth = fmax(n->cells[entry->cell].growth, 0), size = n->bytes[i] / fmax(entry->rate, 1e-300), share = 0, spread = 0;

	if (cell->sum > 0 && mine > 0) {
		share = mine / cell->sum;
		/* p (1 - p) times the relative errors of its own and of the others' survivors. */
		spread = share * (1 - share) *
			 sqrt(pow(error / mine, 2) +
			      (cell->sum > mine ? fmax(cell->variance - error * error, 0) / pow(cell->sum - mine, 2) : 0));
	}
	error = sqrt(pow(growth * spread, 2) + pow(share * n->cells[entry->cell].error, 2));
	quantity_add(&raked->blocks, entry->rate, share * growth, error);
	quantity_add(&raked->bytes, n->bytes[i], share * growth * size, error * size);
	if (growth > CERTAIN_ERRORS * n->cells[entry->cell].error)
		raked->certain += share * growth;
}

/* What stands in cells that nobody counted goes with the rest. */
static struct report_estimate quantity_estimate(const struct quantity *q, double gross, uint64_t aged)
{
	double factor = q->net / fmax(q->gross, 1e-300), half = 1.96 * sqrt(q->variance) / fmax(q->gross, 1e-300);

	half = sqrt(half * half + pow(RAKED_SYSTEMATIC * factor, 2) + pow(factor * FEW / (double)(aged + 1), 2));
	return (struct report_estimate){ factor * gross, fmax(factor - half, 0) * gross, (factor + half) * gross };
}

static void apply_raked(const struct raked *raked, struct estimate *g)
{
	double known = g->gross_blocks > 0 ? raked->blocks.gross / g->gross_blocks : 0;

	if (known < KNOWN_SHARE || (g->moves && g->large_bytes > MOVED_SHARE * g->gross_bytes))
		return;
	g->blocks = quantity_estimate(&raked->blocks, g->gross_blocks, g->aged);
	g->bytes = quantity_estimate(&raked->bytes, g->gross_bytes, g->aged);
	g->counted = true;
	/* The cells grow steadily over the later half of the time: that is more than the few survivors can say of themselves. */
	if (raked->certain > 0.5 * raked->blocks.net && raked->blocks.net > 0)
		g->trend = TREND_RISING;
}

static int rake_groups(struct estimates *e, const struct netting *n)
{
	struct cell_sum *cells = calloc(n->n_cells + 1, sizeof(*cells));
	struct raked *raked = calloc(n->n_sites + 1, sizeof(*raked));
	int r = cells && raked ? 0 : -ENOMEM;

	for (size_t i = 0; i < n->n_entries && !r; i++) {
		double scale = scale_of(e, n, &n->entries[i]);

		cells[n->entries[i].cell].sum += n->sites[n->entries[i].site].net * n->entries[i].rate * scale;
		cells[n->entries[i].cell].variance += pow(n->entries[i].error * scale, 2);
	}
	for (size_t i = 0; i < n->n_entries && !r; i++)
		rake(e, n, i, &cells[n->entries[i].cell], &raked[n->entries[i].site]);
	for (size_t i = 0; i < n->n_sites && !r; i++)
		apply_raked(&raked[i], &e->groups[n->site_groups[i]]);
	free(cells);
	free(raked);
	return r;
}

int estimates_apply_net(struct estimates *e)
{
	_cleanup_(netting_free) struct netting n = { 0 };
	int r = netting_new(e, &n);

	if (!r)
		r = find_scale(e, &n);
	for (size_t i = 0; i < n.n_sites && !r; i++)
		e->groups[n.site_groups[i]].net = isfinite(n.sites[i].net) ? n.sites[i].net : 1;
	return r ?: rake_groups(e, &n);
}
