/* SPDX-License-Identifier: MIT */
/*
 * The allocator tables of a process: where they are, what is in them, whose
 * allocator answers behind hooks. Invariant: a slot handed out is 8-aligned, in
 * writable memory, and holds an address of executable memory. Nothing is
 * written here. Limits: a hook that keeps the allocator behind it anywhere but
 * at ctx is reported as custom.
 */
#include "interp/slots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interp/obmalloc_state.h"
#include "interp/python_impl.h"
#include "interp/ref_tracer.h"
#include "interp/slots_impl.h"
#include "interp/slots_x86.h"
#include "target/site.h"

#define HOOKS_MAX 8   /* debug hooks and tracemalloc are two; more is a cycle */

static const char *const domain_names[DOMAIN_COUNT] = { [DOMAIN_RAW] = "raw", [DOMAIN_MEM] = "mem", [DOMAIN_OBJ] = "obj" };

const char *allocator_name(enum allocator allocator)
{
	static const char *const names[] = {
#define X(id, name) name,
		ALLOCATORS(X)
#undef X
	};

	return (size_t)allocator < sizeof(names) / sizeof(names[0]) ? names[allocator] : "unknown";
}

/* Executable memory by the maps of the open; a library loaded since then makes them be read again, once a look. */
static bool is_code(struct slots_view *view, uint64_t addr)
{
	const struct python *python = view->python;
	const struct map *map;

	if (python->image && image_is_text(python->image, RADDR(addr)))
		return true;
	map = python->maps ? maps_at(python->maps, addr) : NULL;
	if (map)
		return map->exec;
	if (!view->fresh && python->pid && maps_load(python->pid, &view->fresh) < 0)
		return false;
	map = view->fresh ? maps_at(view->fresh, addr) : NULL;
	return map && map->exec;
}

static bool is_writable(const struct python *python, uint64_t addr)
{
	const struct map *map = python->maps ? maps_at(python->maps, addr) : NULL;

	return map && map->write;
}

static int read_table(struct slots_view *view, raddr_t table, struct alloc_table *ret_table)
{
	const struct layout *l = &view->python->layout;
	const uint32_t offsets[FN_COUNT] = {
		[FN_MALLOC] = l->alloc_malloc, [FN_CALLOC] = l->alloc_calloc,
		[FN_REALLOC] = l->alloc_realloc, [FN_FREE] = l->alloc_free,
	};
	struct alloc_table read = { .addr = table };
	int r = rmem_u64(view->python->mem, raddr_add(table, l->alloc_ctx), &read.ctx);

	for (int i = 0; r == 0 && i < FN_COUNT; i++) {
		r = rmem_u64(view->python->mem, raddr_add(table, offsets[i]), &read.fn[i]);
		if (r == 0 && !is_code(view, read.fn[i]))
			r = -EPROTO;
	}
	if (r == 0)
		*ret_table = read;
	return r == -EFAULT ? -EPROTO : r;
}

/* One hook down: debug hooks keep {char api_id; PyMemAllocatorEx} at ctx, tracemalloc a PyMemAllocatorEx. */
static bool follow_hook(struct slots_view *view, const struct alloc_table *hook, struct alloc_table *ret_behind)
{
	const struct python *python = view->python;
	raddr_t ctx = RADDR(hook->ctx);
	uint8_t api;

	if (!ctx.v || rmem_u8(python->mem, ctx, &api) < 0)
		return false;
	if (strchr("rmo", api) && api && read_table(view, raddr_add(ctx, python->layout.debug_api_alloc), ret_behind) == 0) {
		view->debug_hooks = true;
		return true;
	}
	if (read_table(view, ctx, ret_behind) < 0)
		return false;
	view->tracemalloc |= image_is_text(python->image, RADDR(hook->fn[FN_MALLOC]));
	return true;
}

int slots_behind(struct slots_view *view, raddr_t table, struct alloc_table *ret_table)
{
	struct alloc_table now;
	int r = read_table(view, table, &now);

	if (r < 0)
		return r;
	for (int i = 0; i < HOOKS_MAX && now.ctx; i++) {
		struct alloc_table behind;

		if (!follow_hook(view, &now, &behind))
			break;
		now = behind;
	}
	/* the top table may hold aliases of a killed tracer */
	for (int i = 0; i < FN_COUNT; i++) {
		raddr_t fn;

		if (site_alias_target(view->python->image, RADDR(now.fn[i]), &fn) == 0)
			now.fn[i] = fn.v;
	}
	*ret_table = now;
	return 0;
}

void slots_view_clear(struct slots_view *view)
{
	maps_free(view->fresh);
	view->fresh = NULL;
}

/* By offset where the version has one (3.12+), else by code; code also decides where the offset leads nowhere. */
static int find_table(struct slots_view *view, enum alloc_domain domain, raddr_t *ret_table)
{
	const struct layout *l = &view->python->layout;
	const uint32_t offsets[DOMAIN_COUNT] = {
		[DOMAIN_RAW] = l->rt_alloc_raw, [DOMAIN_MEM] = l->rt_alloc_mem, [DOMAIN_OBJ] = l->rt_alloc_obj,
	};
	struct alloc_table table;
	raddr_t by_code;
	int r = -EPROTO;

	if (offsets[domain] != NO_OFFSET) {
		raddr_t by_offset = raddr_add(view->python->runtime, offsets[domain]);

		r = read_table(view, by_offset, &table);
		if (r == 0)
			*ret_table = by_offset;
		if (r == 0 || r == -ESRCH)
			return r;
	}
	if (slots_table_from_code(view->python->image, domain, &by_code) < 0)
		return -EPROTO;
	r = read_table(view, by_code, &table);
	if (r == 0)
		*ret_table = by_code;
	return r;
}

static int fill_slot(struct slots_view *view, raddr_t addr, struct slot *ret_slot)
{
	const struct python *python = view->python;
	struct slot slot = { .addr = addr };
	int r = rmem_ptr(python->mem, addr, &slot.value);

	if (r < 0)
		return r;
	if (addr.v % 8 || !is_writable(python, addr.v) || !is_code(view, slot.value.v))
		return -EPROTO;
	slot.armed = site_alias_target(python->image, slot.value, &slot.function) == 0;
	if (!slot.armed)
		slot.function = slot.value;
	*ret_slot = slot;
	return 0;
}

static int fill_domain(struct slots_view *view, enum alloc_domain domain, struct slots *slots)
{
	const struct layout *l = &view->python->layout;
	const uint32_t offsets[FN_COUNT] = {
		[FN_MALLOC] = l->alloc_malloc, [FN_CALLOC] = l->alloc_calloc,
		[FN_REALLOC] = l->alloc_realloc, [FN_FREE] = l->alloc_free,
	};
	int r = find_table(view, domain, &slots->table[domain]);

	for (int i = 0; r == 0 && i < FN_COUNT; i++)
		r = fill_slot(view, raddr_add(slots->table[domain], offsets[i]), &slots->fn[domain][i]);
	return r;
}

static void fill_arena(struct slots_view *view, struct slots *slots)
{
	const struct layout *l = &view->python->layout;
	raddr_t table, alloc, release;

	if (l->rt_alloc_arena != NO_OFFSET)
		table = raddr_add(view->python->runtime, l->rt_alloc_arena);
	else if (slots_arena_from_code(view->python->image, &table) < 0)
		return;
	if (rmem_ptr(view->python->mem, raddr_add(table, l->arena_alloc), &alloc) < 0 ||
	    rmem_ptr(view->python->mem, raddr_add(table, l->arena_free), &release) < 0)
		return;
	if (!is_code(view, alloc.v) || !is_code(view, release.v))
		return;
	slots->arena_alloc = alloc;
	slots->arena_free = release;
}

/*
 * Who answers at the end of the hooks. PYTHONMALLOC=malloc puts the functions of
 * the raw domain into obj; a function outside the interpreter's image is
 * somebody else's; what is left is pymalloc, or from 3.13 mimalloc, which leaves
 * pymalloc without arenas (an initialised pymalloc has at least one).
 */
static int classify(struct slots_view *view, struct slots *slots)
{
	struct alloc_table raw, obj;
	bool in_use = view->python->layout.minor < 13 || obmalloc_in_use(view->python);
	int r = slots_behind(view, slots->table[DOMAIN_OBJ], &obj);

	/* whoever is dead by now has no arenas, nor anything else: these readings come later, and tell */
	if (r == 0)
		r = slots_behind(view, slots->table[DOMAIN_RAW], &raw);
	if (r < 0)
		slots->allocator = ALLOCATOR_UNKNOWN;
	else if (obj.fn[FN_MALLOC] == raw.fn[FN_MALLOC])
		slots->allocator = ALLOCATOR_MALLOC;
	else if (!image_is_text(view->python->image, RADDR(obj.fn[FN_MALLOC])) || obj.ctx)
		slots->allocator = ALLOCATOR_CUSTOM;
	else if (!in_use)
		slots->allocator = ALLOCATOR_MIMALLOC;
	else
		slots->allocator = ALLOCATOR_PYMALLOC;
	return r == -ESRCH ? r : 0;
}

static void describe(struct slots *slots)
{
	static const char *const hooks[2][2] = {
		{ "", " under tracemalloc" },
		{ " under debug hooks", " under debug hooks and tracemalloc" },
	};

	snprintf(slots->text, sizeof(slots->text), "%s%s", allocator_name(slots->allocator),
		 hooks[slots->debug_hooks][slots->tracemalloc]);
}

int slots_read(const struct python *python, struct slots *ret_slots, struct err *err)
{
	_cleanup_(slots_view_clear) struct slots_view view = { .python = python };
	struct slots slots = { 0 };

	if (!python->image)
		return err_set(err, -ENOTSUP, "recorded memory has no code to find allocator tables in");
	for (int domain = 0; domain < DOMAIN_COUNT; domain++) {
		int r = fill_domain(&view, (enum alloc_domain)domain, &slots);

		if (r == -ESRCH)
			return err_set(err, r, "process %d has ended", python->pid);
		if (r < 0) {
			err_set(err, r, "cannot find the allocator table of the %s domain in process %d (Python %s)",
				domain_names[domain], python->pid, python->version);
			err_hint(err, "an unusual build; 'leaksnoop doctor %d' tells more", python->pid);
			return r;
		}
	}
	fill_arena(&view, &slots);
	if (ref_tracer_read(python, &slots.ref_tracer))
		slots.ref_tracer = (struct slot){ 0 };
	if (classify(&view, &slots))
		return err_set(err, -ESRCH, "process %d has ended", python->pid);
	slots.debug_hooks = view.debug_hooks;
	slots.tracemalloc = view.tracemalloc;
	describe(&slots);
	*ret_slots = slots;
	return 0;
}

size_t slots_armed(const struct slots *slots)
{
	size_t n = slots->ref_tracer.armed;

	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT; f++)
			n += slots->fn[d][f].armed;
	return n;
}
