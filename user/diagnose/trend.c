/* SPDX-License-Identifier: MIT */
#include "diagnose/trend.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "diagnose/robust.h"

/* Student's 97.5 % for 40 points, and the median of slopes, which scatters 5 % more than least squares. */
#define Z95 2.12
/* A slope counts from here on, in standard errors: 1 series in 1,000 that does nothing. */
#define Z_SURE 3.3
/* Beyond all numbers a computer counts, and still safe to square. */
#define VALUE_MAX 1e30
/* Times of a clock, in seconds; closer together than this they are one. */
#define TIME_MAX 1e12
#define TIME_APART 1e-3
/* Noise is at least this share of the biggest value: what rounding leaves. */
#define NOISE_FLOOR 1e-9
/* A swing is beyond this many standard deviations of the noise: the range of some hundred noisy points is 5 to 6, and the
 * noise is known to a third. */
#define SWING_NOISE 9.0
/* ... and this share of the whole range: smaller ones are ripples on something bigger. */
#define SWING_RANGE 0.12
/* Up and down count when this share of what rises falls again; less is a rise with dips. */
#define COMES_DOWN 0.35
/* A peak is over when less than this share of it is left. */
#define PEAK_LEFT 0.3
#define JUMP_NOISE 8.0
#define JUMP_RANGE 0.03
#define JUMP_ALONE 4.0 /* times its neighbours: a curve is steep beside its steepest place, too */
#define JUMP_WIDTH 3 /* points; what takes longer is a slope */
#define JUMPS_MAX 3 /* more are a staircase, which leads somewhere */
#define JUMPS_SHARE 0.3 /* of the range: jumps that matter */
/* A bend in the second half: what is left of the slope, for it to be the same growth; stricter if it has bent before. */
#define SAME_PACE 0.5
#define SAME_PACE_BENT 0.7
#define BENDS_MAX 8
#define TROUGHS_MIN 3

struct series {
	double t[ROBUST_MAX], y[ROBUST_MAX];
	size_t n;
	double noise, range;
};

/* Ups and downs beyond the noise. */
struct swings {
	size_t trough[ROBUST_MAX]; /* where it turned up again */
	size_t troughs, downs;
	double up, down; /* sums of the legs */
	bool starts_down, ends_up; /* ends_up: the last leg, if there is more than one */
	double top, climb; /* highest point; what it climbs between two points on its way up */
};

const char *trend_name(enum trend_kind kind)
{
	static const char *const names[] = {
#define X(id, name) name,
		TREND_KINDS(X)
#undef X
	};

	return (size_t)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

static int compare_points(const void *pa, const void *pb)
{
	const struct trend_point *a = pa, *b = pb;

	return (a->t > b->t) - (a->t < b->t);
}

/* The usable points in order of time. */
static size_t take_points(const struct trend_point *points, size_t n, struct trend_point *out)
{
	size_t count = 0, kept = 0;

	if (n > TREND_MAX_POINTS) {
		points += n - TREND_MAX_POINTS;
		n = TREND_MAX_POINTS;
	}
	for (size_t i = 0; i < n; i++)
		if (fabs(points[i].t) <= TIME_MAX && fabs(points[i].value) <= VALUE_MAX)
			out[count++] = points[i];
	/* glibc's qsort is a merge sort at this size, but not by contract: points of one time are as good as each other. */
	qsort(out, count, sizeof(*out), compare_points);
	for (size_t i = 0; i < count; i++)
		if (!kept || out[i].t >= out[kept - 1].t + TIME_APART)
			out[kept++] = out[i];
	return kept;
}

/* Medians of equally many points each, when there are more than can be handled. */
static void thin(const struct trend_point *points, size_t n, struct series *s)
{
	size_t each = (n + ROBUST_MAX - 1) / ROBUST_MAX;
	double bin[TREND_MAX_POINTS / ROBUST_MAX + 1];

	s->n = 0;
	for (size_t from = 0; from < n; from += each) {
		size_t to = from + each < n ? from + each : n;

		for (size_t i = from; i < to; i++)
			bin[i - from] = points[i].value;
		s->t[s->n] = points[from].t / 2 + points[to - 1].t / 2 - points[0].t;
		s->y[s->n++] = robust_median(bin, to - from);
	}
}

static void measure(struct series *s)
{
	double low = INFINITY, high = -INFINITY;

	for (size_t i = 0; i < s->n; i++) {
		low = fmin(low, s->y[i]);
		high = fmax(high, s->y[i]);
	}
	s->range = high - low;
	s->noise = fmax(robust_noise(s->y, s->n), NOISE_FLOOR * fmax(fabs(low), fabs(high)));
}

/* width points that are off both their neighbours, which agree. */
static bool is_outlier(const struct series *s, size_t i, size_t width)
{
	double before = s->y[i - 1], after = s->y[i + width], off = INFINITY;

	for (size_t k = i; k < i + width; k++) {
		double a = s->y[k] - before, b = s->y[k] - after;

		off = a * b > 0 ? fmin(off, fmin(fabs(a), fabs(b))) : 0;
	}
	return off > JUMP_NOISE * s->noise && fabs(after - before) < 0.25 * off;
}

/* Rare ones only: a series of nothing but spikes is a sawtooth. */
static void mend_outliers(struct series *s)
{
	double y[ROBUST_MAX];
	size_t count = 0;

	memcpy(y, s->y, s->n * sizeof(*y));
	for (size_t width = 1; width <= 2; width++)
		for (size_t i = 1; i + width < s->n; i++) {
			double between = s->y[i - 1] / 2 + s->y[i + width] / 2;

			if (!is_outlier(s, i, width))
				continue;
			count += width;
			for (size_t k = i; k < i + width; k++)
				s->y[k] = between;
		}
	if (count * 10 > s->n)
		memcpy(s->y, y, s->n * sizeof(*y));
	measure(s);
}

static double median_climb(const struct series *s)
{
	double climbs[ROBUST_MAX];
	size_t n = 0;

	for (size_t i = 1; i < s->n; i++)
		if (s->y[i] - s->y[i - 1] > 2 * s->noise)
			climbs[n++] = s->y[i] - s->y[i - 1];
	return robust_median(climbs, n);
}

/* One turn of the zigzag: the leg that ended at the extreme. */
static void turn(const struct series *s, struct swings *w, size_t from, size_t extreme, int direction, bool last)
{
	double leg = fabs(s->y[extreme] - s->y[from]);

	if (direction > 0) {
		w->up += leg;
		return;
	}
	w->down += leg;
	w->downs++;
	if (!last)
		w->trough[w->troughs++] = extreme;
}

static struct swings find_swings(const struct series *s)
{
	double least = fmax(SWING_NOISE * s->noise, SWING_RANGE * s->range);
	size_t from = 0, extreme = 0, low = 0, high = 0;
	struct swings w = { .climb = median_climb(s) };
	int direction = 0;

	for (size_t i = 0; i < s->n; i++) {
		w.top = !i || s->y[i] > w.top ? s->y[i] : w.top;
		if (!direction) {
			low = s->y[i] < s->y[low] ? i : low;
			high = s->y[i] > s->y[high] ? i : high;
			if (s->y[high] - s->y[low] <= least)
				continue;
			direction = high > low ? 1 : -1;
			w.starts_down = direction < 0;
			from = direction > 0 ? low : high;
			extreme = i;
		} else if ((s->y[i] - s->y[extreme]) * direction > 0) {
			extreme = i;
		} else if ((s->y[extreme] - s->y[i]) * direction > least) {
			turn(s, &w, from, extreme, direction, false);
			direction = -direction;
			from = extreme;
			extreme = i;
		}
	}
	if (direction)
		turn(s, &w, from, extreme, direction, true);
	w.ends_up = direction > 0 && w.downs > 0;
	return w;
}

static double sure(double confidence)
{
	return fmin(0.99, fmax(0, confidence));
}

/* 0.5 where a slope just counts, towards 1 beyond. */
static double confidence_of(double slope, double error)
{
	double z = error > 0 ? fabs(slope) / error : INFINITY;

	return sure(0.5 + 0.5 * (1 - exp(-fmax(0, z - Z_SURE) / 5)));
}

/* Slopes and change, whatever the kind. */
static void describe(const struct series *s, struct trend *trend)
{
	size_t third = s->n / 3, tenth = s->n / 10 + 1;
	double first[ROBUST_MAX], last[ROBUST_MAX];
	struct bend later = robust_bend(s->t + third, s->y + third, s->n - third);
	double error = later.straight.error;

	trend->seconds = s->t[s->n - 1] - s->t[0];
	trend->slope = robust_slope(s->t + third, s->y + third, s->n - third);
	/* Too few points for an error that heeds their hanging together. */
	if (!isfinite(error))
		error = 2 * robust_line(s->t + third, s->y + third, s->n - third).error;
	trend->slope_low = trend->slope - Z95 * error;
	trend->slope_high = trend->slope + Z95 * error;
	trend->early_slope = robust_slope(s->t, s->y, third);
	trend->late_slope = robust_slope(s->t + s->n - third, s->y + s->n - third, third);
	memcpy(first, s->y, tenth * sizeof(*first));
	memcpy(last, s->y + s->n - tenth, tenth * sizeof(*last));
	trend->total_change = robust_median(last, tenth) - robust_median(first, tenth);
}

/* Student's t, one-sided 99.5 %. */
static double t_quantile(size_t degrees)
{
	static const double table[] = { INFINITY, 63.7, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17 };

	return degrees < sizeof(table) / sizeof(table[0]) ? table[degrees] : 2.6 + 5.7 / (double)degrees;
}

/* Whether the lower envelope of a sawtooth goes on rising: its later half against its earlier one. */
static bool envelope_levels(const double *t, const double *y, size_t n)
{
	double early = robust_slope(t, y, n / 2 + 1), late = robust_slope(t + n / 2, y + n / 2, n - n / 2);

	return n >= 6 && late < 0.3 * early;
}

static void judge_sawtooth(const struct series *s, const struct swings *w, struct trend *trend)
{
	double t[ROBUST_MAX], y[ROBUST_MAX], seconds, doubt;
	struct line line;

	trend->kind = TREND_SAWTOOTH;
	trend->confidence = sure(1 - 1 / (1 + (double)w->downs));
	if (w->troughs < TROUGHS_MIN) {
		/* Nothing is known of the envelope but that it cannot have gone further than this. */
		trend->slope_low = -s->range / trend->seconds;
		trend->slope_high = s->range / trend->seconds;
		trend->slope = 0;
		return;
	}
	for (size_t i = 0; i < w->troughs; i++) {
		t[i] = s->t[w->trough[i]];
		y[i] = s->y[w->trough[i]];
	}
	seconds = t[w->troughs - 1] - t[0];
	line = robust_line(t, y, w->troughs);
	doubt = t_quantile(w->troughs - 2) * line.error + w->climb / seconds;
	trend->slope = robust_slope(t, y, w->troughs);
	trend->slope_low = trend->slope - doubt;
	trend->slope_high = trend->slope + doubt;
	trend->total_change = y[w->troughs - 1] - y[0];
	if (trend->slope_high < 0)
		trend->kind = TREND_FALLING;
	if (!(trend->slope_low > 0))
		return;
	trend->kind = envelope_levels(t, y, w->troughs) ? TREND_LEVELLING : TREND_RISING;
	trend->confidence = sure(0.5 + 0.5 * trend->slope_low / trend->slope);
}

/* Once up and down, or down and up. */
static void judge_peak(const struct series *s, const struct swings *w, struct trend *trend)
{
	double base = s->y[0], left = trend->total_change;

	trend->confidence = 0.7;
	if (w->ends_up)
		judge_sawtooth(s, w, trend);
	else if (w->starts_down)
		trend->kind = TREND_FALLING;
	else
		trend->kind = left < PEAK_LEFT * (w->top - base) ? TREND_FLAT : TREND_LEVELLING;
}

/* Whether the points from..to-1, each far off the one before it, are one jump: short, and with nothing of the kind around. */
static bool is_jump(const struct series *s, size_t from, size_t to)
{
	double biggest = 0, around = 0;

	for (size_t i = from; i < to; i++)
		biggest = fmax(biggest, fabs(s->y[i] - s->y[i - 1]));
	if (from > 1)
		around = fabs(s->y[from - 1] - s->y[from - 2]);
	if (to < s->n)
		around = fmax(around, fabs(s->y[to] - s->y[to - 1]));
	return to - from <= JUMP_WIDTH && biggest > JUMP_ALONE * around;
}

/* Takes jumps out. How many there were; 0 if they do not matter or are too many. */
static size_t take_jumps(struct series *s)
{
	double least = fmax(JUMP_NOISE * M_SQRT2 * s->noise, JUMP_RANGE * s->range), shift[ROBUST_MAX] = { 0 }, sum = 0;
	size_t jumps = 0;

	for (size_t i = 1; i < s->n; i++) {
		size_t from = i;

		while (i < s->n && fabs(s->y[i] - s->y[i - 1]) > least)
			i++;
		if (i == from || !is_jump(s, from, i))
			continue;
		jumps++;
		sum += fabs(s->y[i - 1] - s->y[from - 1]);
		for (size_t k = from; k < s->n; k++)
			shift[k] += s->y[k < i ? k : i - 1] - s->y[from - 1];
	}
	if (jumps > JUMPS_MAX || sum < JUMPS_SHARE * s->range)
		return 0;
	for (size_t i = 0; i < s->n; i++)
		s->y[i] -= shift[i];
	return jumps;
}

/* A bend to less. True: what comes after it has to be looked at for itself. */
static bool judge_slower(const struct bend *b, bool first_half, bool bent_before, struct trend *trend)
{
	double pace = bent_before ? SAME_PACE_BENT : SAME_PACE;
	bool rose = b->before > 0;

	if (first_half)
		return true;
	trend->confidence = sure(0.5 + 0.5 * (1 - fmax(0, b->after) / fmax(b->before, 1e-300)));
	if (b->after >= Z_SURE * b->after_error && rose)
		trend->kind = b->after < pace * b->before ? TREND_LEVELLING : TREND_RISING;
	else if (b->after > -Z_SURE * b->after_error)
		trend->kind = rose ? TREND_LEVELLING : TREND_FLAT;
	else if (rose)
		/* A bend between two points lets what comes after it seem to fall a little. */
		trend->kind = b->after > -0.1 * b->before ? TREND_LEVELLING : TREND_FLAT;
	else
		trend->kind = TREND_FALLING;
	return false;
}

/* A bend to more. */
static bool judge_faster(const struct bend *b, double share_after, struct trend *trend)
{
	trend->confidence = confidence_of(b->after, b->after_error);
	if (b->after < -Z_SURE * b->after_error)
		trend->kind = TREND_FALLING;
	else if (b->after < Z_SURE * b->after_error)
		trend->kind = TREND_FLAT;
	else if (share_after >= 0.4)
		return true;
	else
		trend->kind = share_after >= 0.25 || b->before > 0.25 * b->after ? TREND_RISING : TREND_UNKNOWN;
	return false;
}

static void judge_straight(const struct line *line, bool rose, struct trend *trend)
{
	trend->confidence = confidence_of(line->slope, line->error);
	if (line->slope > Z_SURE * line->error)
		trend->kind = TREND_RISING;
	else if (line->slope < -Z_SURE * line->error)
		trend->kind = rose ? TREND_LEVELLING : TREND_FALLING;
	else
		trend->kind = rose ? TREND_LEVELLING : TREND_FLAT;
	if (trend->kind == TREND_FLAT || trend->kind == TREND_LEVELLING)
		trend->confidence = sure(0.95 - 0.1 * fabs(line->slope) / fmax(line->error, 1e-300));
}

/* What has bent before may go on bending, by less than noise lets see as a bend: one half against the other tells a little more. */
static bool slows_down(const struct series *s, size_t from)
{
	size_t half = (s->n - from) / 2;

	return robust_slope(s->t + s->n - half, s->y + s->n - half, half) <
	       SAME_PACE * robust_slope(s->t + from, s->y + from, half);
}

/* From bend to bend. */
static void judge_lines(const struct series *s, struct trend *trend)
{
	double end = s->t[s->n - 1], seconds = end - s->t[0];
	bool bent = false, rose = false, again = true;
	size_t from = 0;

	trend->kind = TREND_LEVELLING;
	for (int i = 0; again && i < BENDS_MAX; i++) {
		struct bend b = robust_bend(s->t + from, s->y + from, s->n - from);
		double after = (end - b.at) / seconds;

		if (!b.bent) {
			judge_straight(&b.straight, rose, trend);
			if (bent && trend->kind == TREND_RISING && slows_down(s, from))
				trend->kind = TREND_LEVELLING;
			return;
		}
		again = b.after < b.before ? judge_slower(&b, after >= 0.5, bent, trend) : judge_faster(&b, after, trend);
		bent |= b.after < b.before;
		rose |= b.after < b.before && b.before > 0;
		/* The bend may lie between two points: neither line's. */
		while (from < s->n && s->t[from] <= b.at)
			from++;
	}
}

static void judge(struct series *s, struct trend *trend)
{
	struct swings w = find_swings(s);
	size_t jumps;
	double left;

	describe(s, trend);
	if (w.downs && w.down >= COMES_DOWN * w.up) {
		if (w.downs > 1)
			judge_sawtooth(s, &w, trend);
		else
			judge_peak(s, &w, trend);
		return;
	}
	jumps = take_jumps(s);
	if (jumps)
		measure(s);
	judge_lines(s, trend);
	/* Each jump was taken out by the difference of two noisy points: that much may seem to rise, or to fall. */
	left = Z_SURE * M_SQRT2 * sqrt((double)jumps) * s->noise;
	if (jumps && (trend->kind != TREND_RISING || robust_slope(s->t, s->y, s->n) * trend->seconds < left)) {
		trend->kind = TREND_STEPPED;
		trend->confidence = 0.7;
	}
}

struct trend trend_of(const struct trend_point *points, size_t n)
{
	struct trend trend = { TREND_UNKNOWN, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
	struct trend_point used[TREND_MAX_POINTS];
	struct series s;

	n = take_points(points, n, used);
	if (n < TREND_MIN_POINTS || used[n - 1].t - used[0].t < TREND_MIN_SECONDS)
		return trend;
	thin(used, n, &s);
	measure(&s);
	mend_outliers(&s);
	if (!(s.range > 0)) {
		double seconds = s.t[s.n - 1] - s.t[0];

		return (struct trend){ .kind = TREND_FLAT, .confidence = 0.95, .seconds = seconds };
	}
	judge(&s, &trend);
	return trend;
}
