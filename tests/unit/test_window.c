/* SPDX-License-Identifier: MIT */
/*
 * Windows of a real interpreter with the real programs behind its slots: what they cost and see, a caller that is late, hooks laid over the
 * slots, a target that goes. And the weight of things in a window, in simulation. Needs root.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "pytarget.h"
#include "random.h"
#include "trace/kernel.h"
#include "trace/session.h"
#include "trace/tracee.h"
#include "trace/watchdog.h"
#include "trace/window.h"

#define MS 1000000ull
#define BUDGET 0.02

static const char worker[] =
	"import sys, threading, tracemalloc\n"
	"def work():\n"
	"    while True:\n"
	"        sum(len(str(i) * 3) for i in range(2000))\n"
	"threading.Thread(target=work, daemon=True).start()\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin:\n"
	"    if line == 'trace\\n': tracemalloc.start()\n"
	"    if line == 'stop\\n': tracemalloc.stop()\n"
	"    print('ok', sum(len(str(i) * 3) for i in range(20000)), flush=True)\n";

/* Blocks of 1,533 and 2,400 bytes that are new, and of 4,800 and some that take the place of those of 2,400. */
static const char movers[] =
	"import array, sys, threading, time\n"
	"def work():\n"
	"    while True:\n"
	"        tables = [array.array('q', [7]) * 300 for _ in range(40)]\n"
	"        for table in tables: table.extend(table)\n"
	"        texts = [bytes(1500) for _ in range(40)]\n"
	"        time.sleep(0.001)\n"
	"threading.Thread(target=work, daemon=True).start()\n"
	"print('ready', flush=True)\n"
	"for line in sys.stdin: print('ok 266670', flush=True)\n";

struct traced {
	struct pytarget target;
	struct session *session;
	struct tracee *tracee;
	struct seen_large {
		uint64_t texts, moved, wrong;
	} large;
	/* of the windows closed */
	uint64_t count[WINDOW_GROUP_COUNT], hits[WINDOW_GROUP_COUNT], last_end_ns[WINDOW_GROUP_COUNT];
	double overhead_s, armed_s, stands_for_s;
	struct window_record last;
};

static uint64_t now(void)
{
	return clock_mono_ns(&clock_real);
}

/* flags: EVENT_F_* */
static void see_large(struct seen_large *seen, uint64_t size, uint32_t flags)
{
	bool moved = flags & EVENT_F_REALLOC;

	if (!(flags & EVENT_F_LARGE))
		seen->wrong += moved;
	else if (size >= 4800 && size < 6000)
		*(moved ? &seen->moved : &seen->wrong) += 1;
	else if (size == 2400)
		seen->wrong += moved;
	else if (size == 1533)
		*(moved ? &seen->wrong : &seen->texts) += 1;
}

static void see_young(void *ctx, uint32_t target, uint64_t addr, const struct nursery_slot *slot)
{
	(void)target;
	(void)addr;
	see_large(ctx, NURSERY_SIZE(slot->size), NURSERY_FLAGS(slot->size));
}

static int on_event(void *ctx, const void *data, size_t size)
{
	const struct event_alloc *e = data;
	struct traced *t = ctx;

	if (e->hdr.kind == EVENT_ALLOC && size >= sizeof(*e))
		see_large(&t->large, e->size, e->hdr.flags);
	return 0;
}

static void start(struct traced *t, const char *program)
{
	struct session_options session = { .max_targets = 1, .ring_bytes = 1 << 20, .nursery_slots = SESSION_NURSERY_SLOTS_SAMPLED, .sampled = true };
	struct tracee_options tracee = { .mode = TRACE_SAMPLED, .budget = BUDGET, .max_frames = 10, .emulated = kernel_emulated() };
	struct err err = { 0 };
	char line[64];
	size_t n;

	memset(t, 0, sizeof(*t));
	assert_int_equal(pytarget_start(pyinterps(&n), program, NULL, &t->target), 0);
	assert_true(pytarget_line(&t->target, line, sizeof(line)));
	if (session_new(&session, on_event, t, &t->session, &err) || tracee_new(t->target.pid, &tracee, &t->tracee, &err) ||
	    tracee_start(t->tracee, t->session, &err))
		fail_msg("%s", err.what);
	assert_non_null(tracee_windows(t->tracee));
}

static void finish(struct traced *t)
{
	tracee_free(t->tracee);
	session_free(t->session);
	pytarget_stop(&t->target);
}

static size_t count_armed(struct traced *t)
{
	struct slots slots;
	struct err err = { 0 };
	size_t armed = 0;

	if (slots_read(tracee_python(t->tracee), &slots, &err))
		fail_msg("%s", err.what);
	for (int d = 0; d < DOMAIN_COUNT; d++)
		for (int f = 0; f < FN_COUNT; f++)
			armed += slots.fn[d][f].armed;
	return armed;
}

static void tell(struct traced *t, const char *what)
{
	char answer[64];

	fprintf(t->target.in, "%s\n", what);
	fflush(t->target.in);
	assert_true(pytarget_line(&t->target, answer, sizeof(answer)));
	assert_string_equal(answer, "ok 266670");
}

static void on_close(void *ctx, const struct window_record *r)
{
	struct traced *t = ctx;

	assert_true(r->group == WINDOW_SMALL || r->group == WINDOW_LARGE);
	assert_int_equal(r->index, t->count[r->group]++);
	assert_true(r->start_ns >= t->last_end_ns[r->group] && r->end_ns <= now());
	t->last_end_ns[r->group] = r->end_ns;
	assert_true(r->idle >= 0 && r->idle <= 1 && r->overhead_ns >= 0 && r->cycle_ns > 0);
	assert_true(window_weight(r, r->start_ns) >= 1 && window_weight(r, r->end_ns) >= 1);
	assert_true(window_weight(r, r->end_ns) >= window_weight(r, r->start_ns));
	assert_true(isfinite(window_weight(r, 0)) && isfinite(window_weight(r, UINT64_MAX)));
	t->hits[r->group] += r->hits;
	t->overhead_s += r->overhead_ns / 1e9;
	t->last = *r;
	if (r->group == WINDOW_SMALL) {
		t->armed_s += r->end_ns > r->start_ns ? (double)(r->end_ns - r->start_ns) / 1e9 : 0;
		t->stands_for_s += r->cycle_ns / 1e9;
	}
}

static int run_for(struct traced *t, uint64_t ns)
{
	struct windows *w = tracee_windows(t->tracee);
	uint64_t until_ns = now() + ns;
	int r = 0;

	while (!r && now() < until_ns) {
		uint64_t next_ns = windows_next_ns(w), now_ns = now();

		if (next_ns > now_ns)
			usleep((useconds_t)((next_ns < until_ns ? next_ns - now_ns : until_ns > now_ns ? until_ns - now_ns : 0) / 1000));
		session_drain(t->session);
		r = windows_step(w, on_close, t);
	}
	return r;
}

/* A target that computes all the time: windows open and close, see it work, and cost what they may. */
static void test_busy_target(void **state)
{
	struct window_totals totals;
	struct traced t;
	uint64_t begun_ns;
	double seconds;

	(void)state;
	start(&t, worker);
	begun_ns = now();
	assert_int_equal(run_for(&t, 4000 * MS), 0);
	seconds = (double)(now() - begun_ns) / 1e9;
	windows_stop(tracee_windows(t.tracee), on_close, &t);
	assert_int_equal(count_armed(&t), 0);
	totals = windows_totals(tracee_windows(t.tracee), WINDOW_SMALL);
	print_message("%llu windows, %g s armed of %g, standing for %g s, overhead %g s\n", (unsigned long long)t.count[WINDOW_SMALL], t.armed_s,
		      seconds, t.stands_for_s, t.overhead_s);
	assert_true(t.count[WINDOW_SMALL] >= 10 && t.hits[WINDOW_SMALL] > 1000);
	assert_int_equal(totals.count, t.count[WINDOW_SMALL]);
	assert_true(fabs(totals.armed_s - t.armed_s) < 1e-3);
	assert_true(t.overhead_s > 0 && t.overhead_s <= BUDGET * (seconds + 1));
	/* Chance decides how many there are: some forty. */
	assert_true(t.stands_for_s > 0.4 * seconds && t.stands_for_s < 2 * seconds);
	assert_true(windows_next_ns(tracee_windows(t.tracee)) == UINT64_MAX);
	tell(&t, "work");
	finish(&t);
}

/* The caller sleeps through the end of windows: they end without it, and what they stand for is no longer than they were. */
static void test_late_caller(void **state)
{
	struct traced t;
	struct windows *w;
	int opened = 0;

	(void)state;
	start(&t, worker);
	w = tracee_windows(t.tracee);
	for (int i = 0; i < 200 && opened < 5; i++) {
		uint64_t before = t.count[WINDOW_SMALL];

		assert_int_equal(run_for(&t, 20 * MS), 0);
		if (t.count[WINDOW_SMALL] == before && !count_armed(&t))
			continue;
		/* Perhaps one is open now: whether or not, nothing is armed a while later. */
		opened += count_armed(&t) != 0;
		usleep(400000);
		assert_int_equal(count_armed(&t), 0);
		assert_int_equal(windows_step(w, on_close, &t), 0);
		if (t.count[WINDOW_SMALL] > before)
			assert_true(t.last.end_ns - t.last.start_ns <= 301 * MS);
	}
	tell(&t, "work");
	finish(&t);
}

/* tracemalloc lays its hooks over the slots: windows fail and are counted, the hooks stay; when it stops, windows see again. */
static void test_hooks(void **state)
{
	struct traced t;
	uint64_t before;

	(void)state;
	start(&t, worker);
	assert_int_equal(run_for(&t, 1000 * MS), 0);
	tell(&t, "trace");
	assert_int_equal(run_for(&t, 500 * MS), 0);
	assert_int_equal(run_for(&t, 1500 * MS), 0);
	assert_true(windows_totals(tracee_windows(t.tracee), WINDOW_SMALL).failed > 0);
	assert_int_equal(count_armed(&t), 0);
	tell(&t, "stop");
	before = t.hits[WINDOW_SMALL];
	assert_int_equal(run_for(&t, 3000 * MS), 0);
	assert_true(t.hits[WINDOW_SMALL] > before);
	windows_stop(tracee_windows(t.tracee), on_close, &t);
	assert_int_equal(count_armed(&t), 0);
	tell(&t, "work");
	finish(&t);
}

/* What takes another's place is told from what is new. */
static void test_moves(void **state)
{
	struct traced t;

	(void)state;
	start(&t, movers);
	for (int i = 0; i < 400 && !(t.large.texts >= 20 && t.large.moved >= 20); i++) {
		assert_int_equal(run_for(&t, 20 * MS), 0);
		session_take_nursery(t.session, tracee_target(t.tracee), see_young, &t.large);
	}
	windows_stop(tracee_windows(t.tracee), on_close, &t);
	print_message("%llu texts, %llu moved\n", (unsigned long long)t.large.texts, (unsigned long long)t.large.moved);
	assert_true(t.large.texts >= 20 && t.large.moved >= 20);
	assert_int_equal(t.large.wrong, 0);
	tell(&t, "work");
	finish(&t);
}

static void test_target_goes(void **state)
{
	struct traced t;

	(void)state;
	start(&t, worker);
	assert_int_equal(run_for(&t, 500 * MS), 0);
	kill(t.target.pid, SIGKILL);
	pytarget_stop(&t.target);
	assert_int_equal(run_for(&t, 10000 * MS), -ESRCH);
	windows_stop(tracee_windows(t.tracee), on_close, &t);
	finish(&t);
}

/* ---- weights ---- */

/* Untraced, the target works in bursts of so much, one a period; a hit costs so many times the work between two. */
struct rhythm {
	const char *label;
	double burst_ns, period_ns, cost;
};

static void expect_near(const struct rhythm *y, double length_ns, const char *what, int part, double times)
{
	print_message("%s, %g ms: part %d: %s %.2f\n", y->label, length_ns / 1e6, part, what, times);
	if (times < 0.6 || times > 1.45)
		fail_msg("%s, windows of %g ms: part %d of the bursts is %s %g times", y->label, length_ns / 1e6, part, what, times);
}

/*
 * Windows at random times over a rhythm: each thing (one every 2 us of work) that they see, weighted, adds up to all there are, those at
 * the start of a burst as those at its end.
 */
static void expect_weights(const struct rhythm *y, double length_ns)
{
	enum { PARTS = 4, WINDOWS = 20000, THING_NS = 2000 };
	double seen[PARTS] = { 0 }, survive[PARTS] = { 0 }, truth = y->burst_ns / THING_NS / PARTS / y->period_ns;
	uint64_t random = 42;

	for (int i = 0; i < WINDOWS; i++) {
		/* Where in the untraced rhythm it begins; 0 is the start of a burst. */
		double at = random_uniform(&random) * y->period_ns, t = 0, idle = 0, things[4096];
		struct window_record r = { .start_ns = 1000000000, .end_ns = 1000000000 + (uint64_t)length_ns, .cycle_ns = 1e8 };
		double where[4096];
		int n = 0;

		while (t < length_ns && n < 4096) {
			if (at >= y->burst_ns) {
				double rest = fmin(y->period_ns - at, length_ns - t);

				idle += rest > 20000 ? rest : 0;
				t += y->period_ns - at;
				at = 0;
				continue;
			}
			t += THING_NS;
			at += THING_NS;
			if (t >= length_ns)
				break;
			things[n] = t;
			where[n++] = fmin((at - 1) / y->burst_ns, 0.999);
			t += THING_NS * y->cost;
			r.overhead_ns += fmin(THING_NS * y->cost, length_ns - t + THING_NS * y->cost);
		}
		if (!n)
			continue;
		r.first_ns = r.start_ns + (uint64_t)things[0];
		r.last_ns = r.start_ns + (uint64_t)things[n - 1];
		r.amid = things[0] < 20000;
		r.idle = idle / length_ns;
		for (int k = 0; k < n; k++) {
			uint64_t time_ns = r.start_ns + (uint64_t)things[k];

			seen[(int)(where[k] * PARTS)] += window_weight(&r, time_ns) / r.cycle_ns / WINDOWS;
			survive[(int)(where[k] * PARTS)] += window_survivor_weight(&r, time_ns) / r.cycle_ns / WINDOWS;
			assert_true(time_ns < r.end_ns - (r.end_ns - r.start_ns) / 8 || window_survivor_weight(&r, time_ns) == 0);
		}
	}
	for (int part = 0; part < PARTS; part++) {
		expect_near(y, length_ns, "seen", part, seen[part] / truth);
		expect_near(y, length_ns, "a survivor", part, survive[part] / truth);
	}
}

static void test_weights(void **state)
{
	static const struct rhythm rhythms[] = {
		{ "always", 1e6, 1e6, 1.5 },
		{ "request handler", 150e3, 5e6, 3 },
		{ "long bursts", 2e6, 20e6, 1.5 },
		{ "short bursts", 24e3, 1e6, 2 },
		{ "half", 5e6, 10e6, 1.5 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rhythms) / sizeof(rhythms[0]); i++)
		for (double length = 0.3e6; length < 6e6; length *= 2.5)
			expect_weights(&rhythms[i], length);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_busy_target),
		cmocka_unit_test(test_late_caller),
		cmocka_unit_test(test_hooks),
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_target_goes),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
