/* SPDX-License-Identifier: MIT */
/*
 * The writers of the census against tests/golden/heap_*.txt and *.json: a census alone, growth, a comparison of other processes from files, hostile
 * names. UPDATE_GOLDEN=1 rewrites the files; look at the difference before you keep it.
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/utf8.h"
#include "census_by_hand.h"
#include "golden.h"
#include "report/heap.h"
#include "target/proc.h"

static const struct hand_row rows[] = {
	{ "app.Idle", 4, 400, 0 }, { "app.cache.Entry", 10240, 12897484, 1258291 }, { "app.models.Customer.Address", 12, 960, 0 },
	{ "app.services.billing.models.subscriptions.InvoiceLineWithAVeryLongName", 3000, 240000, 0 }, { "dict", 1301, 302400, 147456 },
	{ "str", 14203, 8178892, 1024 }, { NULL }
};
static const struct hand_row rows_before[] = {
	{ "app.Idle", 4, 400, 0 }, { "app.Temporary", 3, 1500, 0 }, { "app.cache.Entry", 9036, 11429478, 1110000 },
	{ "app.models.Customer.Address", 11, 880, 0 }, { "app.services.billing.models.subscriptions.InvoiceLineWithAVeryLongName", 2900, 232000, 0 },
	{ "dict", 1301, 302400, 147456 }, { "str", 14250, 8180000, 1024 }, { NULL }
};

static struct snapshot *now_by_hand(void)
{
	struct snapshot *s = snapshot_by_hand(census_by_hand(rows), 4242, 10);

	s->census->non_objects[CENSUS_DICT_KEYS] = (struct census_row){ .count = 1301, .bytes = 147456 };
	s->census->non_objects[CENSUS_FREE_LIST] = (struct census_row){ .count = 80, .bytes = 5120 };
	s->census->retries = 3;
	return s;
}

static struct snapshot *before_by_hand(pid_t pid)
{
	struct snapshot *s = snapshot_by_hand(census_by_hand(rows_before), pid, 0);

	s->census->non_objects[CENSUS_DICT_KEYS] = (struct census_row){ .count = 1290, .bytes = 147000 };
	s->census->refused = pid == 17 ? 2 : 0;
	s->census->non_objects[CENSUS_FREE_LIST] = (struct census_row){ .count = 80, .bytes = 5120 };
	return s;
}

typedef int (*write_fn)(const struct heap_report *, const struct report_style *, FILE *);

static char *render(struct heap_report *report, write_fn write, const struct report_style *style)
{
	_cleanup_(comparison_freep) struct comparison *c = NULL;
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(comparison_new(report->before ? report->before->census : NULL, report->now->census, report->seconds, &c), 0);
	if (report->type)
		comparison_filter(c, report->type);
	report->comparison = c;
	assert_int_equal(write(report, style, f), 0);
	fclose(f);
	report->comparison = NULL;
	assert_int_equal(strlen(text), size);
	return text;
}

static void check_both(const char *name, struct heap_report *report, unsigned width)
{
	_cleanup_(freep) char *text = render(report, heap_write_text, &(struct report_style){ .width = width });
	_cleanup_(freep) char *json = render(report, heap_write_json, &(struct report_style){ .pretty = true });
	char file[64];

	snprintf(file, sizeof(file), "heap_%s", name);
	golden_check(file, "txt", text);
	golden_check(file, "json", json);
}

static void test_alone(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *now = now_by_hand();

	(void)state;
	check_both("alone", &(struct heap_report){ .now = now, .seconds = NAN, .frozen_seconds = 0.025, .top = 3 }, 100);
}

static void test_growth(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *now = now_by_hand(), *before = before_by_hand(4242);
	struct heap_report report = { .now = now, .before = before, .seconds = 10, .frozen_seconds = NAN, .top = 20 };

	(void)state;
	check_both("growth", &report, 120);
	/* 80 columns: two columns go, and the long name keeps its end. */
	check_both("growth_narrow", &report, 80);
	report.loaded = true;
	report.type = "app.*";
	report.top = 1;
	check_both("growth_loaded", &report, 120);
}

static void test_other_process(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *now = now_by_hand(), *before = before_by_hand(17);

	(void)state;
	before->container = strdup("0123456789ab");
	check_both("other_process", &(struct heap_report){ .now = now, .before = before, .seconds = NAN, .frozen_seconds = NAN, .loaded = true }, 120);
}

static void test_nothing(void **state)
{
	static const struct hand_row none[] = { { NULL } };
	_cleanup_(snapshot_freep) struct snapshot *now = snapshot_by_hand(census_by_hand(none), 1, 0);

	(void)state;
	strv_free(now->cmdline);
	now->cmdline = NULL;
	free(now->python);
	now->python = NULL;
	check_both("nothing", &(struct heap_report){ .now = now, .before = now, .seconds = 0, .frozen_seconds = NAN, .type = "app.*" }, 80);
}

#define HOSTILE "a\n\033[2Jb\xff\xc2\x9b" "\xe2\x80\xae" "\"\\\tc"

/* No byte of a name may steer a terminal or break a line, and no number may break the table. */
static void test_hostile(void **state)
{
	static char huge[701];
	static const struct hand_row evil[] = { { HOSTILE, UINT64_MAX, UINT64_MAX, UINT64_MAX }, { huge, 1, 1, 1 }, { NULL } };
	static const struct hand_row good[] = { { "x", 1, 1, 1 }, { NULL } };
	_cleanup_(snapshot_freep) struct snapshot *now = NULL, *before = snapshot_by_hand(census_by_hand(good), 1, 0);
	struct heap_report report = { .before = before, .seconds = 1e-300, .frozen_seconds = 1e300, .type = "*", .loaded = true };
	_cleanup_(freep) char *text = NULL, *json = NULL;
	size_t n;

	(void)state;
	memset(huge, 'm', sizeof(huge) - 1);
	report.now = now = snapshot_by_hand(census_by_hand(evil), INT32_MAX, 1ll << 40);
	free(now->host);
	free(now->cmdline[1]);
	now->host = strdup(HOSTILE);
	now->container = strdup(HOSTILE);
	now->cmdline[1] = strdup(HOSTILE);
	now->census->seconds = 1e300;
	check_both("hostile", &report, 80);
	text = render(&report, heap_write_text, &(struct report_style){ 0 });
	json = render(&report, heap_write_json, &(struct report_style){ 0 });
	for (size_t i = 0, len = strlen(text); i < len; i += n) {
		uint32_t c;

		n = utf8_decode(text + i, len - i, &c);
		assert_true(c == '\n' || !utf8_is_unsafe(c));
	}
	for (const char *s = json; *s; s++)
		assert_true((*s >= ' ' && *s < 0x7f) || (*s == '\n' && !s[1]));
}

static void test_broken_stream(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *now = now_by_hand();
	_cleanup_(comparison_freep) struct comparison *c = NULL;
	_cleanup_(fclosep) FILE *full = fopen("/dev/full", "w");
	struct heap_report report = { .now = now, .seconds = NAN, .frozen_seconds = NAN };

	(void)state;
	assert_int_equal(comparison_new(NULL, now->census, NAN, &c), 0);
	report.comparison = c;
	assert_int_equal(heap_write_text(&report, &(struct report_style){ 0 }, full), -ENOSPC);
	clearerr(full);
	assert_int_equal(heap_write_json(&report, &(struct report_style){ 0 }, full), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone), cmocka_unit_test(test_growth), cmocka_unit_test(test_other_process),
		cmocka_unit_test(test_nothing), cmocka_unit_test(test_hostile), cmocka_unit_test(test_broken_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
