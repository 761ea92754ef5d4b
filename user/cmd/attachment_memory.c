/* SPDX-License-Identifier: MIT */
/*
 * Balance sheets of an attachment: one before anything is armed, then now and then, one for each report. What a sheet costs decides how
 * often it is drawn: 800 MB in a million malloc chunks take a third of a second of a core, 1 GB in pymalloc half of that.
 * Limits: while a sheet is drawn the ring is not drained, so in exact mode only cheap ones are drawn while slots are armed.
 */
#include <errno.h>
#include <math.h>

#include "base/clock.h"
#include "cmd/attachment_impl.h"

#define SECOND_NS 1000000000ull
/* A sheet of t seconds is drawn every 200 t at most: half a per cent of a core. */
#define COST_SHARE 200
#define PAUSE_NS (2 * SECOND_NS)
/* With slots armed all the time: a ring of 16 MiB takes a second of 200,000 events. */
#define ARMED_MAX_SECONDS 0.1
/* A report asks for a fresh one, unless the last is this young, or so dear that it has not been earned. */
#define FRESH_NS (SECOND_NS / 2)

static int draw(struct attachment *a, uint64_t now_ns)
{
	struct balance balance;
	uint64_t began_ns = clock_mono_ns(&clock_real), took_ns;
	int r = balancer_read(a->balancer, &balance, NULL);

	took_ns = clock_mono_ns(&clock_real) - began_ns;
	a->balance_ns = now_ns;
	a->balance_due_ns = now_ns + (took_ns * COST_SHARE > PAUSE_NS ? took_ns * COST_SHARE : PAUSE_NS);
	a->balance_seconds = (double)took_ns / 1e9;
	if (r)
		return r;
	memory_series_add(a->sheets, (double)now_ns / 1e9, &balance);
	if (a->history)
		history_note_balance(a->history, &balance);
	return 0;
}

int attachment_memory_begin(struct attachment *a)
{
	int r = balancer_new(tracee_python(a->tracee), &a->balancer);

	if (!r)
		r = memory_series_new(&a->sheets);
	if (r)
		return r;
	r = draw(a, clock_mono_ns(&clock_real));
	return r == -ENOMEM || r == -ESRCH ? r : 0;
}

int attachment_memory_step(struct attachment *a)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	int r;

	if (now_ns < a->balance_due_ns || (a->mode == TRACE_EXACT && a->balance_seconds > ARMED_MAX_SECONDS))
		return 0;
	r = draw(a, now_ns);
	return r == -ENOMEM || r == -ESRCH ? r : 0;
}

void attachment_memory_report(struct attachment *a, bool last, double seconds, struct report_memory *ret_memory)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	bool due = last || now_ns >= a->balance_due_ns || a->balance_seconds < ARMED_MAX_SECONDS;

	if (!a->gone && now_ns >= a->balance_ns + FRESH_NS && due)
		draw(a, now_ns);
	if (memory_series_count(a->sheets)) {
		memory_series_report(a->sheets, ret_memory);
		a->memory.rss_bytes = ret_memory->rss_bytes;
		a->memory.pss_bytes = ret_memory->pss_bytes;
	} else {
		/* none could be drawn: what the kernel counts */
		*ret_memory = (struct report_memory){
			.rss_bytes = a->memory.rss_bytes, .pss_bytes = a->memory.pss_bytes, .explained_ratio = NAN,
		};
	}
	if (!(memory_series_count(a->sheets) > 1) && seconds > 0)
		ret_memory->growth_bytes_per_second = ((double)a->memory.rss_bytes - (double)a->memory_start.rss_bytes) / seconds;
}
