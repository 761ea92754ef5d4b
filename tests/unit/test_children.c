/* SPDX-License-Identifier: MIT */
/* A process that forks while its slots are armed, and children that swap the slots' values as CPython's do after a fork. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "trace/children.h"

#define FUNCTION 0x401010u
#define ALIAS (FUNCTION - 4)

/* PyMemAllocatorEx: ctx, malloc, calloc, realloc, free */
static volatile uint64_t table[5] __attribute__((aligned(8)));

struct child {
	pid_t pid;
	int go, said;
};

static void say(int fd)
{
	if (write(fd, "x", 1) != 1)
		_exit(1);
}

static void hear(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(1);
}

/* Puts the functions into its table, waits, and puts back what it found. */
static void swap(int go, int said)
{
	uint64_t before[5];

	for (int i = 1; i < 5; i++) {
		before[i] = table[i];
		table[i] = FUNCTION;
	}
	say(said);
	hear(go);
	for (int i = 1; i < 5; i++)
		table[i] = before[i];
	say(said);
	hear(go);
	_exit(0);
}

static struct child fork_child(void)
{
	struct child c;
	int go[2], said[2];

	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(said), 0);
	c.pid = fork();
	if (!c.pid)
		swap(go[0], said[1]);
	close(go[0]);
	close(said[1]);
	c.go = go[1];
	c.said = said[0];
	hear(c.said);
	return c;
}

static int armed_slots(pid_t pid)
{
	uint64_t values[5];
	struct iovec local = { values, sizeof(values) }, remote = { (void *)(uintptr_t)table, sizeof(values) };
	int armed = 0;

	assert_int_equal(process_vm_readv(pid, &local, 1, &remote, 1, 0), sizeof(values));
	for (int i = 1; i < 5; i++)
		armed += values[i] == ALIAS;
	return armed;
}

static void end_child(struct child *c)
{
	close(c->go);
	close(c->said);
	kill(c->pid, SIGKILL);
	assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
}

static struct arming *arm(void)
{
	struct arming *arming = NULL;
	struct err err = { 0 };

	assert_int_equal(arming_new(getpid(), &arming, &err), 0);
	for (int i = 0; i < FN_COUNT; i++) {
		table[1 + i] = FUNCTION;
		assert_int_equal(arming_add(arming, RADDR((uintptr_t)table), (enum alloc_function)i, RADDR(FUNCTION), RADDR(ALIAS)), 0);
	}
	assert_int_equal(arming_arm(arming, &err), 0);
	assert_int_equal(armed_slots(getpid()), FN_COUNT);
	return arming;
}

/* What a child puts back after it was restored is restored once it has settled, and not before. */
static void test_swap(void **state)
{
	struct arming *arming[WINDOW_GROUP_COUNT] = { arm() };
	struct children children = { 0 };
	struct child c = fork_child();

	(void)state;
	children_add(&children, arming, c.pid, 1000);
	assert_int_equal(armed_slots(c.pid), 0);
	say(c.go);
	hear(c.said);
	assert_int_equal(armed_slots(c.pid), FN_COUNT);
	children_settle(&children, arming, 1000 + CHILDREN_SETTLE_NS - 1);
	assert_int_equal(armed_slots(c.pid), FN_COUNT);
	children_settle(&children, arming, 1000 + CHILDREN_SETTLE_NS);
	assert_int_equal(armed_slots(c.pid), 0);
	assert_int_equal(children.count, 0);
	end_child(&c);
	/* the parent's own slots are nobody's business here */
	assert_int_equal(armed_slots(getpid()), FN_COUNT);
	arming_disarm(arming[0]);
	arming_free(arming[0]);
}

/* More than are remembered: the oldest are restored early. Those that are gone are passed over. */
static void test_many(void **state)
{
	struct arming *arming[WINDOW_GROUP_COUNT] = { arm() };
	struct children children = { 0 };
	struct child first = fork_child(), last;

	(void)state;
	children_add(&children, arming, first.pid, 1000);
	say(first.go);
	hear(first.said);
	for (size_t i = 0; i < CHILDREN_MAX; i++) {
		struct child c = fork_child();

		children_add(&children, arming, c.pid, 1001 + i);
		end_child(&c);
	}
	assert_int_equal(armed_slots(first.pid), 0);
	assert_int_equal(children.count, CHILDREN_MAX);
	last = fork_child();
	children_add(&children, arming, last.pid, 5000);
	say(last.go);
	hear(last.said);
	children_settle(&children, arming, UINT64_MAX);
	assert_int_equal(armed_slots(last.pid), 0);
	assert_int_equal(children.count, 0);
	end_child(&first);
	end_child(&last);
	arming_disarm(arming[0]);
	arming_free(arming[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_swap),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
