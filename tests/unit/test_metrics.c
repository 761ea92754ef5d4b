/* SPDX-License-Identifier: MIT */
/* The metrics: promtool finds no fault with them, whatever the names in them; what is unknown is left out; their number is bounded. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "made_up_view.h"
#include "report/metrics.h"

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	for (; (text = strstr(text, word)); text += strlen(word))
		n++;
	return n;
}

static void expect(const char *text, const char *line)
{
	char whole[1024];

	snprintf(whole, sizeof(whole), "\n%s\n", line);
	if (!strstr(text, whole))
		fail_msg("not there: %s", line);
}

/* promtool says nothing, and that it is content. */
static void check(const struct strbuf *buf)
{
	char path[] = "/tmp/leaksnoop-metrics-XXXXXX", command[128], said[1024] = "";
	_cleanup_(closep) int fd = mkstemp(path);
	FILE *promtool;
	size_t n;
	int status;

	assert_int_equal(strbuf_error(buf), 0);
	assert_int_equal(write(fd, buf->s, buf->len), buf->len);
	snprintf(command, sizeof(command), "promtool check metrics <%s 2>&1", path);
	promtool = popen(command, "r");
	assert_non_null(promtool);
	n = fread(said, 1, sizeof(said) - 1, promtool);
	status = pclose(promtool);
	unlink(path);
	if (n || status)
		fail_msg("promtool (package prometheus) ended with %d: %s", WEXITSTATUS(status), said);
}

static void test_all(void **state)
{
	_cleanup_(made_up_view_free) struct made_up_view v;
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	const char *text;

	(void)state;
	made_up_view_new(&v, 3);
	metrics_append(&buf, &v.view);
	check(&buf);
	text = strbuf_str(&buf);
	expect(text, "leaksnoop_processes 3");
	expect(text, "leaksnoop_processes_not_shown 0");
	expect(text, "leaksnoop_cpu_seconds_total 61.5");
	expect(text, "leaksnoop_events_dropped_total 7");
	expect(text, "leaksnoop_history_ok 1");
	expect(text, "leaksnoop_process_info{pid=\"101\",app=\"app.py\",start_ticks=\"5001\",parent=\"1\",group=\"100\",uid=\"33\",comm=\"python3\","
		     "container=\"0123456789ab\",python=\"3.11.2\"} 1");
	expect(text, "leaksnoop_process_resident_memory_bytes{pid=\"101\",app=\"app.py\"} 88290099");
	expect(text, "leaksnoop_process_memory_bytes{pid=\"101\",app=\"app.py\",part=\"pymalloc-live\"} 4096");
	expect(text, "leaksnoop_process_growth_bytes_per_second{pid=\"102\",app=\"app.py\"} 2");
	expect(text, "leaksnoop_process_verdict{pid=\"102\",app=\"app.py\",verdict=\"leak\"} 1");
	expect(text, "leaksnoop_process_verdict{pid=\"102\",app=\"app.py\",verdict=\"high-water\"} 0");
	expect(text, "leaksnoop_process_first_seen_timestamp_seconds{pid=\"100\",app=\"app.py\"} 1795262031.5");
	expect(text, "leaksnoop_process_finding_growth_bytes_per_second{pid=\"100\",app=\"app.py\",kind=\"python\",file=\"/srv/app/cache0.py\","
		     "line=\"41\",function=\"Cache.put0\"} 1000.5");
	assert_int_equal(count(text, "\nleaksnoop_process_verdict{"), 3 * 7);
	assert_int_equal(count(text, "\nleaksnoop_process_finding_live_bytes{"), 3 * WATCHED_FINDINGS);
}

static void make_unknown(struct watched *w)
{
	pid_t pid = w->id.pid;

	*w = (struct watched){ .id = { pid, 1 }, .memory = { REPORT_UNKNOWN, REPORT_UNKNOWN, NAN, NAN }, .arenas = REPORT_UNKNOWN,
			       .arena_bytes = REPORT_UNKNOWN, .live_blocks = REPORT_UNKNOWN, .live_bytes = REPORT_UNKNOWN, .fragmentation = NAN,
			       .growth = NAN, .overhead_ratio = NAN, .confidence = NAN };
}

/* No sample says what nobody knows; no metric has a head and nothing else. */
static void test_unknown(void **state)
{
	_cleanup_(made_up_view_free) struct made_up_view v;
	_cleanup_(strbuf_free) struct strbuf none = STRBUF_INIT, buf = STRBUF_INIT;
	const char *text;

	(void)state;
	made_up_view_new(&v, 1);
	v.view.n = 0;
	metrics_append(&none, &v.view);
	check(&none);
	assert_int_equal(count(strbuf_str(&none), "leaksnoop_process_"), 3 * 2);   /* starts and ends */
	v.view.n = 1;
	make_unknown(&v.processes[0]);
	metrics_append(&buf, &v.view);
	check(&buf);
	text = strbuf_str(&buf);
	assert_null(strstr(text, "NaN"));
	assert_null(strstr(text, "nan"));
	assert_null(strstr(text, "1844"));
	assert_null(strstr(text, "leaksnoop_process_verdict"));
	assert_null(strstr(text, "leaksnoop_process_growth"));
	assert_null(strstr(text, "leaksnoop_process_finding"));
	expect(text, "leaksnoop_process_info{pid=\"100\",app=\"\",start_ticks=\"1\",parent=\"0\",group=\"0\",uid=\"0\",comm=\"\",container=\"\",python=\"\"} 1");
	expect(text, "leaksnoop_process_alert{pid=\"100\",app=\"\"} 0");
}

/* Quotes, breaks, escapes, bytes that are no text, names without end; and names that are the same once they are cut. */
static void test_hostile(void **state)
{
	static const char *const hostile[] = { "python3", "-m", "a\"} 1\nleaksnoop_processes 666\n#\\\x1b[31m\xff\xe2\x80\xae", NULL };
	_cleanup_(made_up_view_free) struct made_up_view v;
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	struct watched *w;

	(void)state;
	made_up_view_new(&v, 2);
	w = &v.processes[0];
	w->cmdline = hostile;
	w->container = "\\\"\n\t{}";
	memset(w->comm, '\\', sizeof(w->comm) - 1);
	for (int f = 0; f < WATCHED_FINDINGS; f++) {
		memset(w->findings[f].file, f % 2 ? '"' : '\xf0', WATCHED_TEXT - 1);
		memset(w->findings[f].function, f % 2 ? '\\' : '\r', WATCHED_TEXT - 1);
		w->findings[f].line = -1;
	}
	metrics_append(&buf, &v.view);
	check(&buf);
	assert_null(strstr(strbuf_str(&buf), "\nleaksnoop_processes 666"));
	for (const char *s = strbuf_str(&buf); *s; s++)
		assert_true(*s == '\n' || (unsigned char)*s >= 0x20);
	/* Of five findings two pairs and the one that is a mapping are left. */
	assert_int_equal(count(strbuf_str(&buf), "leaksnoop_process_finding_live_bytes{pid=\"100\""), 3);
	for (const char *line = strbuf_str(&buf), *end; *line; line = end + 1) {
		end = strchr(line, '\n');
		assert_non_null(end);
		assert_true(end - line < 2048);
	}
}

/* Those that are gone, and the elder of two under one PID, have no samples. */
static void test_ends_and_reuse(void **state)
{
	_cleanup_(made_up_view_free) struct made_up_view v;
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	(void)state;
	made_up_view_new(&v, 4);
	v.processes[1].id.pid = 100;
	v.processes[2].end = PROCESS_KILLED;
	metrics_append(&buf, &v.view);
	check(&buf);
	assert_int_equal(count(strbuf_str(&buf), "\nleaksnoop_process_info{"), 2);
	assert_int_equal(count(strbuf_str(&buf), "start_ticks=\"5001\""), 1);
	assert_null(strstr(strbuf_str(&buf), "pid=\"102\""));
}

static void test_bound(void **state)
{
	_cleanup_(made_up_view_free) struct made_up_view v;
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	const size_t more = 200;

	(void)state;
	made_up_view_new(&v, METRICS_PROCESSES_MAX + more);
	for (size_t i = 0; i < v.view.n; i++) {
		v.processes[i].alert = i == 1;
		v.processes[i].verdict = i == 0 ? VERDICT_leak : VERDICT_steady;
	}
	metrics_append(&buf, &v.view);
	check(&buf);
	expect(strbuf_str(&buf), "leaksnoop_processes_not_shown 200");
	assert_int_equal(count(strbuf_str(&buf), "\nleaksnoop_process_info{"), METRICS_PROCESSES_MAX);
	/* Kept: the one with a leak, the one with an alert, and those that grow most. */
	assert_non_null(strstr(strbuf_str(&buf), "process_info{pid=\"100\""));
	assert_non_null(strstr(strbuf_str(&buf), "process_info{pid=\"101\""));
	assert_null(strstr(strbuf_str(&buf), "process_info{pid=\"102\""));
	assert_null(strstr(strbuf_str(&buf), "process_info{pid=\"301\""));
	assert_non_null(strstr(strbuf_str(&buf), "process_info{pid=\"302\""));
	assert_true(buf.len < 6u << 20);
	print_message("%zu bytes for %d processes\n", buf.len, METRICS_PROCESSES_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_ends_and_reuse),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
