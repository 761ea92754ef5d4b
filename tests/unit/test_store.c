/* SPDX-License-Identifier: MIT */
/*
 * The history: what is written is read again, for programs and for people (tests/golden/history_*; UPDATE_GOLDEN=1 rewrites them); what goes in time,
 * and what stays; hostile strings; schemas. What goes wrong on the disk is in test_store_faults.c.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "golden.h"
#include "report/past.h"
#include "report/store_impl.h"
#include "report/write.h"
#include "store_by_hand.h"

static void put(struct store *store, const struct watched *w, double seconds)
{
	assert_int_equal(store_put_process(store, w, at(seconds)), 0);
}

static void put_event(struct store *store, const struct watched *w, const char *kind, const char *text, double seconds)
{
	assert_int_equal(store_put_event(store, w, kind, text, at(seconds)), 0);
}

/* A night: one leaks and is killed for want of memory, one is a worker in a container, one is short, one is not known much of. */
static void write_night(void)
{
	_cleanup_(store_freep) struct store *store = store_open_here(NULL);
	_cleanup_(json_decrefp) json_t *report = report_by_hand(4242, 2);
	struct watched leaky = watched_by_hand(4242), worker = watched_by_hand(4300), brief = watched_by_hand(4400);
	struct watched unknown = { .id = { 5000, 7 }, .growth = NAN, .fragmentation = NAN, .comm = "embedded" };

	put_event(store, &leaky, "start", NULL, NIGHT);
	for (int i = 0; i < 5; i++) {
		leaky.memory.rss_bytes = MIB(40 + 500 * i);
		put(store, &leaky, NIGHT + 3600 * i + 10);
		leaky.memory.rss_bytes -= MIB(10);
		put(store, &leaky, NIGHT + 3600 * i + 1800);
		if (i == 2) {
			watched_leaks(&leaky, NIGHT + 3600 * i + 1790, report);
			put_event(store, &leaky, "verdict", "leak (confidence 0.93): cache.py:41 keeps 143 KiB/s", NIGHT + 3600 * i + 1800);
		}
		assert_int_equal(store_tick(store, at(NIGHT + 3600 * i + 1801)), 0);
	}
	leaky.end = PROCESS_OOM;
	put_event(store, &leaky, "oom", "killed for want of memory", NIGHT + 5 * 3600 + 61.25);
	worker.group = 4242;
	worker.container = "0123456789ab";
	worker.end = PROCESS_KILLED;
	worker.end_code = 9;
	put_event(store, &worker, "killed", NULL, NIGHT + 600);
	brief.first_seen = at(NIGHT + 100);
	brief.end = PROCESS_EXITED;
	brief.end_code = 3;
	brief.growth = NAN;
	put_event(store, &brief, "exit", NULL, NIGHT + 101);
	unknown.memory = (struct report_memory){ REPORT_UNKNOWN, REPORT_UNKNOWN, NAN, NAN };
	unknown.arenas = unknown.arena_bytes = unknown.live_blocks = unknown.live_bytes = REPORT_UNKNOWN;
	put(store, &unknown, NIGHT + 700);
}

static char *text_of(const json_t *history, enum past_view view, size_t top, unsigned width)
{
	struct report_style style = { .width = width };
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(past_write_text(history, view, top, &style, f), 0);
	fclose(f);
	return text;
}

static void check_text(const char *name, const struct store_query *query, enum past_view view, size_t top, unsigned width)
{
	_cleanup_(json_decrefp) json_t *history = history_here(query);
	_cleanup_(freep) char *text = text_of(history, view, top, width);

	golden_check(name, "txt", text);
}

static void check_json(const char *name, const struct store_query *query)
{
	_cleanup_(json_decrefp) json_t *history = history_here(query);
	_cleanup_(freep) char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	json_object_set_new(history, "file", json_string("history.db"));
	assert_int_equal(write_json(history, true, f), 0);
	fclose(f);
	golden_check(name, "json", text);
}

static void test_night(void **state)
{
	(void)state;
	write_night();
	check_text("history_processes", &(struct store_query){ .summary = true }, PAST_PROCESSES, 40, 0);
	check_text("history_narrow", &(struct store_query){ .summary = true }, PAST_PROCESSES, 2, 100);
	check_text("history_events", &(struct store_query){ .summary = true }, PAST_EVENTS, 40, 0);
	check_text("history_details", &(struct store_query){ .pid = 4242 }, PAST_DETAILS, 40, 0);
	check_text("history_details_narrow", &(struct store_query){ .pid = 4242, .since = NIGHT + 3 * 3600 }, PAST_DETAILS, 40, 100);
	check_text("history_unknown", &(struct store_query){ .pid = 5000 }, PAST_DETAILS, 40, 0);
	check_text("history_nothing", &(struct store_query){ .pid = 1 }, PAST_DETAILS, 40, 0);
	check_json("history_all", &(struct store_query){ 0 });
	check_json("history_span", &(struct store_query){ .since = NIGHT + 3600, .until = NIGHT + 3 * 3600, .pid = 4242 });
	check_json("history_summary", &(struct store_query){ .summary = true });
}

/* What is the same is not written again, and what is new is. */
static void test_unchanged(void **state)
{
	struct store *store = store_open_here(NULL);
	struct watched w = watched_by_hand(17);

	(void)state;
	put(store, &w, NIGHT);
	assert_int_equal(store_tick(store, at(NIGHT)), 0);
	for (int i = 1; i < 30; i++) {
		put(store, &w, NIGHT + i);
		assert_int_equal(store_tick(store, at(NIGHT + i)), 0);
	}
	assert_int_equal(sql_number(store_path, "SELECT time FROM hour"), NIGHT);
	put(store, &w, NIGHT + 400);
	w.memory.rss_bytes = MIB(30);
	put(store, &w, NIGHT + 401);
	store_free(store);
	assert_int_equal(sql_number(store_path, "SELECT time FROM hour"), NIGHT + 401);
	assert_int_equal(sql_number(store_path, "SELECT rss_bytes FROM hour"), MIB(30));
	assert_int_equal(sql_number(store_path, "SELECT rss_peak_bytes FROM hour"), MIB(40));
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour"), 1);
	/* what nobody saw end is settled when the next writer comes: there is no process 17 that began at that tick */
	store_free(store_open_here(NULL));
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process WHERE ended = 'gone' AND last_seen > 0"), 1);
}

/* A writer that was started again knows nothing of what was found: that stands until it finds something itself. */
static void test_started_again(void **state)
{
	_cleanup_(json_decrefp) json_t *report = report_by_hand(17, 2);
	struct store *store = store_open_here(NULL);
	struct watched w = watched_by_hand(17);

	(void)state;
	watched_leaks(&w, NIGHT, report);
	w.sampled_seconds = 60;
	put(store, &w, NIGHT);
	store_free(store);
	store = store_open_here(NULL);
	w = watched_by_hand(17);
	w.has_verdict = false;
	w.report = NULL;
	w.n_findings = 0;
	w.sampled_seconds = 0;
	w.memory.rss_bytes = MIB(31);
	put(store, &w, NIGHT + 60);
	assert_int_equal(store_tick(store, at(NIGHT + 60)), 0);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour WHERE rss_bytes = 31 << 20 AND verdict = 'leak' AND why IS NOT NULL AND "
						"confidence > 0 AND sampled_seconds = 60 AND findings IS NOT NULL"), 1);
	w.has_verdict = true;
	w.verdict = VERDICT_steady;
	w.report_time = at(NIGHT + 100);
	put(store, &w, NIGHT + 120);
	store_free(store);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour WHERE verdict = 'steady'"), 1);
}

/* One PID, two processes; and one process that goes on after the writer was started again. */
static void test_identity(void **state)
{
	struct store *store = store_open_here(NULL);
	struct watched w = watched_by_hand(17);

	(void)state;
	put(store, &w, NIGHT);
	w.id.start_ticks++;
	put(store, &w, NIGHT + 10);
	store_free(store);
	store = store_open_here(NULL);
	put(store, &w, NIGHT + 7200);
	store_free(store);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process"), 2);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour"), 3);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process WHERE ended = 'runs'"), 1);
	check_integrity(store_path);
}

/* Reports: one an hour, the newest; two days of them; cut to ten findings; none that says nothing or is too large. */
static void test_reports(void **state)
{
	_cleanup_(store_freep) struct store *store = store_open_here(NULL);
	_cleanup_(json_decrefp) json_t *report = report_by_hand(17, 14), *plain = report_by_hand(18, 0), *huge = report_by_hand(19, 1);
	_cleanup_(json_decrefp) json_t *history = NULL;
	struct watched w = watched_by_hand(17);
	char *text = calloc(1, 300001);

	(void)state;
	for (int i = 0; i < 100; i++) {
		watched_leaks(&w, NIGHT + 3600 * i, report);
		put(store, &w, NIGHT + 3600 * i);
		watched_leaks(&w, NIGHT + 3600 * i + 30, report);
		put(store, &w, NIGHT + 3600 * i + 30);
	}
	w = watched_by_hand(18);
	json_object_set_new(json_object_get(plain, "verdict"), "kind", json_string("steady"));
	watched_leaks(&w, NIGHT, plain);
	put(store, &w, NIGHT);
	w = watched_by_hand(19);
	memset(text, 'x', 300000);
	json_object_set_new(huge, "note", json_string(text));
	free(text);
	watched_leaks(&w, NIGHT, huge);
	put(store, &w, NIGHT);
	assert_int_equal(store_tick(store, at(NIGHT)), 0);
	assert_int_equal(json_array_size(json_object_get(report, "findings")), 14);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM report"), 49);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour WHERE findings IS NOT NULL"), 102);
	history = history_here(&(struct store_query){ .pid = 17 });
	assert_int_equal(json_array_size(json_object_get(json_object_get(json_array_get(json_object_get(history, "processes"), 0), "last_report"),
							 "findings")), 10);
}

static void test_retention(void **state)
{
	struct store *store = store_open_here(&(struct store_options){ .retain_seconds = 3 * 86400 });
	struct watched w = watched_by_hand(17), old = watched_by_hand(18);
	double end = NIGHT + 20 * 86400;
	long long pages;

	(void)state;
	put_event(store, &old, "start", "old", NIGHT);
	for (int h = 0; h < 20 * 24; h++) {
		for (int i = 0; i < 20; i++) {
			w.id.pid = 100 + i;
			put(store, &w, NIGHT + 3600 * h);
		}
		put_event(store, &w, "verdict", "text", NIGHT + 3600 * h);
		if (h == 10 * 24) {
			assert_int_equal(store_tick(store, at(NIGHT + 3600)), 0);
			pages = sql_number(store_path, "PRAGMA page_count");
		}
	}
	/* of short processes nothing stays after an hour, but of those that something was found in */
	for (int i = 0; i < 300; i++) {
		_cleanup_(json_decrefp) json_t *report = report_by_hand(1000 + i, 1);

		w = watched_by_hand(1000 + i);
		w.first_seen = at(end - 7200);
		w.end = PROCESS_EXITED;
		if (i % 100 == 0)
			watched_leaks(&w, end - 7200, report);
		put_event(store, &w, "exit", NULL, end - 7199);
	}
	/* a bite at least is taken at each, however slow the machine is */
	for (int i = 0; i < 600; i++)
		assert_int_equal(store_tick(store, at(end + 61 * i)), 0);
	store_free(store);
	check_integrity(store_path);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process WHERE pid = 18"), 0);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process WHERE pid BETWEEN 100 AND 119"), 20);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM process WHERE pid >= 1000"), 3);
	assert_true(sql_number(store_path, "SELECT min(hour) FROM hour") >= NIGHT + 17 * 86400);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM hour WHERE process IN (SELECT id FROM process WHERE pid < 120)"),
			 20 * (72 - 11));
	assert_true(sql_number(store_path, "SELECT min(time) FROM event") >= NIGHT + 17 * 86400);
	assert_true(sql_number(store_path, "PRAGMA page_count") < pages);
	assert_true(sql_number(store_path, "PRAGMA freelist_count") < 300);
}

static void test_size(void **state)
{
	struct store *store = store_open_here(&(struct store_options){ .max_bytes = 1 << 20 });
	struct watched w = watched_by_hand(17);
	int hours = 300;

	(void)state;
	for (int h = 0; h < hours; h++) {
		for (int i = 0; i < 20; i++) {
			w.id.pid = 100 + i;
			put(store, &w, NIGHT + 3600 * h);
		}
		for (int i = 0; i < 4; i++)
			assert_int_equal(store_tick(store, at(NIGHT + 3600 * h + 900 * i)), 0);
	}
	store_free(store);
	check_integrity(store_path);
	assert_true(sql_number(store_path, "SELECT count(*) FROM hour") > 1000);
	assert_int_equal(sql_number(store_path, "SELECT max(hour) FROM hour"), NIGHT + 3600 * (hours - 1));
	assert_true(sql_number(store_path, "PRAGMA page_count") * 4096 < 3 << 19);
}

#define HOSTILE "a\n\033[2Jb\xff\xc2\x9b" "\xe2\x80\xae" "\"\\\tc"

static void test_hostile(void **state)
{
	static char huge[100001];
	const char *evil[100] = { HOSTILE, huge };
	struct store *store = store_open_here(NULL);
	struct watched w = watched_by_hand(17);
	_cleanup_(json_decrefp) json_t *history = NULL, *report = report_by_hand(17, 1);
	json_t *process;

	(void)state;
	for (int i = 2; i < 99; i++)
		evil[i] = "word";
	memset(huge, 'm', sizeof(huge) - 1);
	watched_leaks(&w, NIGHT, report);
	w.cmdline = evil;
	w.container = huge;
	memcpy(w.comm, "0123456789abcdef", 16);   /* no end */
	memset(w.python, 0xff, sizeof(w.python));
	snprintf(w.why, sizeof(w.why), HOSTILE);
	snprintf(w.findings[0].file, sizeof(w.findings[0].file), HOSTILE);
	w.memory.rss_bytes = UINT64_MAX - 1;
	w.growth = INFINITY;
	w.id.start_ticks = UINT64_MAX;
	put_event(store, &w, "exit", HOSTILE, NIGHT);
	store_free(store);
	history = history_here(&(struct store_query){ 0 });
	process = json_array_get(json_object_get(history, "processes"), 0);
	assert_int_equal(json_array_size(json_object_get(json_object_get(process, "target"), "cmdline")), 2);
	assert_true(json_string_length(json_object_get(json_object_get(process, "target"), "container")) <= STORE_TEXT_MAX + 4);
	assert_true(json_is_null(json_object_get(process, "growth_bytes_per_second")));
	for (int view = PAST_PROCESSES; view <= PAST_DETAILS; view++) {
		_cleanup_(freep) char *text = text_of(history, (enum past_view)view, 0, 80);
		size_t n;

		for (size_t i = 0, len = strlen(text); i < len; i += n) {
			uint32_t c;

			n = utf8_decode(text + i, len - i, &c);
			assert_true(c == '\n' || !utf8_is_unsafe(c));
		}
	}
}

/* A database of a schema before is brought to this one; what fails on the way leaves it as it was; a newer one is refused. */
static void test_schema(void **state)
{
	static const struct store_step steps[] = {
		{ "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (42)" }, { "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'new'" },
		{ "CREATE TABLE b (x); this is no SQL" },
	};
	sqlite3 *db;
	struct err err = { 0 };
	int version;

	(void)state;
	assert_int_equal(sqlite3_open(store_path, &db), SQLITE_OK);
	assert_int_equal(store_migrate(db, steps, 1, &err), 0);
	assert_int_equal(store_migrate(db, steps, 1, &err), 0);
	assert_int_equal(store_migrate(db, steps, 2, &err), 0);
	assert_int_equal(sql_number(store_path, "SELECT x FROM a WHERE y = 'new'"), 42);
	assert_int_not_equal(store_migrate(db, steps, 3, &err), 0);
	assert_int_equal(store_check_kind(db, 2, &version, &err), 0);
	assert_int_equal(version, 2);
	assert_int_equal(sql_number(store_path, "SELECT count(*) FROM sqlite_schema WHERE name = 'b'"), 0);
	assert_int_equal(store_migrate(db, steps, 1, &err), -ENOTSUP);
	assert_non_null(strstr(err.what, "newer"));
	sqlite3_close(db);
}

static double cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* A day of 200 processes, in bytes a process and hour. */
static long long bytes_of_a_day(json_t *report)
{
	struct store *store = store_open_here(NULL);
	struct stat st;

	for (int h = 0; h < 24; h++) {
		for (int i = 0; i < 200; i++) {
			struct watched w = watched_by_hand(1000 + i);

			if (report)
				watched_leaks(&w, NIGHT + 3600 * h, report);
			put(store, &w, NIGHT + 3600 * h);
		}
		assert_int_equal(store_tick(store, at(NIGHT + 3600 * h)), 0);
	}
	store_free(store);
	assert_int_equal(stat(store_path, &st), 0);
	unlink(store_path);
	return st.st_size / 200 / 24;
}

/* 200 processes a tick, and what an hour takes on the disk: printed, not judged. */
static void test_cost(void **state)
{
	_cleanup_(json_decrefp) json_t *report = report_by_hand(17, 5), *empty = json_object();
	struct store *store = store_open_here(NULL);
	struct watched w = watched_by_hand(17);
	_cleanup_(freep) char *text = json_dumps(report, JSON_COMPACT);
	double us[2];

	(void)state;
	for (int changed = 0; changed < 2; changed++) {
		us[changed] = cpu_us();
		for (int t = 0; t < 100; t++) {
			for (int i = 0; i < 200; i++) {
				w.id.pid = 1000 + i;
				w.memory.rss_bytes += changed ? 4096 : 0;
				put(store, &w, NIGHT + 1800 * changed + t * 10);
			}
			assert_int_equal(store_tick(store, at(NIGHT + 1800 * changed + t * 10)), 0);
		}
		us[changed] = (cpu_us() - us[changed]) / 100 / 200;
	}
	store_free(store);
	unlink(store_path);
	print_message("a put, its share of the commit included: %.1f us of CPU where nothing changed, %.1f us where it did\n", us[0], us[1]);
	print_message("a process-hour: %lld bytes without a verdict, %lld with one and two findings, %lld with a report of %zu bytes, too\n",
		      bytes_of_a_day(NULL), bytes_of_a_day(empty), bytes_of_a_day(report), strlen(text));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, store_make_dir, store_remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_night), TEST(test_unchanged), TEST(test_started_again), TEST(test_identity), TEST(test_reports), TEST(test_retention), TEST(test_size),
		TEST(test_hostile), TEST(test_schema), TEST(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
