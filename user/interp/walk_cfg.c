/* SPDX-License-Identifier: MIT */
/*
 * What the walker in the kernel must know of one process. Offsets come from the
 * layout; how a thread finds its thread state (a global up to 3.11, a
 * thread-local variable later, a pthread slot for detached threads) comes from
 * code and memory, and is believed only if live threads agree: whatever stands
 * there is null or a thread state whose thread_id is that thread's fs base.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "interp/python_impl.h"

#define THREADS_SAMPLED 64
#define CHECK_TRIES 5
#define STATIC_TLS_MAX (1 << 20)
/* glibc: struct pthread.specific_1stblock[key].data, stable from 2.x to 2.43; checked against live threads */
#define PTHREAD_SLOT(key) (0x318u + 16u * (key))
#define PTHREAD_KEYS_FIRST_BLOCK 32u

struct threads {
	raddr_t tstate[THREADS_SAMPLED];
	uint64_t fs[THREADS_SAMPLED];
	size_t n;
};

static void collect_threads(const struct python *python, struct threads *threads)
{
	raddr_t interps[64], tstates[THREADS_SAMPLED];
	ssize_t n_interps = python_interpreters(python, interps, 64);

	threads->n = 0;
	for (ssize_t i = 0; i < n_interps; i++) {
		ssize_t n = python_threads(python, interps[i], tstates, THREADS_SAMPLED);

		for (ssize_t k = 0; k < n && threads->n < THREADS_SAMPLED; k++) {
			uint64_t fs;

			/* 0: a thread state made for a thread that has not taken it yet */
			if (rmem_u64(python->mem, raddr_add(tstates[k], python->layout.ts_thread_id), &fs) < 0 || !fs)
				continue;
			threads->tstate[threads->n] = tstates[k];
			threads->fs[threads->n++] = fs;
		}
	}
}

/* Where the variable is in the thread with this fs base. -ENOENT: not allocated there. */
static int variable_address(const struct python *python, const struct tls_ref *ref, uint64_t fs, raddr_t *ret_addr)
{
	uint64_t block = fs;
	int r = ref->dynamic ? tls_block(python, fs, ref->module, &block) : 0;

	if (r == 0)
		*ret_addr = RADDR(block + (uint64_t)ref->offset);
	return r;
}

/* Counts threads where the variable names their thread state (*good) and where it holds something else (*bad). */
static void check_variable(const struct python *python, const struct tls_ref *ref, const struct threads *threads, int *good, int *bad)
{
	*good = *bad = 0;
	for (size_t i = 0; i < threads->n; i++) {
		uint64_t value, fs;
		raddr_t at;

		if (variable_address(python, ref, threads->fs[i], &at) < 0)
			continue;
		/* a thread of another process image or one that has ended: its memory says nothing */
		if (rmem_u64(python->mem, at, &value) < 0 || value == 0)
			continue;
		if (value % 8 == 0 && rmem_u64(python->mem, RADDR(value + python->layout.ts_thread_id), &fs) == 0 &&
		    fs == threads->fs[i])
			(*good)++;
		else
			(*bad)++;
	}
}

/* True if no look at live threads contradicts the candidate; threads come and go, so a contradiction must last. */
static bool variable_holds(const struct python *python, const struct tls_ref *ref, int *ret_good)
{
	for (int i = 0; i < CHECK_TRIES; i++) {
		struct timespec pause = { 0, 1000000 };
		struct threads threads;
		int good, bad;

		collect_threads(python, &threads);
		check_variable(python, ref, &threads, &good, &bad);
		*ret_good = good;
		if (bad == 0)
			return true;
		/* recorded memory does not change */
		if (python->pid == 0)
			return false;
		nanosleep(&pause, NULL);
	}
	return false;
}

/* A block at the same small distance below fs in every thread is static: cheaper for the walker. */
static void make_static(const struct python *python, struct tls_ref *ref)
{
	struct threads threads;
	int64_t distance = 0;

	if (!ref->dynamic)
		return;
	collect_threads(python, &threads);
	for (size_t i = 0; i < threads.n; i++) {
		uint64_t block;
		int64_t d;

		if (tls_block(python, threads.fs[i], ref->module, &block) < 0)
			continue;
		d = (int64_t)(block - threads.fs[i]);
		if (d >= 0 || d < -STATIC_TLS_MAX || (distance && d != distance))
			return;
		distance = d;
	}
	if (distance)
		*ref = (struct tls_ref){ .offset = distance + ref->offset };
}

static int find_variable(const struct python *python, const char *const *functions, size_t n, struct tls_ref *ret_ref, int *ret_good)
{
	for (size_t f = 0; f < n; f++) {
		struct tls_ref refs[TLS_CANDIDATES];
		ssize_t found = tls_find(python, functions[f], refs, TLS_CANDIDATES);

		for (ssize_t i = 0; i < found; i++) {
			if (!variable_holds(python, &refs[i], ret_good))
				continue;
			make_static(python, &refs[i]);
			*ret_ref = refs[i];
			return 0;
		}
	}
	return -EPROTO;
}

static int find_tstate(const struct python *python, struct walk_cfg *cfg, struct err *err)
{
	/* all return the variable and nothing else; the first that is exported decides */
	static const char *const functions[] = {
		"PyThreadState_GetUnchecked",   /* 3.13+ */
		"_PyThreadState_UncheckedGet",  /* 3.12 */
		"_PyThreadState_GetCurrent",    /* 3.12+ */
		"PyThreadState_Get",
	};
	struct tls_ref ref;
	int good, r;

	if (python->layout.rt_tstate_current != NO_OFFSET) {
		cfg->tstate_source = TSTATE_GLOBAL;
		cfg->tstate_addr = raddr_add(python->runtime, python->layout.rt_tstate_current).v;
		return 0;
	}
	r = find_variable(python, functions, sizeof(functions) / sizeof(functions[0]), &ref, &good);
	if (r < 0) {
		err_set(err, r, "cannot find where threads of process %d keep their Python state (Python %s)", python->pid,
			python->version);
		err_hint(err, "an unusual build; 'leaksnoop doctor %d' tells more", python->pid);
		return r;
	}
	cfg->tstate_source = ref.dynamic ? TSTATE_DTV : TSTATE_TLS;
	cfg->tls_offset = (uint64_t)ref.offset;
	cfg->tls_module = ref.module;
	return 0;
}

/* For threads that hold no GIL. Believed only if at least one live thread confirms it; 0 otherwise. */
static uint64_t find_fallback(const struct python *python)
{
	static const char *const functions[] = { "PyGILState_GetThisThreadState" };
	const struct layout *l = &python->layout;
	struct tls_ref ref = { 0 };
	uint32_t key[2];
	int good = 0;

	if (l->rt_autotss == NO_OFFSET) {
		if (find_variable(python, functions, 1, &ref, &good) < 0 || ref.dynamic || !good)
			return 0;
		return (uint64_t)ref.offset;
	}
	/* Py_tss_t {int is_initialized; pthread_key_t key} */
	if (rmem_read(python->mem, raddr_add(python->runtime, l->rt_autotss), key, sizeof(key)) < 0 || key[0] != 1 ||
	    key[1] >= PTHREAD_KEYS_FIRST_BLOCK)
		return 0;
	ref.offset = PTHREAD_SLOT(key[1]);
	if (!variable_holds(python, &ref, &good) || !good)
		return 0;
	return (uint64_t)ref.offset;
}

static uint32_t end_of(uint32_t end, uint32_t offset, uint32_t size)
{
	return offset != NO_OFFSET && offset + size > end ? offset + size : end;
}

static void fill_frame(const struct layout *l, struct walk_cfg *cfg)
{
	cfg->instr_kind = l->instr_kind;
	cfg->fr_code = l->fr_code;
	cfg->fr_back = l->fr_back;
	cfg->fr_instr = l->fr_instr;
	cfg->fr_owner = l->fr_owner;
	cfg->owner_shim = l->owner_shim;
	cfg->tag_mask = l->tag_mask;
	cfg->fr_read = end_of(end_of(0, l->fr_code, 8), l->fr_back, 8);
	cfg->fr_read = end_of(cfg->fr_read, l->fr_instr, l->instr_kind == INSTR_POINTER ? 8 : 4);
	cfg->fr_read = end_of(cfg->fr_read, l->fr_owner, 1);
}

static void fill_code(const struct layout *l, struct walk_cfg *cfg)
{
	cfg->co_code = l->co_code;
	cfg->co_filename = l->co_filename;
	cfg->co_name = l->co_qualname != NO_OFFSET ? l->co_qualname : l->co_name;
	cfg->co_firstlineno = l->co_firstlineno;
	cfg->co_linetable = l->co_linetable;
	cfg->str_state = l->str_state;
	cfg->str_length = l->str_length;
	cfg->str_ascii_data = l->str_ascii_data;
	cfg->str_compact_data = l->str_compact_data;
	cfg->bytes_size = l->bytes_size;
	cfg->bytes_data = l->bytes_data;
}

int python_walk_cfg(const struct python *python, struct walk_cfg *ret_cfg, struct err *err)
{
	const struct layout *l = &python->layout;
	struct walk_cfg cfg = { 0 };
	int r;

	cfg.ts_thread_id = l->ts_thread_id;
	cfg.ts_interp = l->ts_interp;
	cfg.ts_frame = l->ts_frame;
	cfg.cframe_current = l->cframe_current;
	fill_frame(l, &cfg);
	fill_code(l, &cfg);
	if (cfg.fr_read > FRAME_READ_MAX)
		return err_set(err, -EPROTO, "the frames of Python %s are larger than the walker reads", python->version);
	r = find_tstate(python, &cfg, err);
	if (r < 0)
		return r;
	cfg.fallback_offset = find_fallback(python);
	*ret_cfg = cfg;
	return 0;
}
