/* SPDX-License-Identifier: MIT */
/* The kernel side loaded: nothing seen without targets, indices claimed and given back, mappings of a process of our own. Needs root. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "trace/session.h"

static const struct session_options small = { .max_targets = 2, .ring_bytes = 65536, .nursery_slots = 1024 };

struct events {
	uint64_t n[EVENT_KIND_COUNT];
	uint64_t mapped, unmapped;   /* bytes at want */
	uint64_t want;
	uint32_t target;
	int stop;                    /* what to answer */
};

static int on_event(void *ctx, const void *data, size_t size)
{
	const struct event_hdr *hdr = data;
	const struct event_map *map = data;
	const struct event_block *block = data;
	struct events *e = ctx;

	assert_true(size >= sizeof(*hdr) && hdr->kind < EVENT_KIND_COUNT);
	e->n[hdr->kind]++;
	e->target = hdr->target;
	if (hdr->kind == EVENT_MMAP && map->addr == e->want)
		e->mapped += map->size;
	if (hdr->kind == EVENT_MUNMAP && block->addr == e->want)
		e->unmapped += block->size;
	return e->stop;
}

static struct session *new_session(const struct session_options *options, struct events *events)
{
	struct session *s = NULL;
	struct err err = { 0 };

	if (session_new(options, on_event, events, &s, &err) < 0)
		fail_msg("%s", err.what);
	return s;
}

static void fail_block(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot)
{
	(void)ctx;
	(void)slot;
	fail_msg("a block at 0x%llx of target %u in an empty nursery", (unsigned long long)addr, target);
}

static void test_empty(void **state)
{
	struct events events = { { 0 } };
	_cleanup_(session_freep) struct session *s = new_session(&small, &events);
	struct target_stats stats;

	(void)state;
	for (uint32_t target = 0; target < 2; target++) {
		memset(&stats, 0xff, sizeof(stats));
		assert_int_equal(session_stats(s, target, &stats), 0);
		for (int i = 0; i < STAT_COUNT; i++)
			assert_int_equal(stats.n[i], 0);
	}
	assert_true(session_stats(s, 2, &stats) < 0);
	session_nursery(s, fail_block, NULL);
	assert_int_equal(session_drain(s), 0);
	assert_int_equal(session_poll(s, 0), 0);
	assert_true(session_epoll_fd(s) >= 0);
	assert_non_null(session_bpf(s));
	session_free(NULL);
}

static void test_options(void **state)
{
	static const struct session_options bad[] = {
		{ .max_targets = 0, .ring_bytes = 65536, .nursery_slots = 1024 },
		{ .max_targets = MAX_TARGETS + 1, .ring_bytes = 65536, .nursery_slots = 1024 },
		{ .max_targets = 1, .ring_bytes = 65536, .nursery_slots = 0 },
		{ .max_targets = 1, .ring_bytes = 65536, .nursery_slots = 1000 },
	};
	/* Odd sizes are rounded up. */
	struct session_options odd = { .max_targets = MAX_TARGETS, .ring_bytes = 65537, .nursery_slots = 1 };
	struct events events = { { 0 } };
	struct session *s = NULL;
	struct err err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(session_new(&bad[i], on_event, &events, &s, &err), -EINVAL);
		assert_null(s);
	}
	s = new_session(&odd, &events);
	session_free(s);
}

static void test_targets(void **state)
{
	struct events events = { { 0 } };
	_cleanup_(session_freep) struct session *s = new_session(&small, &events);
	struct target_cfg cfg = { .tgid = 1u << 30 };
	struct err err = { 0 };
	uint32_t target = 99;

	(void)state;
	for (uint32_t round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < 2; i++) {
			cfg.tgid++;
			assert_int_equal(session_add(s, &cfg, &target, &err), 0);
			assert_int_equal(target, i);
		}
		target = 99;
		assert_int_equal(session_add(s, &cfg, &target, &err), -ENOSPC);
		assert_int_equal(target, 99);
		assert_true(err.what[0]);
		session_remove(s, 0);
		session_remove(s, 0);
		assert_int_equal(session_add(s, &cfg, &target, &err), 0);
		assert_int_equal(target, 0);
		session_remove(s, 0);
		session_remove(s, 1);
	}
	session_remove(s, UINT32_MAX);
	session_forget_pid(s, 1);
}

/* Ourselves as a target: no Python, but an address space and children. */
static void test_mappings(void **state)
{
	struct events events = { { 0 } };
	_cleanup_(session_freep) struct session *s = new_session(&small, &events);
	struct target_cfg cfg = { .tgid = (uint32_t)getpid() };
	struct target_stats stats;
	struct err err = { 0 };
	uint32_t target;
	void *p;

	(void)state;
	if (session_trace_mappings(s, false, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(session_trace_mappings(s, false, &err), -EALREADY);
	/* Before we are a target nothing is told. */
	p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	events.want = (uint64_t)(uintptr_t)p;
	munmap(p, 8192);
	assert_true(session_drain(s) >= 0);
	assert_int_equal(events.n[EVENT_MMAP] + events.n[EVENT_MUNMAP], 0);
	assert_int_equal(session_add(s, &cfg, &target, &err), 0);
	p = mmap(p, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	munmap(p, 8192);
	assert_true(session_drain(s) >= 2);
	assert_int_equal(events.mapped, 8192);
	assert_int_equal(events.unmapped, 8192);
	assert_int_equal(events.target, target);
	/* Without a thread state there is no stack: counted. */
	assert_int_equal(session_stats(s, target, &stats), 0);
	assert_true(stats.n[STAT_NO_TSTATE] > 0);
	/* The index given to another begins at zero, and we are out. */
	session_remove(s, target);
	cfg.tgid = 1u << 30;
	assert_int_equal(session_add(s, &cfg, &target, &err), 0);
	assert_int_equal(session_stats(s, target, &stats), 0);
	assert_int_equal(stats.n[STAT_NO_TSTATE], 0);
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(p, 4096);
	assert_int_equal(session_drain(s), 0);
}

static void test_children(void **state)
{
	struct events events = { { 0 } };
	_cleanup_(session_freep) struct session *s = new_session(&small, &events);
	struct target_cfg cfg = { .tgid = (uint32_t)getpid() };
	uint32_t target;
	pid_t pid;

	(void)state;
	assert_int_equal(session_add(s, &cfg, &target, NULL), 0);
	pid = fork();
	if (pid == 0)
		_exit(3);
	waitpid(pid, NULL, 0);
	assert_true(session_poll(s, 1000) > 0);
	assert_int_equal(events.n[EVENT_FORK], 1);
	assert_int_equal(events.n[EVENT_EXIT], 1);
	/* A negative answer ends the delivery, and comes back. */
	events.stop = -ENOMEM;
	pid = fork();
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(session_drain(s), -ENOMEM);
}

static void test_unprivileged(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct events events = { { 0 } };
		struct session *s = NULL;
		struct err err = { 0 };

		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(session_new(&small, on_event, &events, &s, &err) == -EPERM && !s && strstr(err.hint, "root") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_mappings),
		cmocka_unit_test(test_children),
		cmocka_unit_test(test_unprivileged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
