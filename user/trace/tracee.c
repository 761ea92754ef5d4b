/* SPDX-License-Identifier: MIT */
#include "trace/tracee.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "leaksnoop.skel.h"
#include "trace/arm.h"
#include "trace/lock.h"

#define LINKS_MAX 64

struct tracee {
	struct tracee_options options;
	pid_t pid;
	int lock;
	struct python *python;
	struct slots slots;
	struct arming *arming;
	struct session *session;
	uint32_t target;
	int restored;
	raddr_t pool_fn;           /* allocate_from_new_pool; null where it is inlined */
	int pool_class_arg;
	size_t n_probes, n_links;
	struct tracee_probe probes[TRACEE_PROBES_MAX];
	struct bpf_link *links[LINKS_MAX];
	uint64_t armed_since_ns, armed_ns;
};

/* The lowest domain served is the probe's: raw only if nothing above shares the function. */
static enum alloc_domain probe_domain(const struct tracee_probe *p)
{
	return p->domains & (1u << DOMAIN_OBJ) ? DOMAIN_OBJ : p->domains & (1u << DOMAIN_MEM) ? DOMAIN_MEM : DOMAIN_RAW;
}

static void choose_site(const struct python *python, site_mask_t emulated, struct tracee_probe *p)
{
	const struct image *image = python_image(python);

	p->alias = site_alias(image, p->function, emulated, &p->site) == 0;
	if (p->alias && p->site.emulated)
		return;
	/* No cheap alias: a place in the function, if that is cheap; the alias all the same if there is one, for without it the inlined
	 * copies of the allocator are not seen. */
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
	*ret_tracee = take_ptr(t);
	return 0;
}

static int attach(struct tracee *t, struct bpf_program *prog, raddr_t addr, bool on_return, uint64_t cookie, struct err *err)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .retprobe = on_return, .bpf_cookie = cookie);
	const struct image *image = python_image(t->python);
	struct bpf_link *link;
	uint64_t offset;
	int r;

	if (t->n_links == LINKS_MAX)
		return err_set(err, -ENOSPC, "too many probes");
	r = image_file_offset(image, addr, &offset);
	if (r)
		return err_set(err, r, "no place in the file for a probe at 0x%llx", (unsigned long long)addr.v);
	link = bpf_program__attach_uprobe_opts(prog, t->pid, image_open_path(image), offset, &opts);
	if (!link) {
		r = -errno;
		err_set(err, r, "cannot attach a probe at %s+0x%llx: %s", image_path(image), (unsigned long long)offset, strerror(-r));
		err_hint(err, "'leaksnoop doctor' says what this kernel offers for uprobes");
		return r;
	}
	t->links[t->n_links++] = link;
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

static int attach_probe(struct tracee *t, const struct tracee_probe *p, struct err *err)
{
	struct leaksnoop_bpf *bpf = session_bpf(t->session);
	struct bpf_program *const entry[FN_COUNT] = {
		[FN_MALLOC] = bpf->progs.leaksnoop_malloc,
		[FN_CALLOC] = bpf->progs.leaksnoop_calloc,
		[FN_REALLOC] = bpf->progs.leaksnoop_realloc,
		[FN_FREE] = bpf->progs.leaksnoop_free,
	};
	uint64_t cookie = PROBE_COOKIE(t->target, probe_domain(p));
	int r;

	if (!p->site.addr.v)
		return err_set(err, -ENOENT, "no place for a probe in the allocator function at 0x%llx",
			       (unsigned long long)p->function.v);
	if (p->fn != FN_FREE) {
		r = attach(t, bpf->progs.leaksnoop_alloc_return, return_site(t, p), true, cookie, err);
		if (r)
			return r;
	}
	return attach(t, entry[p->fn], p->site.addr, false, cookie, err);
}

static int note_slots(struct tracee *t, const struct tracee_probe *p, struct err *err)
{
	for (int d = 0; d < DOMAIN_COUNT; d++) {
		int r;

		if (!p->alias || !(p->domains & (1u << d)))
			continue;
		r = arming_add(t->arming, t->slots.table[d], p->fn, p->function, p->site.addr);
		if (r)
			return err_set(err, r, "cannot arm the slot of function 0x%llx", (unsigned long long)p->function.v);
	}
	return 0;
}

static int tracee_attach(struct tracee *t, struct err *err)
{
	int r;

	/* From free to malloc: a block whose allocation is not seen may be freed seen, not the other way round. */
	for (size_t i = t->n_probes; i-- > 0;) {
		r = attach_probe(t, &t->probes[i], err);
		if (!r)
			r = note_slots(t, &t->probes[i], err);
		if (r)
			return r;
	}
	return arming_arm(t->arming, err);
}

/* A function that is probed at its entry, where the stack is as its caller left it, and on its return: rare, so the cost does not matter. */
static int attach_pair(struct tracee *t, struct bpf_program *entry, struct bpf_program *on_return, raddr_t function, uint64_t cookie,
		       struct err *err)
{
	int r = on_return ? attach(t, on_return, function, true, cookie, err) : 0;

	return r ? r : attach(t, entry, function, false, cookie, err);
}

static int attach_arenas(struct tracee *t, struct err *err)
{
	struct leaksnoop_bpf *bpf = session_bpf(t->session);
	uint64_t cookie = PROBE_COOKIE(t->target, 0);
	int r;

	if (!t->slots.arena_alloc.v || !t->slots.arena_free.v || !image_is_text(python_image(t->python), t->slots.arena_alloc))
		return 0;
	r = attach_pair(t, bpf->progs.leaksnoop_arena_alloc, bpf->progs.leaksnoop_arena_alloc_return, t->slots.arena_alloc, cookie, err);
	return r ? r : attach_pair(t, bpf->progs.leaksnoop_arena_free, NULL, t->slots.arena_free, cookie, err);
}

static int attach_passive(struct tracee *t, struct err *err)
{
	struct leaksnoop_bpf *bpf = session_bpf(t->session);
	int r = attach_arenas(t, err);

	if (r || !t->pool_fn.v)
		return r;
	return attach_pair(t, bpf->progs.leaksnoop_pool, bpf->progs.leaksnoop_pool_return, t->pool_fn,
			   PROBE_COOKIE(t->target, t->pool_class_arg), err);
}

int tracee_start(struct tracee *t, struct session *session, struct err *err)
{
	struct target_cfg cfg = { .tgid = (uint32_t)t->pid, .flags = TARGET_ACTIVE };
	int r;

	r = python_walk_cfg(t->python, &cfg.walk, err);
	if (r)
		return r;
	cfg.walk.max_frames = t->options.max_frames;
	r = session_add(session, &cfg, &t->target, err);
	if (r)
		return r;
	t->session = session;
	if (t->options.mode == TRACE_PASSIVE) {
		r = attach_passive(t, err);
	} else {
		r = arming_new(t->pid, &t->arming, err);
		t->armed_since_ns = clock_mono_ns(&clock_real);
		if (!r)
			r = attach_arenas(t, err);
		if (!r)
			r = tracee_attach(t, err);
	}
	if (r)
		tracee_stop(t);
	return r;
}

void tracee_disarm(struct tracee *t)
{
	if (!t->arming || !arming_is_armed(t->arming))
		return;
	arming_disarm(t->arming);
	t->armed_ns += clock_mono_ns(&clock_real) - t->armed_since_ns;
}

void tracee_stop(struct tracee *t)
{
	tracee_disarm(t);
	while (t->n_links)
		bpf_link__destroy(t->links[--t->n_links]);
	if (t->session)
		session_remove(t->session, t->target);
	t->session = NULL;
}

void tracee_free(struct tracee *t)
{
	if (!t)
		return;
	tracee_stop(t);
	arming_free(t->arming);
	python_free(t->python);
	closep(&t->lock);
	free(t);
}

void tracee_forked(struct tracee *t, pid_t child)
{
	if (t->arming)
		arming_disarm_child(t->arming, child);
	if (t->session)
		session_forget_pid(t->session, child);
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

	if (t->arming && arming_is_armed(t->arming))
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
	return t->arming && arming_is_armed(t->arming) ? arming_count_lost(t->arming) : 0;
}

const struct tracee_probe *tracee_probes(const struct tracee *t, size_t *ret_count)
{
	*ret_count = t->n_probes;
	return t->probes;
}
