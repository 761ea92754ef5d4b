/* SPDX-License-Identifier: MIT */
#include "trace/session.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "leaksnoop.skel.h"
#include "trace/kernel.h"
#include "trace/libbpf.h"
#include "trace/watchdog.h"

#define CODE_TARGET_SHIFT 48   /* CODE_KEY() of bpf/maps.h */

struct session {
	struct leaksnoop_bpf *bpf;
	struct ring_buffer *ring;
	struct nursery_slot *nursery;
	struct target_windows *windows;
	uint32_t nursery_slots;
	uint32_t max_targets;
	bool *used;              /* indices of the targets map */
	int cpus;
	struct target_stats *cpu_stats;  /* one a CPU: scratch of session_stats() */
	bool multi;
	struct watchdog *watchdog;   /* sampled mode; else NULL */
	session_event_fn on_event;
	void *ctx;
	struct bpf_link *links[5];   /* of session_trace_mappings() */
	size_t n_links;
};

static uint64_t ring_size(uint64_t bytes)
{
	uint64_t size = 4096;

	while (size < bytes && size < (1ull << 30))
		size *= 2;
	return size;
}

static int on_record(void *ctx, void *data, size_t size)
{
	struct session *s = ctx;

	if (size < sizeof(struct event_hdr))
		return 0;
	return s->on_event(s->ctx, data, size);
}

static int session_size_maps(struct session *s, const struct session_options *o)
{
	struct leaksnoop_bpf *bpf = s->bpf;
	uint64_t ring = ring_size(o->ring_bytes);
	int r = 0;

	s->bpf->rodata->ring_wakeup_bytes = ring / 4;
	s->bpf->rodata->nursery_slots = o->nursery_slots;
	r |= bpf_map__set_max_entries(bpf->maps.events, (uint32_t)ring);
	r |= bpf_map__set_max_entries(bpf->maps.targets, o->max_targets);
	r |= bpf_map__set_max_entries(bpf->maps.target_states, o->max_targets);
	r |= bpf_map__set_max_entries(bpf->maps.stats, o->max_targets);
	r |= bpf_map__set_max_entries(bpf->maps.nursery, o->nursery_slots);
	r |= bpf_map__set_max_entries(bpf->maps.windows, o->max_targets);
	return r ? -EINVAL : 0;
}

/* Attached on demand, by session_trace_mappings() and probes.c, not with the object. */
static void session_hold_back(struct session *s, bool perf_uprobes)
{
	struct bpf_program *prog;

	bpf_object__for_each_program(prog, s->bpf->obj)
		if (bpf_program__type(prog) != BPF_PROG_TYPE_RAW_TRACEPOINT)
			bpf_program__set_autoattach(prog, false);
	bpf_program__set_autoattach(s->bpf->progs.leaksnoop_fault, false);
	s->multi = !perf_uprobes && kernel_has_uprobe_multi();
	if (s->multi) {
		bpf_program__set_expected_attach_type(s->bpf->progs.leaksnoop_entry, KERNEL_ATTACH_UPROBE_MULTI);
		bpf_program__set_expected_attach_type(s->bpf->progs.leaksnoop_return, KERNEL_ATTACH_UPROBE_MULTI);
	}
}

static int session_load(struct session *s, const struct session_options *o, struct err *err)
{
	int r;

	libbpf_listen();
	s->bpf = leaksnoop_bpf__open();
	if (!s->bpf)
		return err_set(err, -errno, "cannot open the BPF object: %s", strerror(errno));
	session_hold_back(s, o->perf_uprobes);
	r = session_size_maps(s, o);
	if (!r)
		r = leaksnoop_bpf__load(s->bpf);
	if (!r)
		r = leaksnoop_bpf__attach(s->bpf);
	return r ? libbpf_explain(err, r) : 0;
}

static size_t nursery_bytes(const struct session *s)
{
	return (size_t)s->nursery_slots * sizeof(*s->nursery);
}

static size_t windows_bytes(const struct session *s)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (s->max_targets * sizeof(*s->windows) + page - 1) / page * page;
}

/* NULL with errno. */
static void *map_shared(const struct bpf_map *map, size_t bytes)
{
	void *addr = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return addr == MAP_FAILED ? NULL : addr;
}

static int session_open_maps(struct session *s)
{
	s->nursery = map_shared(s->bpf->maps.nursery, nursery_bytes(s));
	s->windows = map_shared(s->bpf->maps.windows, windows_bytes(s));
	if (!s->nursery || !s->windows)
		return -errno;
	s->ring = ring_buffer__new(bpf_map__fd(s->bpf->maps.events), on_record, s, NULL);
	if (!s->ring)
		return -errno;
	s->cpus = libbpf_num_possible_cpus();
	if (s->cpus < 0)
		return s->cpus;
	s->cpu_stats = calloc((size_t)s->cpus, sizeof(*s->cpu_stats));
	s->used = calloc(s->max_targets, sizeof(*s->used));
	return s->cpu_stats && s->used ? 0 : -ENOMEM;
}

int session_new(const struct session_options *options, session_event_fn on_event, void *ctx, struct session **ret_session,
		struct err *err)
{
	_cleanup_(session_freep) struct session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->on_event = on_event;
	s->ctx = ctx;
	s->nursery_slots = options->nursery_slots;
	s->max_targets = options->max_targets;
	if (!s->max_targets || s->max_targets > MAX_TARGETS || !s->nursery_slots || (s->nursery_slots & (s->nursery_slots - 1)))
		return err_set(err, -EINVAL, "a session of %u targets and %u nursery slots cannot be", s->max_targets, s->nursery_slots);
	r = session_load(s, options, err);
	if (r)
		return r;
	r = session_open_maps(s);
	if (r)
		return err_set(err, r, "cannot map the BPF maps: %s", strerror(-r));
	/* Before any link is made: what the watchdog inherits must not keep probes alive. */
	if (options->sampled)
		r = watchdog_start(bpf_map__fd(s->bpf->maps.alarms), s->max_targets, &s->watchdog, err);
	if (r)
		return r;
	*ret_session = take_ptr(s);
	return 0;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	watchdog_stop(session->watchdog);
	session_ignore_mappings(session);
	if (session->nursery)
		munmap(session->nursery, nursery_bytes(session));
	if (session->windows)
		munmap(session->windows, windows_bytes(session));
	if (session->ring)
		ring_buffer__free(session->ring);
	leaksnoop_bpf__destroy(session->bpf);
	free(session->cpu_stats);
	free(session->used);
	free(session);
}

/* Stacks seen before are sent anew. Two writers of the epoch can meet; either way it is another one. */
static void next_epoch(struct session *s, uint32_t target)
{
	int states = bpf_map__fd(s->bpf->maps.target_states);
	uint64_t epoch;

	if (bpf_map_lookup_elem(states, &target, &epoch))
		return;
	epoch++;
	bpf_map_update_elem(states, &target, &epoch, BPF_ANY);
}

int session_add(struct session *s, const struct target_cfg *cfg, uint32_t *ret_target, struct err *err)
{
	uint32_t target = 0;
	int r;

	while (target < s->max_targets && s->used[target])
		target++;
	if (target == s->max_targets)
		return err_set(err, -ENOSPC, "%u processes are traced already", s->max_targets);
	/* Whoever had the index before left counts. */
	memset(s->cpu_stats, 0, (size_t)s->cpus * sizeof(*s->cpu_stats));
	memset(&s->windows[target], 0, sizeof(s->windows[target]));
	r = bpf_map_update_elem(bpf_map__fd(s->bpf->maps.stats), &target, s->cpu_stats, BPF_ANY);
	if (!r)
		r = bpf_map_update_elem(bpf_map__fd(s->bpf->maps.targets), &target, cfg, BPF_ANY);
	if (!r)
		r = bpf_map_update_elem(bpf_map__fd(s->bpf->maps.pids), &cfg->tgid, &target, BPF_ANY);
	s->used[target] = true;
	if (r) {
		session_remove(s, target);
		return err_set(err, r, "cannot register process %u: %s", cfg->tgid, strerror(-r));
	}
	*ret_target = target;
	return 0;
}

/* Deletes what the kernel knows of the code objects of a target, so that they are sent again. */
static void forget_codes(struct session *s, uint32_t target)
{
	int fd = bpf_map__fd(s->bpf->maps.codes_known);
	uint64_t key, next;
	bool more = !bpf_map_get_next_key(fd, NULL, &next);

	while (more) {
		key = next;
		/* Before it is deleted, or the walk would begin anew. */
		more = !bpf_map_get_next_key(fd, &key, &next);
		if (key >> CODE_TARGET_SHIFT == target)
			bpf_map_delete_elem(fd, &key);
	}
}

/* When nobody is traced the filter before codes_known is empty again: it would fill up over weeks. */
static void clear_filter(struct session *s)
{
	int fd = bpf_map__fd(s->bpf->maps.code_filter);
	uint64_t zero = 0;

	for (uint32_t i = 0; i < s->max_targets; i++)
		if (s->used[i])
			return;
	for (uint32_t i = 0; i < bpf_map__max_entries(s->bpf->maps.code_filter); i++)
		bpf_map_update_elem(fd, &i, &zero, BPF_ANY);
}

static void drop_block(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot)
{
	(void)ctx, (void)target, (void)addr, (void)slot;
}

/* The index may be another process's next: nothing of this one may be taken for its. */
static void forget_target(struct session *s, uint32_t target)
{
	session_take_nursery(s, target, drop_block, NULL);
	forget_codes(s, target);
	next_epoch(s, target);
	clear_filter(s);
}

void session_remove(struct session *s, uint32_t target)
{
	struct target_cfg cfg, none = { 0 };
	int fd = bpf_map__fd(s->bpf->maps.targets);

	if (target >= s->max_targets || !s->used[target] || bpf_map_lookup_elem(fd, &target, &cfg))
		return;
	bpf_map_update_elem(fd, &target, &none, BPF_ANY);
	bpf_map_delete_elem(bpf_map__fd(s->bpf->maps.pids), &cfg.tgid);
	s->used[target] = false;
	forget_target(s, target);
}

void session_mute_mappings(struct session *s, uint32_t target)
{
	int fd = bpf_map__fd(s->bpf->maps.targets);
	struct target_cfg cfg;

	if (bpf_map_lookup_elem(fd, &target, &cfg))
		return;
	cfg.no_mappings = 1;
	bpf_map_update_elem(fd, &target, &cfg, BPF_ANY);
}

void session_forget_pid(struct session *s, pid_t pid)
{
	uint32_t tgid = (uint32_t)pid;

	bpf_map_delete_elem(bpf_map__fd(s->bpf->maps.pids), &tgid);
}

static int session_keep(struct session *s, struct bpf_link *link)
{
	if (!link)
		return -errno;
	s->links[s->n_links++] = link;
	return 0;
}

static int attach_tracepoint(struct session *s, struct bpf_program *prog, const char *name)
{
	int fd = kernel_tracepoint_open("syscalls", name), r;

	if (fd < 0)
		return fd;
	r = session_keep(s, bpf_program__attach_perf_event(prog, fd));
	if (r)
		close(fd);
	return r;
}

void session_ignore_mappings(struct session *s)
{
	while (s->n_links)
		bpf_link__destroy(s->links[--s->n_links]);
}

int session_trace_mappings(struct session *s, bool faults, struct err *err)
{
	const struct {
		struct bpf_program *prog;
		const char *name;
	} calls[] = {
		{ s->bpf->progs.leaksnoop_mmap, "sys_exit_mmap" },
		{ s->bpf->progs.leaksnoop_munmap, "sys_exit_munmap" },
		{ s->bpf->progs.leaksnoop_mremap, "sys_exit_mremap" },
		{ s->bpf->progs.leaksnoop_brk, "sys_exit_brk" },
	};
	int r = 0;

	if (s->n_links)
		return err_set(err, -EALREADY, "mappings are followed already");
	for (size_t i = 0; !r && i < sizeof(calls) / sizeof(calls[0]); i++)
		r = attach_tracepoint(s, calls[i].prog, calls[i].name);
	if (!r && faults)
		r = session_keep(s, bpf_program__attach(s->bpf->progs.leaksnoop_fault));
	if (r) {
		/* All or none: half of them would count what is given back, or the other half. */
		session_ignore_mappings(s);
		err_set(err, r, "cannot follow mmap and brk: %s", strerror(-r));
		err_hint(err, "the kernel needs CONFIG_FTRACE_SYSCALLS; 'leaksnoop doctor' tells");
	}
	return r;
}

int session_poll(struct session *s, int timeout_ms)
{
	return ring_buffer__poll(s->ring, timeout_ms);
}

int session_drain(struct session *s)
{
	return ring_buffer__consume(s->ring);
}

int session_epoll_fd(const struct session *s)
{
	return ring_buffer__epoll_fd(s->ring);
}

int session_stats(const struct session *s, uint32_t target, struct target_stats *ret_stats)
{
	int r = bpf_map_lookup_elem(bpf_map__fd(s->bpf->maps.stats), &target, s->cpu_stats);

	if (r)
		return r;
	memset(ret_stats, 0, sizeof(*ret_stats));
	for (int cpu = 0; cpu < s->cpus; cpu++)
		for (int i = 0; i < STAT_COUNT; i++)
			ret_stats->n[i] += s->cpu_stats[cpu].n[i];
	return 0;
}

void session_nursery(const struct session *s, session_block_fn fn, void *ctx)
{
	for (uint32_t i = 0; i < s->nursery_slots; i++) {
		const volatile struct nursery_slot *shared = &s->nursery[i];
		struct nursery_slot slot = { .key = shared->key };

		if (!slot.key || slot.key == NURSERY_BUSY)
			continue;
		slot.size = shared->size;
		slot.stack = shared->stack;
		slot.time_ns = shared->time_ns;
		/* Changed under our eyes: the block left, or is being replaced. */
		if (shared->key != slot.key)
			continue;
		fn(ctx, NURSERY_TARGET(slot.key), NURSERY_ADDR(slot.key), &slot);
	}
}

/* As bpf/nursery.h: who swapped the key to NURSERY_BUSY owns the slot. */
void session_take_nursery(struct session *s, uint32_t target, session_block_fn fn, void *ctx)
{
	for (uint32_t i = 0; i < s->nursery_slots; i++) {
		struct nursery_slot *shared = &s->nursery[i], slot;
		uint64_t key = __atomic_load_n(&shared->key, __ATOMIC_RELAXED);

		if (!key || key == NURSERY_BUSY || NURSERY_TARGET(key) != target)
			continue;
		if (!__atomic_compare_exchange_n(&shared->key, &key, NURSERY_BUSY, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		slot = *shared;
		__atomic_store_n(&shared->key, 0, __ATOMIC_RELEASE);
		fn(ctx, target, NURSERY_ADDR(key), &slot);
	}
}

void session_forget_code(struct session *s, uint32_t target, uint64_t addr)
{
	uint64_t key = (uint64_t)target << CODE_TARGET_SHIFT | addr;

	bpf_map_delete_elem(bpf_map__fd(s->bpf->maps.codes_known), &key);
	next_epoch(s, target);
}

#define STACKS_BATCH 1024

int session_stacks(const struct session *s, session_stack_fn fn, void *ctx)
{
	_cleanup_(freep) uint64_t *keys = calloc(STACKS_BATCH, sizeof(*keys));
	_cleanup_(freep) struct stack_count *counts = calloc(STACKS_BATCH, sizeof(*counts));
	int fd = bpf_map__fd(s->bpf->maps.stacks_seen), r = 0;
	uint64_t position;
	bool first = true;

	if (!keys || !counts)
		return -ENOMEM;
	while (!r) {
		uint32_t n = STACKS_BATCH;

		r = bpf_map_lookup_batch(fd, first ? NULL : &position, &position, keys, counts, &n, NULL);
		if (r && r != -ENOENT)
			return r;
		for (uint32_t i = 0; i < n; i++)
			fn(ctx, keys[i], counts[i].blocks);
		first = false;
	}
	return 0;
}

struct target_windows *session_windows(struct session *s, uint32_t target)
{
	return &s->windows[target];
}

struct watchdog *session_watchdog(struct session *s)
{
	return s->watchdog;
}

bool session_has_multi(const struct session *s)
{
	return s->multi;
}

struct leaksnoop_bpf *session_bpf(struct session *s)
{
	return s->bpf;
}
