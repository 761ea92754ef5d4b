/* SPDX-License-Identifier: MIT */
/*
 * Opens the Python of a process and owns what was learned of it. Invariant: a
 * struct python that python_open() returned was validated on the live process.
 * Limits: its maps are those of the open; a process that execs afterwards is
 * another Python and the caller's to notice (proc.h: start time, or -EFAULT).
 */
#include "interp/python.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interp/python_impl.h"
#include "interp/slots_x86.h"

#define KNOWN_HINT "this build knows CPython 3.8 to 3.15, GIL builds; 'leaksnoop doctor %d' tells more"

void python_free(struct python *python)
{
	if (!python)
		return;
	free(python->static_vars);
	rmem_free(python->mem);
	image_free(python->image);
	maps_free(python->maps);
	free(python);
}

void python_shed(struct python *python)
{
	image_free(python->image);
	maps_free(python->maps);
	python->image = NULL;
	python->maps = NULL;
}

size_t python_bytes(const struct python *python)
{
	return sizeof(*python) + rmem_own_bytes() + (python->static_vars ? sizeof(*python->static_vars) : 0);
}

pid_t python_pid(const struct python *python)
{
	return python->pid;
}

uint32_t python_version_hex(const struct python *python)
{
	return python->version_hex;
}

const char *python_version(const struct python *python)
{
	return python->version;
}

bool python_is_optimised(const struct python *python)
{
	return python->optimised;
}

bool python_is_debug(const struct python *python)
{
	return python->debug;
}

raddr_t python_runtime(const struct python *python)
{
	return python->runtime;
}

const struct layout *python_layout(const struct python *python)
{
	return &python->layout;
}

const struct image *python_image(const struct python *python)
{
	return python->image;
}

const struct maps *python_maps(const struct python *python)
{
	return python->maps;
}

struct rmem *python_rmem(const struct python *python)
{
	return python->mem;
}

const char *python_layout_source(const struct python *python)
{
	return python->source;
}

/* One place that turns an errno of looking at a process into words. */
static int explain(struct err *err, pid_t pid, int r)
{
	switch (r) {
	case -ESRCH:
	case -ENOENT:
		err_set(err, -ESRCH, "there is no process %d", pid);
		err_hint(err, "it may have ended; 'leaksnoop ps' lists the Python processes");
		return -ESRCH;
	case -EPERM:
	case -EACCES:
		err_set(err, r, "no permission to read the memory of process %d", pid);
		err_hint(err, "run as root (sudo), in the initial PID namespace");
		return r;
	default:
		return err_set(err, r, "cannot read process %d: %s", pid, strerror(-r));
	}
}

/* Finds "python2.7" or "libpython3.6m.so" in a path: *ret_minor of 2.x or 3.x. */
static bool old_python_in(const char *path, int *ret_major, int *ret_minor)
{
	for (const char *at = path; (at = strstr(at, "python")) != NULL; at += 6) {
		int major, minor;

		if (sscanf(at, "python%1d.%2d", &major, &minor) != 2 || strchr(at, '/'))
			continue;
		if (major == 2 || (major == 3 && minor < 7)) {
			*ret_major = major;
			*ret_minor = minor;
			return true;
		}
	}
	return false;
}

/* No _PyRuntime: names the version if the name of a file does. Otherwise what was said already (r) stands. */
static int explain_no_python(struct err *err, pid_t pid, const struct maps *maps, int r)
{
	for (size_t i = 0; i < maps_count(maps); i++) {
		const struct map *map = maps_get(maps, i);
		int major, minor;

		if (!map->inode || !map->exec || !old_python_in(map->path, &major, &minor))
			continue;
		err_set(err, -ENOTSUP, "process %d runs Python %d.%d, which is not supported", pid, major, minor);
		err_hint(err, KNOWN_HINT, pid);
		return -ENOTSUP;
	}
	return r;
}

static int open_image(struct python *python, struct err *err)
{
	struct image_symbol runtime;
	int r = maps_load(python->pid, &python->maps);

	if (r < 0)
		return explain(err, python->pid, r);
	r = image_open_python(python->pid, python->maps, &python->image, err);
	if (r == -ENOEXEC || r == -ENOTSUP)
		return explain_no_python(err, python->pid, python->maps, r);
	if (r < 0)
		return r;
	r = image_symbol(python->image, "_PyRuntime", &runtime);
	if (r < 0)
		return err_set(err, -ENOEXEC, "%s has no _PyRuntime", image_path(python->image));
	python->runtime = runtime.addr;
	return rmem_open_pid(python->pid, &python->mem);
}

/* The row of the table, then the target's own debug offsets over it. */
static int settle_layout(struct python *python, struct err *err)
{
	uint8_t bytes[DEBUG_OFFSETS_MAX];
	struct debug_offsets head;
	size_t size;
	int r;

	version_format(python->version_hex, python->version, sizeof(python->version));
	r = layout_find(python->version_hex, &python->layout);
	if (r < 0) {
		err_set(err, r, "process %d runs Python %s, which is not supported", python->pid, python->version);
		err_hint(err, KNOWN_HINT, python->pid);
		return r;
	}
	snprintf(python->source, sizeof(python->source), "table 3.%u", python->layout.minor);
	size = debug_offsets_size(python->layout.minor);
	if (!size)
		return 0;
	r = rmem_read(python->mem, python->runtime, bytes, size);
	if (r == -EFAULT)
		r = -EPROTO;
	if (r == 0 && debug_offsets_head(bytes, size, &head) < 0)
		r = -EPROTO;
	if (r == 0 && head.free_threaded) {
		err_set(err, -ENOTSUP, "process %d runs a free-threaded Python %s, which is not supported", python->pid, python->version);
		err_hint(err, "run the program with the GIL build of the same version (python%u.%u without 't')",
			 PY_HEX_MAJOR(python->version_hex), PY_HEX_MINOR(python->version_hex));
		return -ENOTSUP;
	}
	if (r == 0)
		r = debug_offsets_apply(bytes, size, &python->layout);
	if (r < 0)
		return err_set(err, r, "the debug offsets of process %d (Python %s) make no sense", python->pid, python->version);
	snprintf(python->source, sizeof(python->source), "debug offsets, table 3.%u", python->layout.minor);
	return 0;
}

/* gc.generations has another offset in some distributions' builds: generation0 points at it. */
static void settle_gc(struct python *python)
{
	struct layout *l = &python->layout;
	raddr_t gc, main_interp, generation0;
	uint32_t value;

	if (l->gc_generation0 == NO_OFFSET)
		return;
	if (l->rt_gc != NO_OFFSET)
		gc = raddr_add(python->runtime, l->rt_gc);
	else if (rmem_ptr(python->mem, raddr_add(python->runtime, l->rt_interpreters_main), &main_interp) == 0)
		gc = raddr_add(main_interp, l->in_gc);
	else
		return;
	if (rmem_ptr(python->mem, raddr_add(gc, l->gc_generation0), &generation0) < 0 ||
	    raddr_eq(generation0, raddr_add(gc, l->gc_generations)))
		return;
	for (size_t i = 0; layout_alternative(python->version_hex, offsetof(struct layout, gc_generations), i, &value) == 0; i++)
		if (raddr_eq(generation0, raddr_add(gc, value)))
			l->gc_generations = value;
}

static int validate(struct python *python, struct err *err)
{
	const char *why = "";
	int r = runtime_validate(python, &why);

	switch (r) {
	case 0:
		return 0;
	case -EAGAIN:
		err_set(err, r, "the Python of process %d is still starting", python->pid);
		err_hint(err, "try again in a moment");
		return r;
	case -EPROTO:
		err_set(err, r, "process %d does not look like Python %s: %s", python->pid, python->version, why);
		err_hint(err, "a patched interpreter? please report its version and where it comes from");
		return r;
	default:
		return explain(err, python->pid, r);
	}
}

static void settle_obmalloc(struct python *python)
{
	size_t used = strlen(python->source);

	if (obmalloc_settle(python) == 1)
		snprintf(python->source + used, sizeof(python->source) - used, ", obmalloc from the live process");
}

int python_open_image(pid_t pid, struct python **ret_python, struct err *err)
{
	_cleanup_(python_freep) struct python *python = calloc(1, sizeof(*python));
	int r;

	if (!python)
		return err_set(err, -ENOMEM, "out of memory");
	python->pid = pid;
	r = open_image(python, err);
	if (r < 0)
		return r;
	r = version_find(python->image, python->mem, python->runtime, &python->version_hex);
	if (r == -ENOENT) {
		err_set(err, -ENOTSUP, "cannot tell the version of the Python in process %d (%s)", pid, image_path(python->image));
		err_hint(err, KNOWN_HINT, pid);
		return -ENOTSUP;
	}
	if (r < 0)
		return explain(err, pid, r);
	r = settle_layout(python, err);
	if (r < 0)
		return r;
	*ret_python = take_ptr(python);
	return 0;
}

int python_open(pid_t pid, struct python **ret_python, struct err *err)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct image_symbol symbol;
	int r = python_open_image(pid, &python, err);

	if (r < 0)
		return r;
	r = validate(python, err);
	if (r < 0)
		return r;
	settle_gc(python);
	settle_obmalloc(python);
	python->optimised = slots_code_has_guards(python->image);
	/* exported only where Py_REF_DEBUG is on, which --with-pydebug implies */
	python->debug = image_symbol(python->image, "_Py_NegativeRefcount", &symbol) == 0;
	*ret_python = take_ptr(python);
	return 0;
}

int python_open_memory(struct rmem *mem, raddr_t runtime, uint32_t version_hex, struct python **ret_python, struct err *err)
{
	_cleanup_(python_freep) struct python *python = calloc(1, sizeof(*python));
	int r;

	if (!python)
		return err_set(err, -ENOMEM, "out of memory");
	python->mem = mem;
	python->runtime = runtime;
	python->version_hex = version_hex;
	r = settle_layout(python, err);
	if (r == 0)
		r = validate(python, err);
	if (r < 0) {
		python->mem = NULL;
		return r;
	}
	settle_gc(python);
	settle_obmalloc(python);
	*ret_python = take_ptr(python);
	return 0;
}

ssize_t python_thread_pointers(const struct python *python, uint64_t *ret_pointers, size_t max)
{
	_cleanup_(freep) raddr_t *interps = calloc(MAX_INTERPRETERS, sizeof(*interps)), *threads = calloc(max, sizeof(*threads));
	size_t count = 0;
	ssize_t n;

	if (!interps || !threads)
		return -ENOMEM;
	n = python_interpreters(python, interps, MAX_INTERPRETERS);
	if (n < 0)
		return n;
	for (ssize_t i = 0; i < n && count < max; i++) {
		ssize_t m = python_threads(python, interps[i], threads, max - count);

		if (m == -ESRCH || m == -EPERM)
			return m;
		for (ssize_t k = 0; k < m; k++)
			count += rmem_u64(python->mem, raddr_add(threads[k], python->layout.ts_thread_id), &ret_pointers[count]) == 0;
	}
	return (ssize_t)count;
}
