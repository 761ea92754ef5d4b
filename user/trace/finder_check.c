/* SPDX-License-Identifier: MIT */
/*
 * One process is looked at: is it a Python, does it pass, is there room?
 *
 * It may end, or run another program, at any moment of this. So it is made known to the kernel first and looked at once more after that:
 * from then on its end is told by a notice, and what was before is seen here. While it is looked at it stays among the young ones, so that
 * its children are noticed; an exec in between makes its entry a younger one, which will have its own turn.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "finder.skel.h"
#include "target/proc.h"
#include "trace/finder_impl.h"

/* As if the kernel had: all will be listed anew. */
static void count_missed(struct finder *f)
{
	__sync_fetch_and_add(&f->bpf->bss->missed, 1);
}

void finder_add_young(struct finder *f, pid_t pid, uint64_t since_ns)
{
	uint32_t key = (uint32_t)pid;
	int r = bpf_map_update_elem(bpf_map__fd(f->bpf->maps.young), &key, &since_ns, BPF_NOEXIST);

	if (r && r != -EEXIST)
		count_missed(f);
	f->scan_wanted = true;
}

static void kernel_forget(struct finder *f, pid_t pid)
{
	uint32_t key = (uint32_t)pid;

	bpf_map_delete_elem(bpf_map__fd(f->bpf->maps.known), &key);
}

/* It is young no more. False: it has become young anew since, and waits for another turn. */
static bool take_young(struct finder *f, pid_t pid, uint64_t since_ns)
{
	uint32_t key = (uint32_t)pid;
	uint64_t since;

	if (bpf_map_lookup_and_delete_elem(bpf_map__fd(f->bpf->maps.young), &key, &since) || since == since_ns)
		return true;
	finder_add_young(f, pid, since);
	return false;
}

void finder_lose(struct finder *f, pid_t pid, enum process_end end, int code)
{
	struct finder_known known;

	if (!map64_remove(f->known, (uint64_t)pid, &known))
		return;
	kernel_forget(f, pid);
	if (!known.told)
		return;
	f->n_told--;
	/* There is room again for one that was turned away. */
	if (f->turned_away && f->n_told + 1 == f->max)
		f->list_wanted = true;
	f->events.lost(f->events.ctx, (struct process_id){ pid, known.start_ticks }, end, code);
}

bool finder_is_gone(const struct proc_stat *stat)
{
	return stat->exiting && stat->num_threads <= 1;
}

/* Is the parent a Python, and of the same exec? Whether it is known does not matter: it may have been turned away. */
static bool is_forked(struct finder *f, pid_t pid, pid_t ppid)
{
	_cleanup_(image_freep) struct image *image = NULL;
	bool same;

	if (ppid <= 1 || proc_same_program(pid, ppid, &same) < 0 || !same)
		return false;
	return map64_get(f->known, (uint64_t)ppid) || finder_look_at(f->look, ppid, &image) == 0;
}

/* In a listing those are met again that were counted before. */
static void turn_away(struct finder *f, uint64_t start_ticks)
{
	if (!f->list || start_ticks >= f->listed_ticks)
		f->turned_away++;
}

/* Whether it is told of, or kept untold, or neither. */
static bool has_room(struct finder *f, const struct found *found, bool passes)
{
	if (!passes)
		return map64_count(f->known) - f->n_told < f->max;
	if (f->n_told < f->max)
		return true;
	turn_away(f, found->id.start_ticks);
	return false;
}

/*
 * Makes it known to the kernel and to us, unless it has changed meanwhile. The notice of an end is sent before the process is a zombie, but after it
 * was marked as ending: one that is not marked now will be told of, since the kernel knows it.
 */
static bool make_known(struct finder *f, const struct found *found, bool told, uint64_t since_ns)
{
	uint32_t key = (uint32_t)found->id.pid;
	struct finder_known *known;
	struct proc_stat stat;
	uint8_t value = 1;

	if (bpf_map_update_elem(bpf_map__fd(f->bpf->maps.known), &key, &value, BPF_ANY)) {
		count_missed(f);
		return false;
	}
	if (proc_stat_read(found->id.pid, &stat) < 0 || stat.start_ticks != found->id.start_ticks || stat.exiting ||
	    !take_young(f, found->id.pid, since_ns)) {
		kernel_forget(f, found->id.pid);
		return false;
	}
	known = map64_put(f->known, key, NULL);
	if (!known) {
		kernel_forget(f, found->id.pid);
		return false;
	}
	*known = (struct finder_known){ .start_ticks = found->id.start_ticks, .since_ns = since_ns, .told = told };
	f->n_told += told;
	return true;
}

/* Children that it forked before anybody knew that it is a Python. Most had no time to have any, or were young with it. */
static void add_children(struct finder *f, pid_t pid)
{
	_cleanup_(freep) pid_t *children = NULL;
	size_t count;

	if (proc_children(pid, &children, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		if (!map64_get(f->known, (uint64_t)children[i]))
			finder_add_young(f, children[i], clock_mono_ns(&clock_real));
}

/* What was said of this PID before: true if that still holds. */
static bool still_known(struct finder *f, const struct proc_stat *stat, uint64_t since_ns)
{
	const struct finder_known *known = map64_get(f->known, (uint64_t)stat->pid);

	if (!known)
		return false;
	if (known->start_ticks == stat->start_ticks && !since_ns)
		return true;
	/* A notice was lost, or is still under way. */
	finder_lose(f, stat->pid, known->start_ticks == stat->start_ticks ? PROCESS_EXECED : PROCESS_GONE, 0);
	return false;
}

static void found_python(struct finder *f, const struct proc_stat *stat, const struct image *image, uint64_t since_ns)
{
	struct found found = { .id = { stat->pid, stat->start_ticks }, .ppid = stat->ppid, .image = image_path(image) };
	bool passes;

	if (proc_uid(stat->pid, &found.uid) < 0)
		return;
	memcpy(found.comm, stat->comm, sizeof(found.comm) - 1);
	found.forked = is_forked(f, stat->pid, stat->ppid);
	passes = finder_filter_passes(f->filter, &found);
	if (!has_room(f, &found, passes) || !make_known(f, &found, passes, since_ns))
		return;
	if (!image_is_executable(image) && !found.forked)
		add_children(f, stat->pid);
	if (passes)
		f->events.found(f->events.ctx, &found);
}

static void look(struct finder *f, const struct proc_stat *stat, uint64_t since_ns)
{
	_cleanup_(image_freep) struct image *image = NULL;

	f->looked_at++;
	switch (finder_look_at(f->look, stat->pid, &image)) {
	case 0:
		found_python(f, stat, image, since_ns);
		break;
	case -EACCES:
	case -EPERM:
		turn_away(f, stat->start_ticks);
		break;
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE:
		count_missed(f);
		break;
	default:
		break;
	}
}

void finder_check(struct finder *f, pid_t pid, uint64_t since_ns)
{
	struct proc_stat stat;

	if (proc_stat_read(pid, &stat) == 0 && !finder_is_gone(&stat) && !still_known(f, &stat, since_ns) && finder_filter_pid(f->filter, pid))
		look(f, &stat, since_ns);
	if (!map64_get(f->known, (uint64_t)pid))
		take_young(f, pid, since_ns);
}
