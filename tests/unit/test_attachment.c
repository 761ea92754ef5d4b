/* SPDX-License-Identifier: MIT */
/* Several processes traced at once, and one after another in the same place: each is told of its own lines only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "cmd/attachment.h"
#include "pytarget.h"

#define TARGETS 3
#define LEAKED 3000

/* A file name and a function of its own; each line it reads makes it leak. */
static const char program[] = "import sys\n"
			      "kept = []\n"
			      "source = '''def leak_%(n)s():\n    for i in range(3000): kept.append(b'x' * (400 + i %% 50))\n'''\n"
			      "name = sys.stdin.readline().strip()\n"
			      "exec(compile(source % {'n': name}, '/leaky/%s.py' % name, 'exec'))\n"
			      "print('ready', flush=True)\n"
			      "for line in sys.stdin:\n"
			      "    globals()['leak_' + name]()\n"
			      "    print('done', flush=True)\n";

static struct pytarget begin(const char *name)
{
	size_t n;
	struct pytarget t;
	char line[64];

	assert_int_equal(pytarget_start(&pyinterps(&n)[0], program, NULL, &t), 0);
	fprintf(t.in, "%s\n", name);
	fflush(t.in);
	assert_true(pytarget_line(&t, line, sizeof(line)));
	assert_string_equal(line, "ready");
	return t;
}

static void leak(struct pytarget *t)
{
	char line[64];

	fputs("\n", t->in);
	fflush(t->in);
	assert_true(pytarget_line(t, line, sizeof(line)));
	assert_string_equal(line, "done");
}

/* The finding of a line that keeps all it made is in a file of that name; nothing is of another target. */
static int expect_own(void *ctx, const struct report *report)
{
	const char *name = ctx;
	char file[64], function[64];

	snprintf(file, sizeof(file), "/leaky/%s.py", name);
	snprintf(function, sizeof(function), "leak_%s", name);
	assert_true(report->n_findings >= 1 && report->findings[0].n_traceback >= 1);
	assert_string_equal(report->findings[0].traceback[0].file, file);
	assert_string_equal(report->findings[0].traceback[0].function, function);
	assert_int_equal(report->findings[0].traceback[0].line, 2);
	assert_in_range(report->findings[0].live_blocks, LEAKED, LEAKED + 20);
	for (size_t i = 0; i < report->n_findings; i++)
		for (size_t k = 0; k < report->findings[i].n_traceback; k++)
			if (strstr(report->findings[i].traceback[k].file, "/leaky/"))
				assert_string_equal(report->findings[i].traceback[k].file, file);
	return 0;
}

static struct attachment *attach(struct tracer *tracer, pid_t pid)
{
	struct attachment_options options = { .mode = TRACE_EXACT, .frames = 10, .top = 10, .survivors = 1000 };
	struct attachment *a;
	struct err err = { 0 };

	if (attachment_new(tracer, pid, &options, &a, &err))
		fail_msg("%s", err.what);
	return a;
}

static void report(struct tracer *tracer, struct attachment *a, char *name)
{
	assert_true(tracer_drain(tracer) >= 0);
	assert_int_equal(attachment_step(a), 0);
	assert_int_equal(attachment_report(a, false, expect_own, name), 0);
}

static struct tracer *tracer_of(uint32_t targets)
{
	struct tracer_options options = { .max_targets = targets, .mode = TRACE_EXACT, .ring_bytes = 4 << 20 };
	struct tracer *tracer;
	struct err err = { 0 };

	assert_int_equal(tracer_new(&options, &tracer, &err), 0);
	assert_int_equal(tracer_fd(tracer), -1);
	return tracer;
}

static void test_together(void **state)
{
	static char names[TARGETS][8] = { "one", "two", "three" };
	struct tracer *tracer = tracer_of(TARGETS);
	struct attachment *a[TARGETS];
	struct pytarget t[TARGETS];

	(void)state;
	for (int i = 0; i < TARGETS; i++) {
		t[i] = begin(names[i]);
		a[i] = attach(tracer, t[i].pid);
	}
	assert_true(tracer_fd(tracer) >= 0);
	for (int i = 0; i < TARGETS; i++)
		leak(&t[i]);
	for (int i = 0; i < TARGETS; i++)
		report(tracer, a[i], names[i]);
	for (int i = 0; i < TARGETS; i++) {
		attachment_free(a[i]);
		pytarget_stop(&t[i]);
	}
	tracer_free(tracer);
}

/* One place: the next process in it has the same addresses of code as the one before, or nearly. */
static void test_one_after_another(void **state)
{
	struct tracer *tracer = tracer_of(1);
	struct err err = { 0 };

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct attachment_options options = { .mode = TRACE_EXACT, .frames = 10, .top = 10, .survivors = 1000 };
		char name[8];
		struct pytarget t;
		struct attachment *a, *none = NULL;

		snprintf(name, sizeof(name), "n%d", i);
		t = begin(name);
		a = attach(tracer, t.pid);
		if (!i) {
			struct pytarget other = begin("other");

			assert_true(attachment_new(tracer, other.pid, &options, &none, &err) < 0);
			assert_null(none);
			pytarget_stop(&other);
		}
		leak(&t);
		report(tracer, a, name);
		attachment_free(a);
		/* It runs on, and what it does now is nobody's. */
		leak(&t);
		assert_true(tracer_drain(tracer) >= 0);
		if (i == 3)
			tracer_unload(tracer);
		pytarget_stop(&t);
	}
	tracer_free(tracer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_one_after_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
