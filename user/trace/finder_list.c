/* SPDX-License-Identifier: MIT */
/*
 * All processes anew: at the start, and when notices were lost. First those that are known: whoever is gone ended unseen. Then the others, a
 * slice of some milliseconds at a time. After a listing there is none for a hundred times the processor time it took, so that what makes
 * notices get lost for good, a storm of starts, costs a hundredth of a processor.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "finder.skel.h"
#include "trace/finder_impl.h"

#define PAUSE_FACTOR 100u
#define PAUSE_MIN_NS 200000000ull
#define PAUSE_MAX_NS 600000000000ull

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static bool is_young(const struct finder *f, pid_t pid)
{
	uint32_t key = (uint32_t)pid;
	uint64_t since;

	return bpf_map_lookup_elem(bpf_map__fd(f->bpf->maps.young), &key, &since) == 0;
}

/* Is it there, and does the kernel tell of its end? The kernel forgets who runs another program; then it is among the young ones. */
static bool is_alive(struct finder *f, pid_t pid, uint64_t start_ticks)
{
	uint32_t key = (uint32_t)pid;
	struct proc_stat stat;
	uint8_t value = 1;

	if (!is_young(f, pid))
		bpf_map_update_elem(bpf_map__fd(f->bpf->maps.known), &key, &value, BPF_ANY);
	if (proc_stat_read(pid, &stat) < 0 || stat.start_ticks != start_ticks || finder_is_gone(&stat))
		return false;
	/* Its threads are ending one by one: who knows whether the last of them saw that it is known? */
	if (stat.exiting && stat.state != 'Z')
		f->list_wanted = true;
	return true;
}

static int lose_gone(struct finder *f)
{
	_cleanup_(freep) struct process_id *ids = calloc(map64_count(f->known) + 1, sizeof(*ids));
	struct finder_known *known;
	size_t cursor = 0, n = 0;
	uint64_t pid;

	if (!ids)
		return -ENOMEM;
	while ((known = map64_next(f->known, &cursor, &pid)))
		ids[n++] = (struct process_id){ (pid_t)pid, known->start_ticks };
	for (size_t i = 0; i < n; i++)
		if (!is_alive(f, ids[i].pid, ids[i].start_ticks))
			finder_lose(f, ids[i].pid, PROCESS_GONE, 0);
	return 0;
}

int finder_list_begin(struct finder *f)
{
	int r;

	f->list_wanted = false;
	f->list_cost_ns = 0;
	r = lose_gone(f);
	if (r < 0)
		return r;
	free(f->list);
	f->list = NULL;
	f->list_at = f->list_count = 0;
	return proc_list(&f->list, &f->list_count);
}

/* One of the list: looked at, or left to settle. */
static void visit(struct finder *f, pid_t pid, uint64_t now_ns)
{
	struct proc_stat stat;
	uint64_t age_ns;

	if (is_young(f, pid) || proc_stat_read(pid, &stat) < 0)
		return;
	age_ns = proc_age_ns(stat.start_ticks);
	if (age_ns >= f->settle_ns || map64_get(f->known, (uint64_t)pid))
		finder_check(f, pid, 0);
	else
		finder_add_young(f, pid, now_ns > age_ns ? now_ns - age_ns : 1);
}

void finder_list_go_on(struct finder *f, uint64_t now_ns, bool whole)
{
	uint64_t begin = clock_mono_ns(&clock_real), cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID), pause;

	while (f->list_at < f->list_count && (whole || clock_mono_ns(&clock_real) - begin < FINDER_SLICE_NS))
		visit(f, f->list[f->list_at++], now_ns);
	f->list_cost_ns += clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	if (f->list_at < f->list_count)
		return;
	free(f->list);
	f->list = NULL;
	f->listed_ticks = clock_ns(CLOCK_BOOTTIME) / proc_tick_ns();
	pause = f->list_cost_ns * PAUSE_FACTOR;
	pause = pause < PAUSE_MIN_NS ? PAUSE_MIN_NS : pause > PAUSE_MAX_NS ? PAUSE_MAX_NS : pause;
	f->list_after_ns = now_ns + pause;
}
