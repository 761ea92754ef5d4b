/* SPDX-License-Identifier: MIT */
/*
 * Arming real interpreters: they compute on, whatever happens to them or to
 * the tracer meanwhile, and at the end their slots hold functions again.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "interp/ref_tracer.h"
#include "pytarget.h"
#include "trace/arm.h"
#include "trace/tracee.h"

/* Takes one command a line and answers with one. */
static const char program[] =
	"import os, signal, sys, tracemalloc\n"
	"signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
	"def work():\n"
	"    d = {}\n"
	"    for i in range(3000):\n"
	"        d[str(i)] = [i, float(i), (i, i), bytes(i), bytearray(8)]\n"
	"        d[str(i)][4] += bytes(i)\n"
	"    return sum(len(k) + len(v[3]) + len(v[4]) for k, v in d.items())\n"
	"def fork():\n"
	"    child = os.fork()\n"
	"    if not child:\n"
	"        signal.sigwait({signal.SIGUSR1})\n"
	"        os._exit(0 if work() == work() == 9031890 else 1)\n"
	"    return child\n"
	"commands = {'work': work, 'fork': fork, 'wait': lambda: os.wait()[1],\n"
	"    'trace': lambda: tracemalloc.start() or 'ok', 'stop': lambda: tracemalloc.stop() or 'ok',\n"
	"    'exec': lambda: os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], sys.argv[1]])}\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    print(commands[line.strip()](), flush=True)\n";

#define WORK "9031890"

struct armed {
	const char *label;
	struct pytarget target;
	struct python *python;
	struct slots slots;
	struct arming *arming;
	size_t noted;
	uint64_t aliases[TRACEE_PROBES_MAX + 1];
};

static void ask(struct armed *a, const char *command, char *answer, size_t size)
{
	fprintf(a->target.in, "%s\n", command);
	fflush(a->target.in);
	if (!pytarget_line(&a->target, answer, size))
		fail_msg("%s: no answer to '%s'", a->label, command);
}

static void expect_answer(struct armed *a, const char *command, const char *want)
{
	char answer[64];

	ask(a, command, answer, sizeof(answer));
	if (strcmp(answer, want))
		fail_msg("%s: '%s' gave %s, not %s", a->label, command, answer, want);
}

static void look(struct armed *a)
{
	struct err err = { 0 };

	if (python_open(a->target.pid, &a->python, &err) < 0 || slots_read(a->python, &a->slots, &err) < 0)
		fail_msg("%s: %s", a->label, err.what);
}

static void note_ref_tracer(struct armed *a)
{
	struct site site;

	if (!a->slots.ref_tracer.addr.v)
		return;
	assert_int_equal(ref_tracer_site(a->python, SITE_MASK_LINUX_6_18, &site), 0);
	assert_int_equal(arming_add_empty(a->arming, a->slots.ref_tracer.addr, site.addr), 0);
	a->aliases[a->noted++] = site.addr.v;
}

/* As a tracee does. */
static void note_slots(struct armed *a)
{
	struct tracee_probe probes[TRACEE_PROBES_MAX];
	size_t n = tracee_choose_probes(a->python, &a->slots, SITE_MASK_LINUX_6_18, probes);

	for (size_t i = 0; i < n; i++) {
		for (int d = 0; d < DOMAIN_COUNT; d++) {
			if (!probes[i].alias || !(probes[i].domains & (1u << d)))
				continue;
			assert_int_equal(arming_add(a->arming, a->slots.table[d], probes[i].fn, probes[i].function, probes[i].site.addr), 0);
			a->aliases[a->noted++] = probes[i].site.addr.v;
		}
	}
	assert_true(a->noted > 0);
	note_ref_tracer(a);
}

static void start(const struct pyinterp *interp, struct armed *a)
{
	char *argv[PYINTERP_ARGS + 4], line[16];
	size_t n = 0;
	struct err err = { 0 };

	memset(a, 0, sizeof(*a));
	a->label = interp->label;
	for (; interp->argv[n]; n++)
		argv[n] = interp->argv[n];
	argv[n++] = (char *)(uintptr_t)"-c";
	argv[n++] = (char *)(uintptr_t)program;
	argv[n++] = (char *)(uintptr_t)program;
	argv[n] = NULL;
	assert_int_equal(pytarget_exec(argv, NULL, &a->target), 0);
	assert_true(pytarget_line(&a->target, line, sizeof(line)));
	look(a);
	if (arming_new(a->target.pid, &a->arming, &err) < 0)
		fail_msg("%s: %s", a->label, err.what);
	note_slots(a);
}

static void arm(struct armed *a)
{
	struct err err = { 0 };

	if (arming_arm(a->arming, &err) < 0)
		fail_msg("%s: %s", a->label, err.what);
	assert_true(arming_is_armed(a->arming));
}

static size_t count_armed(struct armed *a)
{
	struct slots now;
	struct err err = { 0 };
	size_t armed;

	if (slots_read(a->python, &now, &err) < 0)
		fail_msg("%s: %s", a->label, err.what);
	armed = now.ref_tracer.armed;
	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT; f++)
			armed += now.fn[d][f].armed;
	return armed;
}

/* Words of the interpreter's static data that are an alias. */
static size_t count_aliases(struct armed *a)
{
	uint64_t at = a->slots.table[DOMAIN_OBJ].v, words[512];
	const struct maps *maps = python_maps(a->python);
	const struct map *map = maps_at(maps, at);
	size_t found = 0;

	assert_non_null(map);
	while (maps_at(maps, map->start - 1) && maps_at(maps, map->start - 1)->write)
		map = maps_at(maps, map->start - 1);
	for (; map && map->write && map->path[0] != '['; map = maps_at(maps, map->end)) {
		for (at = map->start; at < map->end; at += sizeof(words)) {
			if (rmem_read(python_rmem(a->python), RADDR(at), words, sizeof(words)))
				continue;
			for (size_t i = 0; i < 512; i++)
				for (size_t k = 0; k < a->noted; k++)
					found += words[i] == a->aliases[k];
		}
	}
	return found;
}

/* Each slot as it was at the start, and no alias left anywhere. */
static void expect_restored(struct armed *a)
{
	struct slots now;
	struct err err = { 0 };

	if (slots_read(a->python, &now, &err) < 0)
		fail_msg("%s: %s", a->label, err.what);
	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT; f++)
			if (!raddr_eq(now.fn[d][f].value, a->slots.fn[d][f].function))
				fail_msg("%s: slot %d of domain %d is not restored", a->label, f, d);
	/* Early 3.13 leaves tracemalloc's there when tracemalloc stops. */
	if (now.ref_tracer.armed)
		fail_msg("%s: the reference tracer's slot is not restored", a->label);
	if (count_aliases(a))
		fail_msg("%s: an alias is left", a->label);
}

static void finish(struct armed *a)
{
	arming_free(a->arming);
	python_free(a->python);
	pytarget_stop(&a->target);
}

static void for_each(void (*check)(const struct pyinterp *))
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	for (size_t i = 0; i < n; i++)
		check(&interps[i]);
}

static void check_round_trip(const struct pyinterp *interp)
{
	struct armed a;

	start(interp, &a);
	print_message("%s: %zu slots have an alias\n", a.label, a.noted);
	assert_false(arming_is_armed(a.arming));
	for (int i = 0; i < 5; i++) {
		arm(&a);
		assert_int_equal(count_armed(&a), a.noted);
		assert_int_equal(arming_count_lost(a.arming), 0);
		/* Armed already is no error. */
		arm(&a);
		expect_answer(&a, "work", WORK);
		assert_int_equal(arming_disarm(a.arming), 0);
		assert_false(arming_is_armed(a.arming));
		expect_restored(&a);
		expect_answer(&a, "work", WORK);
	}
	assert_int_equal(arming_disarm(a.arming), 0);
	finish(&a);
}

static void test_round_trip(void **state)
{
	(void)state;
	for_each(check_round_trip);
	arming_free(NULL);
}

/* Slots change a thousand times under a program that allocates. */
static void check_busy(const struct pyinterp *interp)
{
	struct armed a;
	char answer[64];

	start(interp, &a);
	for (int i = 0; i < 10; i++)
		fprintf(a.target.in, "work\n");
	fflush(a.target.in);
	for (int i = 0; i < 1000; i++) {
		arm(&a);
		usleep(100);
		assert_int_equal(arming_disarm(a.arming), 0);
	}
	for (int i = 0; i < 10; i++) {
		assert_true(pytarget_line(&a.target, answer, sizeof(answer)));
		assert_string_equal(answer, WORK);
	}
	expect_restored(&a);
	finish(&a);
}

static void test_busy(void **state)
{
	(void)state;
	for_each(check_busy);
}

/* What cannot be an alias is refused before anything is written; a slot that holds something else is left as it is. */
static void check_refusals(const struct pyinterp *interp)
{
	struct armed a;
	raddr_t table, fn;
	struct err err = { 0 };

	start(interp, &a);
	table = a.slots.table[DOMAIN_OBJ];
	fn = a.slots.fn[DOMAIN_OBJ][FN_MALLOC].function;
	assert_int_equal(arming_add(a.arming, raddr_add(table, 4), FN_MALLOC, fn, raddr_add(fn, -1)), -EINVAL);
	assert_int_equal(arming_add(a.arming, table, FN_MALLOC, fn, fn), -EINVAL);
	assert_int_equal(arming_add(a.arming, table, FN_MALLOC, fn, raddr_add(fn, 1)), -EINVAL);
	assert_int_equal(arming_add(a.arming, table, FN_MALLOC, fn, raddr_add(fn, -9)), -EINVAL);
	assert_int_equal(arming_add_empty(a.arming, raddr_add(table, 4), raddr_add(fn, -1)), -EINVAL);
	assert_int_equal(arming_add_empty(a.arming, table, RADDR_NULL), -EINVAL);
	/* The last one noted has another function than its slot. */
	assert_int_equal(arming_add(a.arming, table, FN_FREE, raddr_add(fn, 0x1000), raddr_add(fn, 0xfff)), 0);
	assert_int_equal(arming_arm(a.arming, &err), -ESTALE);
	assert_true(err.what[0] && err.hint[0]);
	assert_false(arming_is_armed(a.arming));
	expect_restored(&a);
	expect_answer(&a, "work", WORK);
	finish(&a);
}

static void test_refusals(void **state)
{
	size_t n;

	(void)state;
	check_refusals(pyinterps(&n));
}

/* A child of ours arms the target and is killed with it armed. */
static void arm_and_die(struct armed *a)
{
	int ready[2];
	pid_t tracer;
	char c;

	assert_int_equal(pipe(ready), 0);
	tracer = fork();
	if (tracer == 0) {
		struct err err;

		c = arming_arm(a->arming, &err) == 0 ? 'y' : 'n';
		if (write(ready[1], &c, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	kill(tracer, SIGKILL);
	assert_int_equal(waitpid(tracer, NULL, 0), tracer);
	close(ready[0]);
	close(ready[1]);
}

static void check_killed_tracer(const struct pyinterp *interp)
{
	struct armed a;
	struct slots left;
	struct err err = { 0 };

	start(interp, &a);
	arm_and_die(&a);
	assert_int_equal(count_armed(&a), a.noted);
	expect_answer(&a, "work", WORK);
	assert_int_equal(slots_read(a.python, &left, &err), 0);
	assert_int_equal(arming_restore_left(a.target.pid, &left, &err), a.noted);
	expect_restored(&a);
	/* Once more with what was found before: nothing is written over what stands there now. */
	assert_int_equal(arming_restore_left(a.target.pid, &left, &err), 0);
	expect_restored(&a);
	expect_answer(&a, "work", WORK);
	finish(&a);
}

static void test_killed_tracer(void **state)
{
	(void)state;
	for_each(check_killed_tracer);
}

/* tracemalloc saves what stands in the slots when it starts, and puts it back when it stops. */
static void check_tracemalloc(const struct pyinterp *interp)
{
	struct armed a;
	struct err err = { 0 };

	start(interp, &a);
	arm(&a);
	expect_answer(&a, "trace", "ok");
	assert_true(arming_count_lost(a.arming) > 0);
	expect_answer(&a, "work", WORK);
	assert_int_equal(arming_disarm(a.arming), 0);
	if (count_aliases(&a))
		fail_msg("%s: tracemalloc keeps an alias", a.label);
	expect_answer(&a, "work", WORK);
	expect_answer(&a, "stop", "ok");
	expect_restored(&a);
	/* The other order: stopped while armed. */
	arm(&a);
	expect_answer(&a, "trace", "ok");
	expect_answer(&a, "stop", "ok");
	assert_int_equal(arming_count_lost(a.arming), 0);
	assert_int_equal(arming_disarm(a.arming), 0);
	assert_int_equal(count_armed(&a), 0);
	expect_answer(&a, "work", WORK);
	/* And with hooks laid before: the slots are not ours to arm. */
	expect_answer(&a, "trace", "ok");
	assert_int_equal(arming_arm(a.arming, &err), -ESTALE);
	assert_non_null(strstr(err.hint, "tracemalloc"));
	expect_answer(&a, "stop", "ok");
	expect_restored(&a);
	finish(&a);
}

static void test_tracemalloc(void **state)
{
	(void)state;
	for_each(check_tracemalloc);
}

/* A fork copies the slots armed, hooks and all. */
static void check_fork(const struct pyinterp *interp, bool hooked)
{
	struct armed a, child = { 0 };
	char answer[64];

	start(interp, &a);
	arm(&a);
	if (hooked)
		expect_answer(&a, "trace", "ok");
	ask(&a, "fork", answer, sizeof(answer));
	child.label = a.label;
	child.target.pid = atoi(answer);
	assert_true(child.target.pid > 0);
	look(&child);
	memcpy(child.aliases, a.aliases, sizeof(a.aliases));
	child.noted = a.noted;
	assert_int_equal(count_aliases(&child), count_aliases(&a));
	assert_int_equal(arming_disarm_child(a.arming, child.target.pid), 0);
	assert_int_equal(count_aliases(&child), 0);
	assert_int_equal(count_armed(&child), 0);
	kill(child.target.pid, SIGUSR1);
	expect_answer(&a, "wait", "0");
	/* The parent stayed as it was. */
	assert_true(count_aliases(&a) >= a.noted - (hooked && a.slots.ref_tracer.addr.v));
	expect_answer(&a, "work", WORK);
	assert_int_equal(arming_disarm(a.arming), 0);
	if (hooked)
		expect_answer(&a, "stop", "ok");
	expect_restored(&a);
	assert_int_equal(arming_disarm_child(a.arming, child.target.pid), -ESRCH);
	python_free(child.python);
	finish(&a);
}

static void check_forks(const struct pyinterp *interp)
{
	check_fork(interp, false);
	check_fork(interp, true);
}

static void test_fork(void **state)
{
	(void)state;
	for_each(check_forks);
}

/* The descriptor belongs to the address space that was armed, and that is gone: the new program is not touched. */
static void check_exec(const struct pyinterp *interp)
{
	struct armed a;
	struct err err = { 0 };

	start(interp, &a);
	arm(&a);
	expect_answer(&a, "exec", "ready");
	assert_int_equal(arming_disarm(a.arming), -ESRCH);
	assert_int_equal(arming_arm(a.arming, &err), -ESRCH);
	assert_int_equal(arming_count_lost(a.arming), 0);
	python_free(a.python);
	look(&a);
	assert_int_equal(count_armed(&a), 0);
	expect_answer(&a, "work", WORK);
	finish(&a);
}

static void test_exec(void **state)
{
	(void)state;
	for_each(check_exec);
}

static void check_exit(const struct pyinterp *interp)
{
	struct armed a;
	struct arming *late = NULL;
	struct err err = { 0 };
	pid_t pid;

	start(interp, &a);
	pid = a.target.pid;
	arm(&a);
	kill(pid, SIGKILL);
	pytarget_stop(&a.target);
	assert_int_equal(arming_disarm(a.arming), -ESRCH);
	assert_int_equal(arming_arm(a.arming, &err), -ESRCH);
	assert_int_equal(arming_disarm_child(a.arming, pid), -ESRCH);
	assert_int_equal(arming_count_lost(a.arming), 0);
	assert_int_equal(arming_restore_left(pid, &a.slots, &err), -ESRCH);
	assert_int_equal(arming_new(pid, &late, &err), -ESRCH);
	assert_null(late);
	arming_free(a.arming);
	python_free(a.python);
}

static void test_exit(void **state)
{
	(void)state;
	for_each(check_exit);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_killed_tracer),
		cmocka_unit_test(test_tracemalloc),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_exit),
	};

	/* Without slots to arm, a process that has ended must not end us. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
