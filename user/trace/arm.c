/* SPDX-License-Identifier: MIT */
#include "trace/arm.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ARM_MAX (DOMAIN_COUNT * FN_COUNT + 4)

/* Hooks laid over each other that are followed from a slot's ctx. */
#define HOOKS_MAX 4

struct armed_slot {
	raddr_t table, slot, function, alias;   /* table and function null: a slot that is empty at rest */
};

static bool is_empty_at_rest(const struct armed_slot *s)
{
	return !s->function.v;
}

/* PyMemAllocatorEx: ctx, then the functions in the order of enum alloc_function. */
static raddr_t table_slot(raddr_t table, enum alloc_function fn)
{
	return raddr_add(table, 8 * ((int64_t)fn + 1));
}

struct arming {
	int mem;         /* /proc/PID/mem */
	bool armed;
	size_t count;
	struct armed_slot slots[ARM_MAX];
};

static int mem_open(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

static int mem_read_u64(int mem, raddr_t addr, uint64_t *ret)
{
	ssize_t n = pread(mem, ret, sizeof(*ret), (off_t)addr.v);

	if (n == sizeof(*ret))
		return 0;
	/* The memory of a process that exited reads as end of file. */
	return n < 0 ? -errno : -ESRCH;
}

/* Writes the one byte in which to differs from from, or all eight: a kernel without fast short copies moves a lone byte or a whole
 * word in one store, but not what is between (arch/x86/lib/memcpy_64.S). */
static int slot_write(int mem, raddr_t slot, uint64_t from, uint64_t to)
{
	size_t size = (from ^ to) >> 8 ? sizeof(to) : 1;
	ssize_t n;

	n = pwrite(mem, &to, size, (off_t)slot.v);
	if (n == (ssize_t)size)
		return 0;
	return n < 0 ? -errno : -ESRCH;
}

/* Puts to where from stands. 1: done, 0: something else stands there, or a negative errno. */
static int slot_replace(int mem, raddr_t slot, raddr_t from, raddr_t to)
{
	uint64_t now;
	int r = mem_read_u64(mem, slot, &now);

	if (r)
		return r;
	if (now != from.v)
		return 0;
	r = slot_write(mem, slot, from.v, to.v);
	return r ? r : 1;
}

static bool slot_holds(int mem, raddr_t slot, raddr_t value)
{
	uint64_t now;

	return !mem_read_u64(mem, slot, &now) && now == value.v;
}

int arming_new(pid_t pid, struct arming **ret_arming, struct err *err)
{
	_cleanup_(arming_freep) struct arming *a = calloc(1, sizeof(*a));

	if (!a)
		return -ENOMEM;
	a->mem = mem_open(pid);
	if (a->mem < 0) {
		int r = a->mem;

		err_set(err, r, "cannot open the memory of process %d for writing: %s", pid, strerror(-r));
		err_hint(err, "run as root, or use --mode passive, which writes nothing");
		return r;
	}
	*ret_arming = take_ptr(a);
	return 0;
}

void arming_free(struct arming *arming)
{
	if (!arming)
		return;
	if (arming->mem >= 0)
		close(arming->mem);
	free(arming);
}

int arming_add(struct arming *arming, raddr_t table, enum alloc_function fn, raddr_t function, raddr_t alias)
{
	if (arming->count >= ARM_MAX)
		return -ENOSPC;
	/* A slot is aligned, and an alias lies right before its function: anything else is not what we write. */
	if (table.v % 8 || alias.v >= function.v || function.v - alias.v > 8)
		return -EINVAL;
	arming->slots[arming->count++] = (struct armed_slot){
		.table = table, .slot = table_slot(table, fn), .function = function, .alias = alias
	};
	return 0;
}

_Static_assert(sizeof(struct arming) <= ARMING_PACKED_MAX, "fits an order to the watchdog");

size_t arming_pack(const struct arming *arming, void *buf, size_t size, int *ret_fd)
{
	if (size < sizeof(*arming))
		return 0;
	memcpy(buf, arming, sizeof(*arming));
	*ret_fd = arming->mem;
	return sizeof(*arming);
}

int arming_unpack(const void *buf, size_t size, int fd, struct arming **ret_arming)
{
	struct arming *a = size == sizeof(*a) ? malloc(sizeof(*a)) : NULL;

	if (!a) {
		closep(&fd);
		return size == sizeof(*a) ? -ENOMEM : -EINVAL;
	}
	memcpy(a, buf, sizeof(*a));
	a->mem = fd;
	*ret_arming = a;
	return 0;
}

int arming_add_empty(struct arming *arming, raddr_t slot, raddr_t alias)
{
	if (arming->count >= ARM_MAX)
		return -ENOSPC;
	if (slot.v % 8 || !alias.v)
		return -EINVAL;
	arming->slots[arming->count++] = (struct armed_slot){ .slot = slot, .alias = alias };
	return 0;
}

int arming_arm(struct arming *arming, struct err *err)
{
	for (size_t i = 0; i < arming->count; i++) {
		const struct armed_slot *s = &arming->slots[i];
		int r;

		arming->armed = true;
		r = slot_replace(arming->mem, s->slot, s->function, s->alias);
		if (r > 0 || (r == 0 && (is_empty_at_rest(s) || slot_holds(arming->mem, s->slot, s->alias))))
			continue;
		arming_disarm(arming);
		if (r < 0)
			return err_set(err, r, "cannot arm the slot at 0x%" PRIx64 ": %s", s->slot.v, strerror(-r));
		err_set(err, -ESTALE, "the allocator slot at 0x%" PRIx64 " changed while it was looked at", s->slot.v);
		err_hint(err, "the program is installing or removing an allocator hook (tracemalloc?); try again");
		return -ESTALE;
	}
	return 0;
}

/*
 * Somebody laid a hook over a slot while it was armed, and keeps the alias as
 * "the function before me": PyMemAllocatorEx { ctx, malloc, calloc, realloc, free }
 * reached through the hook's ctx. The alias works for ever, but it is ours:
 * replace it there.
 */
static void hook_restore(int mem, const struct armed_slot *s)
{
	int64_t offset = (int64_t)(s->slot.v - s->table.v);
	raddr_t table = s->table;

	for (int depth = 0; depth < HOOKS_MAX; depth++) {
		uint64_t ctx;

		if (mem_read_u64(mem, table, &ctx) || !ctx || ctx % 8)
			return;
		/* tracemalloc: ctx is the table. Debug hooks: the table follows an 8-byte api id. */
		for (int skip = 0; skip <= 8; skip += 8)
			if (slot_replace(mem, RADDR(ctx + (uint64_t)(skip + offset)), s->alias, s->function) > 0)
				return;
		table = RADDR(ctx);
	}
}

static int slots_restore(int mem, const struct arming *arming)
{
	int result = 0;

	for (size_t i = arming->count; i-- > 0;) {
		const struct armed_slot *s = &arming->slots[i];
		int r = slot_replace(mem, s->slot, s->alias, s->function);

		if (r < 0)
			result = r == -EIO ? -ESRCH : r;
		else if (r == 0 && !is_empty_at_rest(s) && !slot_holds(mem, s->slot, s->function))
			hook_restore(mem, s);
	}
	return result;
}

int arming_disarm(struct arming *arming)
{
	arming->armed = false;
	return slots_restore(arming->mem, arming);
}

bool arming_is_empty(const struct arming *arming)
{
	return !arming->count;
}

bool arming_is_armed(const struct arming *arming)
{
	return arming->armed;
}

size_t arming_count_lost(struct arming *arming)
{
	size_t lost = 0;

	for (size_t i = 0; i < arming->count; i++) {
		const struct armed_slot *s = &arming->slots[i];
		uint64_t now;

		if (!is_empty_at_rest(s) && !mem_read_u64(arming->mem, s->slot, &now) && now != s->alias.v)
			lost++;
	}
	return lost;
}

bool arming_empty_lost(const struct arming *arming)
{
	for (size_t i = 0; i < arming->count; i++) {
		const struct armed_slot *s = &arming->slots[i];
		uint64_t now;

		if (is_empty_at_rest(s) && !mem_read_u64(arming->mem, s->slot, &now) && now != s->alias.v)
			return true;
	}
	return false;
}

int arming_disarm_child(const struct arming *arming, pid_t child)
{
	_cleanup_(closep) int mem = mem_open(child);

	if (mem < 0)
		return mem;
	return slots_restore(mem, arming);
}

/* Counts a slot that was restored; a negative errno if it cannot be. */
static int restore_left(int mem, const struct slot *s, int *restored, struct err *err)
{
	int r = s->armed ? slot_replace(mem, s->addr, s->value, s->function) : 0;

	if (r < 0)
		return err_set(err, r, "cannot restore the slot at 0x%" PRIx64 ": %s", s->addr.v, strerror(-r));
	*restored += r;
	return 0;
}

int arming_restore_left(pid_t pid, const struct slots *slots, struct err *err)
{
	_cleanup_(closep) int mem = mem_open(pid);
	int restored = 0, r;

	if (mem < 0)
		return err_set(err, mem, "cannot open the memory of process %d for writing: %s", pid, strerror(-mem));
	r = restore_left(mem, &slots->ref_tracer, &restored, err);
	/* Frees last: a block allocated unseen may be freed seen, not the other way round. */
	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT && !r; f++)
			r = restore_left(mem, &slots->fn[d][f], &restored, err);
	return r ? r : restored;
}
