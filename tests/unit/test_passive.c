/* SPDX-License-Identifier: MIT */
/*
 * One watched process from outside: real interpreters that keep or drop what they are told to between two readings. Time is given, so that an
 * hour takes a second. The figures of cost are printed, not asserted, but for memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"
#include "diagnose/passive.h"
#include "interp/obmalloc.h"
#include "interp/obmalloc_state.h"
#include "interp/slots_x86.h"
#include "pytarget.h"
#include "target/proc.h"

#define SECOND_NS 1000000000ull
#define KIB 1024.0
#define MIB (1024 * KIB)
#define MANY 50
#define OWN_BYTES_MAX 40960

/* Obeys line by line. */
static const char obedient[] =
	"import sys, os, mmap\n"
	"kept, held, native, n = [], [], [], 0\n"
	"sys.stdout.write('ready\\n'); sys.stdout.flush()\n"
	"while True:\n"
	"    line = sys.stdin.readline()\n"
	"    if not line: break\n"
	"    what, size = line.split(); size = int(size)\n"
	"    if what == 'small': kept.extend([bytes(167) for i in range(size // 208)])\n"
	"    elif what == 'large': kept.extend([bytearray(3000) for i in range(size // 3072)])\n"
	"    elif what == 'native':\n"
	"        native.append(mmap.mmap(-1, max(size, 4096))); native[-1].write(b'x' * max(size, 4096))\n"
	"    elif what == 'hold': held.extend([bytes(167) for i in range(size // 208)])\n"
	"    elif what == 'drop': del held[:]\n"
	"    elif what == 'churn': [bytes(167) for i in range(size // 208)]\n"
	"    elif what == 'sleep': os.execvp('sleep', ['sleep', '60'])\n"
	"    elif what == 'again': os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])\n"
	"    sys.stdout.write('done\\n'); sys.stdout.flush()\n";

struct target {
	struct pytarget py;
	struct process_id id;
	struct passive *passive;
	struct watched w;
	uint64_t now_ns;
	double given;              /* bytes asked for and not yet made, less than one command's worth */
};

/* Longer ones are for nights. */
static bool full(void)
{
	return getenv("LEAKSNOOP_FULL") != NULL;
}

static void start(const struct pyinterp *interp, struct target *t)
{
	struct proc_stat stat;
	struct err err = { 0 };
	char line[64];

	*t = (struct target){ .now_ns = 1000 * SECOND_NS };
	assert_int_equal(pytarget_start(interp, obedient, NULL, &t->py), 0);
	assert_true(pytarget_line(&t->py, line, sizeof(line)));
	assert_int_equal(proc_stat_read(t->py.pid, &stat), 0);
	t->id = (struct process_id){ t->py.pid, stat.start_ticks };
	if (passive_new(t->id, t->now_ns, 42, &t->passive, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
}

static void stop(struct target *t)
{
	passive_free(t->passive);
	pytarget_stop(&t->py);
}

static void say(struct target *t, const char *what, double bytes)
{
	char line[64];

	fprintf(t->py.in, "%s %.0f\n", what, bytes);
	fflush(t->py.in);
	assert_true(pytarget_line(&t->py, line, sizeof(line)));
}

static double seconds_of(const struct target *t)
{
	return (double)(t->now_ns - 1000 * SECOND_NS) / 1e9;
}

static int step(struct target *t, uint64_t may_ns)
{
	t->now_ns = passive_next_ns(t->passive);
	return passive_step(t->passive, t->now_ns, may_ns, &t->w);
}

/* For seconds, the target does what at rate bytes a second; returns when it was first suspicious, INFINITY: never. */
static double run(struct target *t, const char *what, double rate, double seconds)
{
	double begin = seconds_of(t), first = INFINITY, before = begin;

	while (seconds_of(t) < begin + seconds) {
		double next = (double)(passive_next_ns(t->passive) - 1000 * SECOND_NS) / 1e9;

		t->given += (next - before) * rate;
		before = next;
		if (t->given >= 4096) {
			say(t, what, t->given);
			t->given = 0;
		}
		assert_int_equal(step(t, UINT64_MAX), 0);
		if (isinf(first) && passive_suspicion(t->passive) > 0)
			first = next - begin;
	}
	return first;
}

static void each(void (*fn)(const struct pyinterp *interp))
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	assert_true(n > 0);
	for (size_t i = 0; i < n; i++)
		fn(&interps[i]);
}

static void check_fields(const struct pyinterp *interp, const struct target *t)
{
	const struct watched *w = &t->w;
	char minor[16];

	snprintf(minor, sizeof(minor), "3.%d.", interp->minor);
	assert_memory_equal(w->python, minor, strlen(minor));
	assert_true(w->memory.rss_bytes > 4 * MIB);
	assert_true(w->arenas > 0 && w->arena_bytes % w->arenas == 0);
	assert_true(w->live_blocks > 1000 && w->live_bytes > 16 * w->live_blocks && w->live_bytes <= w->arena_bytes);
	assert_true(w->fragmentation >= 0 && w->fragmentation < 1);
	assert_true(w->memory.has_parts);
	assert_true(w->memory.pss_bytes <= w->memory.rss_bytes);
	assert_true(w->memory.explained_ratio > 0.9);
}

/* Idle for hours: never suspected, all fields known, little memory taken. */
static void check_idle(const struct pyinterp *interp)
{
	struct target t;

	start(interp, &t);
	assert_true(isinf(run(&t, "churn", 0, full() ? 86400 : 3600)));
	assert_true(t.w.growth == 0);
	check_fields(interp, &t);
	assert_true(passive_own_bytes(t.passive) < OWN_BYTES_MAX);
	stop(&t);
}

static void test_idle(void **state)
{
	(void)state;
	each(check_idle);
}

/* Small blocks, large ones and memory beside Python: found in time, at about the rate, and quiet when it is over. */
static void check_leaks(const struct pyinterp *interp)
{
	static const struct {
		const char *what;
		double rate, within, least;
	} leaks[] = {
		{ "small", 10 * KIB, 240, 0.5 }, { "small", MIB, 35, 0.5 }, { "native", 10 * KIB, 240, 0.5 }, { "native", MIB, 35, 0.5 },
		{ "large", 10 * KIB, 240, 0.1 }, { "large", MIB, 35, 0.1 },
	};

	for (size_t i = 0; i < sizeof(leaks) / sizeof(leaks[0]); i++) {
		struct target t;
		double first, suspicion;

		start(interp, &t);
		run(&t, "churn", 100 * KIB, 300);
		first = run(&t, leaks[i].what, leaks[i].rate, leaks[i].rate > 100 * KIB ? 40 : 300);
		suspicion = passive_suspicion(t.passive);
		print_message("%s %s %.0f KiB/s: after %.0f s, %.0f KiB/s\n", interp->label, leaks[i].what, leaks[i].rate / KIB, first,
			      suspicion / KIB);
		assert_true(first <= leaks[i].within);
		assert_true(suspicion > leaks[i].least * leaks[i].rate && suspicion < 2 * leaks[i].rate);
		if (i == 0 || full()) {
			run(&t, "churn", 100 * KIB, 2400);
			assert_true(passive_suspicion(t.passive) == 0);
			assert_true(isfinite(t.w.growth) && t.w.growth < 0.1 * leaks[i].rate);
		}
		stop(&t);
	}
}

static void test_leaks(void **state)
{
	(void)state;
	each(check_leaks);
}

/* Held for a while and dropped, again and again; then held for good, which levels off. */
static void check_sawtooth(const struct pyinterp *interp)
{
	struct target t;
	double most = 0;

	start(interp, &t);
	for (int i = 0; i < (full() ? 120 : 30); i++) {
		run(&t, "hold", 200 * KIB, 60);
		if (i >= 15)
			most = fmax(most, passive_suspicion(t.passive));
		say(&t, "drop", 0);
	}
	print_message("%s: most suspicious %.0f B/s\n", interp->label, most);
	assert_true(most < 2 * KIB);
	run(&t, "hold", 10 * KIB, 600);
	run(&t, "churn", 500 * KIB, full() ? 7200 : 1500);
	assert_true(passive_suspicion(t.passive) == 0);
	stop(&t);
}

static void test_sawtooth(void **state)
{
	(void)state;
	each(check_sawtooth);
}

/* What the entries of arenas tell is what the headers of pools tell, the process standing still. */
static void check_pools(const struct pyinterp *interp)
{
	struct obmalloc_totals totals;
	struct obmalloc_pools pools;
	struct python *python;
	struct target t;
	struct err err = { 0 };

	start(interp, &t);
	say(&t, "hold", 3 * MIB);
	say(&t, "drop", 0);
	assert_int_equal(python_open(t.py.pid, &python, &err), 0);
	python_shed(python);
	/* It has answered, but waits for the next word only in a moment. */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(obmalloc_pools(python, &pools), 0);
		assert_int_equal(obmalloc_totals(python, &totals, &err), 0);
		if (pools.used_bytes == totals.pools_used * totals.pool_size)
			break;
		usleep(50000);
	}
	assert_int_equal(pools.arenas, totals.arenas);
	assert_int_equal(pools.arena_bytes, totals.arena_bytes);
	assert_int_equal(pools.used_bytes, totals.pools_used * totals.pool_size);
	if (interp->minor > 8)
		assert_int_equal(pools.raw_blocks, totals.raw_blocks);
	assert_int_equal(pools.refused, 0);
	python_free(python);
	stop(&t);
}

static void test_pools(void **state)
{
	(void)state;
	each(check_pools);
}

/* Nothing is spent that was not allowed: then there is no sheet and no count of blocks, and that is said. */
static void check_not_allowed(const struct pyinterp *interp)
{
	struct target t;

	start(interp, &t);
	while (seconds_of(&t) < 1200)
		assert_int_equal(step(&t, 0), 0);
	assert_false(t.w.memory.has_parts);
	assert_true(t.w.memory.pss_bytes == REPORT_UNKNOWN && isnan(t.w.memory.explained_ratio));
	assert_true(t.w.live_blocks == REPORT_UNKNOWN && isnan(t.w.fragmentation));
	assert_true(t.w.arenas > 0 && t.w.memory.rss_bytes > 4 * MIB);
	stop(&t);
}

static void test_not_allowed(void **state)
{
	(void)state;
	each(check_not_allowed);
}

/* PYTHONMALLOC=malloc: the kernel's counts remain. */
static void test_no_pymalloc(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	struct target t = { .now_ns = 1000 * SECOND_NS };
	struct proc_stat stat;
	struct err err = { 0 };
	char line[64];
	size_t n;

	(void)state;
	assert_int_equal(pytarget_start(&pyinterps(&n)[0], obedient, env, &t.py), 0);
	assert_true(pytarget_line(&t.py, line, sizeof(line)));
	assert_int_equal(proc_stat_read(t.py.pid, &stat), 0);
	t.id = (struct process_id){ t.py.pid, stat.start_ticks };
	assert_int_equal(passive_new(t.id, t.now_ns, 1, &t.passive, &err), 0);
	assert_true(run(&t, "small", 100 * KIB, 400) < 300);
	assert_true(t.w.arenas == REPORT_UNKNOWN && t.w.live_blocks == REPORT_UNKNOWN);
	assert_true(t.w.memory.has_parts);
	stop(&t);
}

/* Killed, exec'ed (another program; Python anew), reaped: gone, at any reading. */
static void check_ends(const struct pyinterp *interp)
{
	static const char *const programs[] = { "sleep 0\n", "again 0\n" };
	struct target t;

	start(interp, &t);
	assert_int_equal(step(&t, UINT64_MAX), 0);
	kill(t.py.pid, SIGKILL);
	while (step(&t, UINT64_MAX) == 0)
		usleep(1000);
	assert_int_equal(step(&t, UINT64_MAX), -ESRCH);
	stop(&t);
	for (size_t i = 0; i < 2; i++) {
		start(interp, &t);
		assert_int_equal(step(&t, UINT64_MAX), 0);
		fputs(programs[i], t.py.in);
		fflush(t.py.in);
		while (step(&t, UINT64_MAX) == 0)
			usleep(1000);
		assert_int_equal(step(&t, UINT64_MAX), -ESRCH);
		kill(t.py.pid, SIGKILL);
		stop(&t);
	}
}

static void test_ends(void **state)
{
	(void)state;
	each(check_ends);
}

/* The PID is there, but the process is another one than was meant; or there is none; or no Python. */
static void test_not_it(void **state)
{
	char *const sleeper[] = { (char *)"sleep", (char *)"60", NULL };
	struct passive *passive;
	struct pytarget other;
	struct proc_stat stat;
	struct err err = { 0 };
	struct target t;
	size_t n;

	(void)state;
	start(pyinterps(&n), &t);
	t.id.start_ticks++;
	assert_int_equal(passive_new(t.id, 1, 1, &passive, &err), -ESRCH);
	stop(&t);
	t.id.start_ticks--;
	assert_int_equal(passive_new(t.id, 1, 1, &passive, &err), -ESRCH);
	assert_int_equal(pytarget_exec(sleeper, NULL, &other), 0);
	do {
		usleep(1000);
		assert_int_equal(proc_stat_read(other.pid, &stat), 0);
	} while (strcmp(stat.comm, "sleep") != 0);
	assert_int_equal(passive_new((struct process_id){ other.pid, stat.start_ticks }, 1, 1, &passive, &err), -ENOEXEC);
	kill(other.pid, SIGKILL);
	pytarget_stop(&other);
}

/* The table of arenas full of anything, of any length, anywhere: readings go on with what makes sense, and end with the process. */
static void check_hostile(const struct pyinterp *interp)
{
	struct obmalloc_state state;
	struct python *python;
	struct err err = { 0 };
	uint64_t chance = 77;
	struct target t;
	char path[40];
	int fd;

	start(interp, &t);
	/* or it would stumble over what is written there itself */
	kill(t.py.pid, SIGSTOP);
	assert_int_equal(waitpid(t.py.pid, NULL, WUNTRACED), t.py.pid);
	assert_int_equal(step(&t, UINT64_MAX), 0);
	assert_int_equal(python_open(t.py.pid, &python, &err), 0);
	assert_int_equal(obmalloc_states(python, &state, 1), 1);
	snprintf(path, sizeof(path), "/proc/%d/mem", t.py.pid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (int i = 0; i < 200; i++) {
		uint64_t words[96];
		size_t size = python->layout.ar_size * 16 < sizeof(words) ? python->layout.ar_size * 16 : sizeof(words);

		assert_int_equal(pread(fd, words, size, (off_t)state.arenas.v), (ssize_t)size);
		for (int k = 0; k < 4; k++) {
			uint64_t *word = &words[random_next(&chance) % (size / 8)];

			*word = random_next(&chance) % 2 ? random_next(&chance) >> (random_next(&chance) % 64) : *word ^ 1ull << random_next(&chance) % 64;
		}
		assert_int_equal(pwrite(fd, words, size, (off_t)state.arenas.v), (ssize_t)size);
		assert_int_equal(step(&t, UINT64_MAX), 0);
		assert_true(isfinite(passive_suspicion(t.passive)));
	}
	/* a table of any length: too long a one is not read, and that costs nothing */
	for (uint32_t length = 1; length; length <<= 1) {
		raddr_t at = python->static_vars ? python->static_vars->maxarenas : raddr_add(state.used, (int64_t)python->layout.ob_maxarenas - python->layout.ob_used);

		assert_int_equal(pwrite(fd, &length, sizeof(length), (off_t)at.v), sizeof(length));
		assert_int_equal(step(&t, UINT64_MAX), 0);
		assert_true(length <= OBMALLOC_POOLS_ENTRIES || t.w.arenas == REPORT_UNKNOWN);
	}
	close(fd);
	python_free(python);
	kill(t.py.pid, SIGKILL);
	stop(&t);
}

static void test_hostile(void **state)
{
	(void)state;
	each(check_hostile);
}

static double used_by_malloc(void)
{
	struct mallinfo2 info = mallinfo2();

	return (double)info.uordblks + (double)info.hblkhd;
}

static double cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static size_t descriptors(void)
{
	size_t n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Many watched at once, each read a hundred times: bytes and descriptors, and what a reading costs. */
static void check_memory(const struct pyinterp *interp)
{
	struct passive *many[MANY];
	struct target t;
	struct err err = { 0 };
	struct watched w;
	double bytes, opened, began;
	size_t fds;

	start(interp, &t);
	say(&t, "hold", 20 * MIB);
	assert_int_equal(step(&t, UINT64_MAX), 0);
	fds = descriptors();
	bytes = used_by_malloc();
	began = cpu_us();
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(passive_new(t.id, t.now_ns, i, &many[i], &err), 0);
	opened = (cpu_us() - began) / MANY;
	for (size_t i = 0; i < MANY; i++)
		assert_int_equal(passive_step(many[i], t.now_ns + 100 * SECOND_NS, UINT64_MAX, &w), 0);
	began = cpu_us();
	for (size_t i = 0; i < 100 * MANY; i++)
		assert_int_equal(passive_step(many[i % MANY], t.now_ns + (110 + i) * SECOND_NS, 0, &w), 0);
	began = (cpu_us() - began) / (100 * MANY);
	bytes = (used_by_malloc() - bytes) / MANY;
	print_message("%s: open %.0f us, reading %.1f us, %.0f bytes each (said: %zu)\n", interp->label, opened, began, bytes,
		      (size_t)passive_own_bytes(many[0]));
	/* a sanitizer's malloc does not count */
	assert_true(bytes < OWN_BYTES_MAX && (bytes == 0 || fabs(bytes - (double)passive_own_bytes(many[0])) < 1024));
	assert_int_equal(descriptors(), fds + 2 * MANY);
	for (size_t i = 0; i < MANY; i++)
		passive_free(many[i]);
	assert_int_equal(descriptors(), fds);
	stop(&t);
}

static void test_memory(void **state)
{
	(void)state;
	each(check_memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_sawtooth),
		cmocka_unit_test(test_pools),
		cmocka_unit_test(test_not_allowed),
		cmocka_unit_test(test_no_pymalloc),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_not_it),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
