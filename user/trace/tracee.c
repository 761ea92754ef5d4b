/* SPDX-License-Identifier: MIT */
#include "trace/tracee.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "interp/obmalloc.h"
#include "interp/ref_tracer.h"
#include "trace/arm.h"
#include "trace/children.h"
#include "trace/lock.h"
#include "trace/probes.h"
#include "trace/trap.h"
#include "trace/watchdog.h"

struct tracee {
	struct tracee_options options;
	pid_t pid;
	int lock;
	struct python *python;
	struct slots slots;
	struct arming *arming[WINDOW_GROUP_COUNT];   /* exact mode: all in the first */
	struct children children;
	struct windows *windows;
	unsigned unseen;
	struct session *session;
	uint32_t target;
	int restored;
	raddr_t pool_fn;           /* allocate_from_new_pool; null where it is inlined */
	int pool_class_arg;
	bool predicts;             /* addresses of small blocks are predicted: malloc and calloc of mem and obj need no return probe */
	size_t n_probes;
	struct tracee_probe probes[TRACEE_PROBES_MAX];
	enum tracee_objects objects;
	struct site object_site;   /* OBJECTS_SEEN: what the reference tracer's slot is to hold */
	struct probes *set;
	uint64_t armed_since_ns, armed_ns;
};

/* A function that serves raw, too (PYTHONMALLOC=malloc), may be called without the GIL: then that is what counts. */
static enum alloc_domain probe_domain(const struct tracee_probe *p)
{
	return p->domains & (1u << DOMAIN_RAW) ? DOMAIN_RAW : p->domains & (1u << DOMAIN_MEM) ? DOMAIN_MEM : DOMAIN_OBJ;
}

static void choose_site(const struct python *python, site_mask_t emulated, struct tracee_probe *p)
{
	const struct image *image = python_image(python);

	/* The alias even where it is not cheap, for without it the inlined copies of the allocator are not seen; else a place in the body. */
	p->alias = site_alias(image, p->function, emulated, &p->site) == 0;
	if (!p->alias && site_body(image, p->function, emulated, &p->site))
		p->site = (struct site){ 0 };
}

size_t tracee_choose_probes(const struct python *python, const struct slots *slots, site_mask_t emulated,
			    struct tracee_probe ret_probes[TRACEE_PROBES_MAX])
{
	size_t n = 0;

	for (int f = 0; f < FN_COUNT; f++) {
		for (int d = 0; d < DOMAIN_COUNT; d++) {
			raddr_t function = slots->fn[d][f].function;
			size_t i;

			for (i = 0; i < n; i++)
				if (ret_probes[i].fn == (enum alloc_function)f && raddr_eq(ret_probes[i].function, function))
					break;
			if (i == n) {
				ret_probes[n] = (struct tracee_probe){ .fn = f, .function = function };
				choose_site(python, emulated, &ret_probes[n++]);
			}
			ret_probes[i].domains |= 1u << d;
		}
	}
	return n;
}

static int tracee_restore_left(struct tracee *t, struct err *err)
{
	int r = arming_restore_left(t->pid, &t->slots, err);

	if (r <= 0)
		return r;
	t->restored = r;
	return slots_read(t->python, &t->slots, err);
}

/* Objects are seen where slots are armed at all, if nobody else looks at them. */
static void choose_object_site(struct tracee *t)
{
	if (t->options.mode == TRACE_PASSIVE || !t->slots.ref_tracer.addr.v)
		t->objects = OBJECTS_NONE;
	else if (ref_tracer_is_taken(&t->slots.ref_tracer))
		t->objects = OBJECTS_TAKEN;
	else if (ref_tracer_site(t->python, t->options.emulated, &t->object_site))
		t->objects = OBJECTS_NO_SITE;
	else
		t->objects = OBJECTS_SEEN;
}

int tracee_new(pid_t pid, const struct tracee_options *options, struct tracee **ret_tracee, struct err *err)
{
	_cleanup_(tracee_freep) struct tracee *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->lock = -1;
	t->pid = pid;
	t->options = *options;
	r = python_open(pid, &t->python, err);
	if (r)
		return r;
	r = trace_lock(pid, &t->lock, err);
	if (r)
		return r;
	r = slots_read(t->python, &t->slots, err);
	if (!r && options->mode != TRACE_PASSIVE)
		r = tracee_restore_left(t, err);
	if (r)
		return r;
	if (slots_new_pool(t->python, &t->slots, &t->pool_fn, &t->pool_class_arg))
		t->pool_fn = RADDR_NULL;
	t->n_probes = tracee_choose_probes(t->python, &t->slots, options->emulated, t->probes);
	choose_object_site(t);
	*ret_tracee = take_ptr(t);
	return 0;
}

/* A return probe needs a site where the stack pointer points at the return address: the alias, or the entry itself. */
static raddr_t return_site(const struct tracee *t, const struct tracee_probe *p)
{
	struct site entry;

	if (p->site.stack_at_return)
		return p->site.addr;
	return site_entry(python_image(t->python), p->function, t->options.emulated, &entry) ? p->function : entry.addr;
}

static bool needs_return(const struct tracee *t, const struct tracee_probe *p)
{
	if (p->fn == FN_FREE)
		return false;
	return !t->predicts || p->fn == FN_REALLOC || probe_domain(p) == DOMAIN_RAW;
}

static int add_probe(struct tracee *t, const struct tracee_probe *p, struct err *err)
{
	uint64_t cookie = PROBE_COOKIE(t->target, p->fn, probe_domain(p));
	int r;

	/* What is not reached through an alias would be hit always, not in windows alone. */
	if (t->options.mode == TRACE_SAMPLED && !p->alias) {
		t->unseen |= 1u << p->fn;
		return 0;
	}
	if (!p->site.addr.v) {
		err_set(err, -ENOENT, "no place for a probe in the allocator function at 0x%llx", (unsigned long long)p->function.v);
		err_hint(err, "the program uses an allocator of its own; --mode passive works without");
		return -ENOENT;
	}
	r = probes_add(t->set, p->site.addr, false, cookie, err);
	if (!r && needs_return(t, p))
		r = probes_add(t->set, return_site(t, p), true, cookie, err);
	return r;
}

/*
 * Prediction needs pymalloc itself in the slots, no hook before it; and the two
 * other ways a block comes about must be seen: a fresh pool (inlined in 3.8) and
 * the raw domain.
 */
static void choose_prediction(struct tracee *t, struct predict_cfg *ret_cfg)
{
	raddr_t usable;

	t->predicts = t->slots.allocator == ALLOCATOR_PYMALLOC && !t->slots.debug_hooks && !t->slots.tracemalloc && t->pool_fn.v &&
		      t->options.mode != TRACE_PASSIVE && obmalloc_predict_cfg(t->python, ret_cfg) == 0;
	if (!t->predicts) {
		*ret_cfg = (struct predict_cfg){ .kind = PREDICT_NONE };
		return;
	}
	if (ret_cfg->kind == PREDICT_STATIC && slots_usable_arenas(t->python, t->pool_fn, &usable) == 0)
		ret_cfg->usable_arenas = usable.v;
}

static enum window_group group_of(const struct tracee *t, const struct tracee_probe *p)
{
	return t->options.mode == TRACE_SAMPLED && probe_domain(p) == DOMAIN_RAW ? WINDOW_LARGE : WINDOW_SMALL;
}

static int note_slots(struct tracee *t, const struct tracee_probe *p, struct err *err)
{
	for (int d = 0; d < DOMAIN_COUNT; d++) {
		int r;

		if (!p->alias || !(p->domains & (1u << d)))
			continue;
		r = arming_add(t->arming[group_of(t, p)], t->slots.table[d], p->fn, p->function, p->site.addr);
		if (r)
			return err_set(err, r, "cannot arm the slot of function 0x%llx", (unsigned long long)p->function.v);
	}
	return 0;
}

/* A function that is probed at its entry and its return. At the entry the stack is as its caller left it; it is rare, so the cost does not
 * matter. */
static int add_pair(struct tracee *t, raddr_t function, uint64_t cookie, struct err *err)
{
	int r = probes_add(t->set, function, false, cookie, err);

	return r ? r : probes_add(t->set, function, true, cookie, err);
}

static int add_arenas(struct tracee *t, struct err *err)
{
	const struct image *image = python_image(t->python);
	int r;

	if (!image_is_text(image, t->slots.arena_alloc) || !image_is_text(image, t->slots.arena_free))
		return 0;
	r = add_pair(t, t->slots.arena_alloc, PROBE_COOKIE(t->target, PROBE_ARENA_ALLOC, 0), err);
	return r ? r : probes_add(t->set, t->slots.arena_free, false, PROBE_COOKIE(t->target, PROBE_ARENA_FREE, 0), err);
}

static int add_all(struct tracee *t, struct err *err)
{
	/* Sampled mode has no probe that is not behind a slot: even a fresh pool's may be hit 100,000 times a second. */
	int r = t->options.mode == TRACE_SAMPLED ? 0 : add_arenas(t, err);

	if (!r && t->options.mode == TRACE_PASSIVE)
		return t->pool_fn.v ? add_pair(t, t->pool_fn, PROBE_COOKIE(t->target, PROBE_POOL, t->pool_class_arg), err) : 0;
	if (!r && t->predicts && t->options.mode == TRACE_EXACT)
		r = probes_add(t->set, t->pool_fn, true, PROBE_COOKIE(t->target, PROBE_FRESH, 0), err);
	for (size_t i = 0; i < t->n_probes && !r; i++)
		r = add_probe(t, &t->probes[i], err);
	if (!r && t->objects == OBJECTS_SEEN)
		r = probes_add(t->set, t->object_site.addr, false, PROBE_COOKIE(t->target, PROBE_OBJECT, DOMAIN_OBJ), err);
	return r;
}

static int tracee_prepare_arming(struct tracee *t, struct err *err)
{
	int r = 0;

	for (int g = 0; g < WINDOW_GROUP_COUNT && !r; g++)
		r = arming_new(t->pid, &t->arming[g], err);
	/* From free to malloc: a block whose allocation is not seen may be freed seen, not the other way round. */
	for (size_t i = t->n_probes; i-- > 0 && !r;)
		r = note_slots(t, &t->probes[i], err);
	if (r || t->objects != OBJECTS_SEEN)
		return r;
	/* After them, so that an object whose memory was not seen allocated comes out of a free list. */
	r = arming_add_empty(t->arming[WINDOW_SMALL], t->slots.ref_tracer.addr, t->object_site.addr);
	return r ? err_set(err, r, "cannot arm the reference tracer's slot") : 0;
}

static int tracee_arm(struct tracee *t, struct err *err)
{
	int r = tracee_prepare_arming(t, err);

	if (r)
		return r;
	t->armed_since_ns = clock_mono_ns(&clock_real);
	return arming_arm(t->arming[WINDOW_SMALL], err);
}

static int tracee_begin_windows(struct tracee *t, struct err *err)
{
	struct windows_options options = {
		.pid = t->pid,
		.budget = t->options.budget,
		.trap_ns = trap_measure(t->session),
		.seed = clock_mono_ns(&clock_real),
		.watchdog = session_watchdog(t->session),
		.target = t->target,
	};
	int r = tracee_prepare_arming(t, err);

	if (!r && t->unseen & (1u << FN_MALLOC)) {
		err_set(err, -ENOTSUP, "its allocator functions cannot be armed in windows");
		err_hint(err, "use --mode passive, or --mode exact for a short time");
		return -ENOTSUP;
	}
	return r ? r : windows_new(&options, t->arming, session_windows(t->session, t->target), &t->windows, err);
}

int tracee_start(struct tracee *t, struct session *session, struct err *err)
{
	struct target_cfg cfg = { .tgid = (uint32_t)t->pid, .sampled = t->options.mode == TRACE_SAMPLED };
	int r;

	r = python_walk_cfg(t->python, &cfg.walk, err);
	if (r)
		return r;
	cfg.walk.max_frames = t->options.max_frames;
	choose_prediction(t, &cfg.predict);
	if (t->objects == OBJECTS_SEEN)
		ref_tracer_object_cfg(t->python, t->slots.allocator == ALLOCATOR_PYMALLOC && !t->slots.debug_hooks, &cfg.objects);
	r = session_add(session, &cfg, &t->target, err);
	if (r)
		return r;
	t->session = session;
	r = probes_new(python_image(t->python), &t->set);
	if (!r)
		r = add_all(t, err);
	if (!r)
		r = probes_attach(t->set, session, t->pid, err);
	if (!r && t->options.mode == TRACE_EXACT)
		r = tracee_arm(t, err);
	if (!r && t->options.mode == TRACE_SAMPLED)
		r = tracee_begin_windows(t, err);
	if (r)
		tracee_stop(t);
	return r;
}

void tracee_disarm(struct tracee *t)
{
	if (t->windows)
		windows_stop(t->windows, NULL, NULL);
	if (t->options.mode != TRACE_EXACT || !t->arming[WINDOW_SMALL] || !arming_is_armed(t->arming[WINDOW_SMALL]))
		return;
	t->objects = tracee_objects(t);
	arming_disarm(t->arming[WINDOW_SMALL]);
	t->armed_ns += clock_mono_ns(&clock_real) - t->armed_since_ns;
}

void tracee_stop(struct tracee *t)
{
	tracee_disarm(t);
	windows_free(t->windows);
	t->windows = NULL;
	probes_free(t->set);
	t->set = NULL;
	if (t->session && session_watchdog(t->session))
		watchdog_forget(session_watchdog(t->session), t->target);
	if (t->session)
		session_remove(t->session, t->target);
	t->session = NULL;
}

/* Nothing is armed any more; children that are still remembered are restored before what tells how goes. */
static void forget_armings(struct tracee *t)
{
	children_settle(&t->children, t->arming, UINT64_MAX);
	for (int g = 0; g < WINDOW_GROUP_COUNT; g++) {
		arming_free(t->arming[g]);
		t->arming[g] = NULL;
	}
}

int tracee_restart(struct tracee *t, enum trace_mode mode, struct session *session, struct err *err)
{
	tracee_stop(t);
	forget_armings(t);
	t->options.mode = mode;
	return tracee_start(t, session, err);
}

void tracee_free(struct tracee *t)
{
	if (!t)
		return;
	tracee_stop(t);
	forget_armings(t);
	python_free(t->python);
	closep(&t->lock);
	free(t);
}

void tracee_forked(struct tracee *t, pid_t child)
{
	children_add(&t->children, t->arming, child, clock_mono_ns(&clock_real));
	if (t->session)
		session_forget_pid(t->session, child);
}

void tracee_settle(struct tracee *t)
{
	children_settle(&t->children, t->arming, clock_mono_ns(&clock_real));
}

const struct python *tracee_python(const struct tracee *t)
{
	return t->python;
}

const struct slots *tracee_slots(const struct tracee *t)
{
	return &t->slots;
}

uint32_t tracee_target(const struct tracee *t)
{
	return t->target;
}

double tracee_armed_seconds(const struct tracee *t)
{
	uint64_t ns = t->armed_ns;

	if (t->windows)
		return windows_totals(t->windows, WINDOW_SMALL).armed_s;
	if (t->options.mode == TRACE_EXACT && t->arming[WINDOW_SMALL] && arming_is_armed(t->arming[WINDOW_SMALL]))
		ns += clock_mono_ns(&clock_real) - t->armed_since_ns;
	return (double)ns / 1e9;
}

int tracee_restored(const struct tracee *t)
{
	return t->restored;
}

bool tracee_sees_pools(const struct tracee *t)
{
	return t->pool_fn.v != 0;
}

size_t tracee_slots_lost(struct tracee *t)
{
	const struct arming *arming = t->arming[WINDOW_SMALL];

	return t->options.mode == TRACE_EXACT && arming && arming_is_armed(arming) ? arming_count_lost(t->arming[WINDOW_SMALL]) : 0;
}

struct windows *tracee_windows(struct tracee *t)
{
	return t->windows;
}

unsigned tracee_unseen(const struct tracee *t)
{
	return t->unseen;
}

enum tracee_objects tracee_objects(const struct tracee *t)
{
	const struct arming *arming = t->arming[WINDOW_SMALL];

	if (t->objects == OBJECTS_SEEN && arming && arming_is_armed(arming) && arming_empty_lost(arming))
		return OBJECTS_LOST;
	return t->objects;
}
