/* SPDX-License-Identifier: MIT */
/* What watch says: events, the table; and what it takes from a report. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "report/watch.h"

static const struct timespec when = { 1795000000, 42000000 };

static struct watched process(pid_t pid, const char *const *cmdline)
{
	return (struct watched){
		.id = { pid, 7 * (uint64_t)pid },
		.ppid = 1,
		.group = pid,
		.comm = "python3",
		.python = "3.11.2",
		.cmdline = cmdline,
		.memory = { .rss_bytes = (uint64_t)pid << 20, .pss_bytes = REPORT_UNKNOWN, .growth_bytes_per_second = NAN, .explained_ratio = NAN },
		.growth = NAN,
		.overhead_ratio = NAN,
	};
}

static void test_events(void **state)
{
	static const char *const hostile[] = { "python3", "/srv/\033[31mred\n.py", NULL };
	struct watched w = process(42, hostile);
	struct strbuf buf = STRBUF_INIT;

	(void)state;
	for (int kind = WATCH_start; kind <= WATCH_summary; kind++) {
		json_t *event;
		const json_t *target;

		w.end = kind == WATCH_oom ? PROCESS_OOM : kind == WATCH_killed ? PROCESS_KILLED : kind == WATCH_exit ? PROCESS_EXITED : PROCESS_RUNS;
		w.end_code = kind == WATCH_exit ? 3 : 9;
		event = watch_event_json((enum watch_event)kind, &w, "why\n", when);
		assert_non_null(event);
		target = json_object_get(event, "target");
		assert_string_equal(json_string_value(json_object_get(event, "schema")), "leaksnoop.event/1");
		assert_string_equal(json_string_value(json_object_get(event, "kind")), watch_event_name((enum watch_event)kind));
		assert_int_equal(json_integer_value(json_object_get(target, "pid")), 42);
		assert_true(json_is_null(json_object_get(event, "report")));
		assert_true(json_is_null(json_object_get(event, "growth_bytes_per_second")));
		assert_int_equal(json_is_object(json_object_get(event, "end")), w.end != PROCESS_RUNS);
		json_decref(event);
		watch_event_text(&buf, (enum watch_event)kind, &w, "why\n", when);
	}
	/* One line an event, and nothing that steers a terminal. */
	for (size_t i = 0, lines = 0; i < buf.len; i++) {
		lines += buf.s[i] == '\n';
		assert_true(lines <= WATCH_summary + 1 && buf.s[i] != '\033');
	}
	assert_non_null(strstr(buf.s, "exited with status 3"));
	assert_non_null(strstr(buf.s, "killed by signal 9"));
	strbuf_free(&buf);
}

static size_t lines_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static void test_table(void **state)
{
	static const char *const app[] = { "python3", "/srv/app.py", NULL };
	enum { N = 50 };
	static struct watched all[N];
	const struct watched *list[N];
	struct watch_view view = { list, N, { .seconds = 100, .cpu_seconds = 1, .rss_bytes = 30 << 20 } };
	struct strbuf buf = STRBUF_INIT;
	char *alert, *fast, *slow;

	(void)state;
	for (int i = 0; i < N; i++) {
		all[i] = process(100 + i, app);
		list[i] = &all[i];
	}
	all[10].growth = 5000;
	all[20].growth = 90000;
	all[20].group = 100;
	all[30].alert = true;
	all[30].has_verdict = true;
	all[30].verdict = VERDICT_leak;
	all[30].n_findings = 1;
	all[30].findings[0] = (struct watched_finding){ .file = "/srv/app/cache.py", .function = "put", .line = 41, .bytes_per_second = { 2048, 1, 3 } };
	watch_table(&buf, &view, 100, 12);
	assert_int_equal(strbuf_error(&buf), 0);
	assert_true(lines_of(buf.s) <= 12);
	alert = strstr(buf.s, "cache.py:41 put");
	fast = strstr(buf.s, "(of 100)");
	slow = strstr(buf.s, "+5000 B/s");
	assert_true(alert && fast && slow && alert < fast && fast < slow);
	assert_non_null(strstr(buf.s, "more\n"));
	assert_non_null(strstr(buf.s, "1.00 % of a core"));
	strbuf_truncate(&buf, 0);
	watch_table(&buf, &view, 0, 0);
	assert_int_equal(lines_of(buf.s), N + 2);
	strbuf_truncate(&buf, 0);
	view.n = 0;
	watch_table(&buf, &view, 80, 24);
	assert_non_null(strstr(buf.s, "0 processes"));
	strbuf_free(&buf);
}

static void test_take_report(void **state)
{
	char name[2 * WATCHED_TEXT];
	struct report_frame frames[] = { { .file = name, .function = "f", .line = 3 } };
	struct report_finding findings[WATCHED_FINDINGS + 3];
	struct report_verdict verdict = { VERDICT_leak, 0.9, "it leaks" };
	struct report report = { .target = { .pid = 5 }, .mode = "sampled", .group_by = "line", .verdict = &verdict, .findings = findings,
				 .n_findings = WATCHED_FINDINGS + 3, .coverage.notes = (const char *const[]){ NULL } };
	struct watched w = process(5, NULL);

	(void)state;
	/* Cut before a character of three bytes, not in it. */
	memset(name, 'x', sizeof(name));
	memcpy(name + WATCHED_TEXT - 2, "€", 3);
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i < report.n_findings; i++)
		findings[i] = (struct report_finding){ .traceback = frames, .n_traceback = i ? 1 : 0, .bytes_per_second = { 10.0 - (double)i, 0, 20 } };
	assert_int_equal(watched_take_report(&w, &report, when), 0);
	assert_int_equal(w.n_findings, WATCHED_FINDINGS);
	assert_string_equal(w.findings[0].file, "");
	assert_int_equal(strlen(w.findings[1].file), WATCHED_TEXT - 2);
	assert_int_equal(w.findings[1].line, 3);
	assert_true(w.has_verdict && w.verdict == VERDICT_leak);
	assert_string_equal(w.why, "it leaks");
	assert_int_equal(json_array_size(json_object_get(w.report, "findings")), WATCHED_FINDINGS + 3);
	/* The next takes its place. */
	report.verdict = NULL;
	report.n_findings = 0;
	assert_int_equal(watched_take_report(&w, &report, when), 0);
	assert_true(!w.has_verdict && !w.n_findings);
	json_decref(w.report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_take_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
