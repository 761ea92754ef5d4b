/* SPDX-License-Identifier: MIT */
/*
 * The writers against tests/golden/report_*.txt and *.json: an ordinary
 * report, one of which nothing is known, one whose names are hostile.
 * UPDATE_GOLDEN=1 rewrites the files; look at the difference before you keep it.
 * GOLDEN_DIR says where they are (default tests/golden).
 */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/utf8.h"
#include "golden.h"
#include "report/parse.h"
#include "report/report.h"

#define UNKNOWN_RATE { NAN, NAN, NAN }

static const char *const cmdline[] = { "python3", "app.py", "--port", "80", NULL };
static const char *const notes[] = { "3 threads ran before the probes were in place", NULL };

static const struct report_frame frames[] = {
	{ .file = "/srv/app/cache.py", .function = "Cache.put", .line = 41, .source = "self.items[key] = Entry(value)" },
	{ .file = "/srv/app/views.py", .function = "handle", .line = 88, .source = "cache.put(request.path, body)" },
	{ .file = "/srv/app/server.py", .function = "Server.dispatch", .line = 17 },
	{ .file = "/usr/lib/libc.so.6", .function = "qsort", .native = true },
	{ .file = "/srv/app/a.py", .function = "a", .line = 1, .source = "not shown" },
	{ .file = "/srv/app/b.py", .function = "b", .line = 2 },
	{ .file = "/srv/app/c.py", .function = "c", .line = 3 },
	{ .file = "/srv/app/d.py", .function = "d", .line = 4 },
	{ .file = "/srv/app/e.py", .function = "e", .line = 5 },
	{ .file = "/srv/app/f.py", .function = "<module>", .line = 6 },
};

static const struct report_survival survival[] = { { 0.1, 0.75 }, { 1, 0.5 } };
static const struct report_type types[] = { { "Entry", 10240, 1258291 }, { "str", 10240, 11639193 } };
static const struct report_step steps[] = {
	{ "module", "app.cache", 0x7f12345678a0 }, { "dict", "CACHE", 0x7f1234567900 },
};
static const struct report_holder holder = {
	.path = "app.cache.CACHE.items", .type = "dict", .length = 10240, .growth_per_second = 341.3, .steps = steps, .n_steps = 2,
};

static const struct report_finding findings[] = {
	{
		.kind = FINDING_python, .confidence = 0.97, .bytes_per_second = { 419840, 419840, 419840 },
		.allocations_per_second = 512.5, .survival = survival, .n_survival = 2,
		.blocks_per_second = { 341.25, 341.25, 341.25 }, .live_bytes = 12897484, .live_blocks = 10240,
		.delta_bytes = 12897484, .delta_blocks = 10240, .age_seconds = 29.1, .first_hand = 1, .traceback = frames,
		.n_traceback = 10, .types = types, .n_types = 2, .holder = &holder,
	}, {
		.kind = FINDING_python, .confidence = NAN, .allocations_per_second = NAN, .bytes_per_second = { 1200, 900, 1500 },
		.blocks_per_second = { 0.03, 0.02, 0.04 }, .live_bytes = 36864, .live_blocks = 1, .delta_bytes = -512,
		.delta_blocks = -1, .age_seconds = 125, .first_hand = 0, .likelier = &frames[2],
		.traceback = frames + 1, .n_traceback = 2, .truncated = true,
	}, {
		.kind = FINDING_mmap, .confidence = NAN, .allocations_per_second = NAN, .bytes_per_second = UNKNOWN_RATE, .blocks_per_second = UNKNOWN_RATE,
		.live_bytes = 1 << 20, .live_blocks = 1, .delta_bytes = 1 << 20, .delta_blocks = 1, .age_seconds = NAN,
		.first_hand = -1,
	},
};

static const struct report_loss losses[] = {
	{ "allocations lost", "ring full; raise --ring-size", 1204 },
	{ "stacks lost", "ring full; raise --ring-size", 0 },
	{ "stacks cut at an unreadable frame", "memory paged out; rare frames are missing", 3 },
};

static const struct report_memory memory = {
	.rss_bytes = 88290099, .pss_bytes = 83991000, .growth_bytes_per_second = 419840, .explained_ratio = 0.97219, .has_parts = true,
	.part = { { 52428800, 419840 }, { 1048576, 0 }, { 4194304, NAN }, { REPORT_UNKNOWN, NAN } },
};

static const struct report_verdict verdict = { VERDICT_leak, 0.93, "live bytes of one line grew in every one of 30 windows" };

static struct report ordinary(void)
{
	struct report r = {
		.target = { .pid = 4242, .python = "3.11.2", .cmdline = cmdline }, .start = { 1795262031, 42000000 }, .seconds = 30,
		.mode = "exact", .armed_seconds = 29.9, .overhead_ratio = NAN, .group_by = "line", .memory = &memory, .verdict = &verdict,
		.findings = findings, .n_findings = 3, .n_findings_more = 31, .more_bytes = 1153434,
	};

	r.coverage.seen = 1202043;
	r.coverage.happened = 1204331;
	r.coverage.ratio = 1202043.0 / 1204331.0;
	r.coverage.dropped = 1204;
	r.coverage.unresolved_frames = 2;
	r.coverage.notes = notes;
	r.coverage.losses = losses;
	r.coverage.n_losses = 3;
	return r;
}

static struct report unknown(void)
{
	static const struct report_memory no_memory = { REPORT_UNKNOWN, REPORT_UNKNOWN, NAN, NAN, .has_parts = false };
	static const struct report_verdict no_verdict = { VERDICT_unknown, NAN, NULL };
	static const struct report_frame no_frame = { .line = 0 };
	static const struct report_finding no_finding = {
		.confidence = NAN, .allocations_per_second = NAN, .bytes_per_second = UNKNOWN_RATE, .blocks_per_second = UNKNOWN_RATE,
		.live_bytes = REPORT_UNKNOWN, .live_blocks = REPORT_UNKNOWN, .age_seconds = NAN, .first_hand = -1,
		.traceback = &no_frame, .n_traceback = 1,
	};
	struct report r = {
		.target = { .pid = 1 }, .seconds = NAN, .armed_seconds = NAN, .overhead_ratio = NAN, .memory = &no_memory, .verdict = &no_verdict,
		.findings = &no_finding, .n_findings = 1,
	};

	r.coverage.seen = r.coverage.happened = r.coverage.dropped = r.coverage.unresolved_frames = REPORT_UNKNOWN;
	r.coverage.ratio = NAN;
	return r;
}

#define HOSTILE "a\n\033[2Jb\xff\xc2\x9b" "\xe2\x80\xae" "\"\\\tc"

static struct report hostile(void)
{
	static char huge[100001];
	static const char *const words[] = { "python3", HOSTILE, huge, NULL };
	static const char *const remarks[] = { HOSTILE, NULL };
	static const struct report_frame frame[] = {
		{ .file = HOSTILE, .function = HOSTILE, .line = INT32_MAX, .source = HOSTILE },
		{ .file = huge, .function = huge, .line = -5, .source = huge },
	};
	static const struct report_type type = { HOSTILE, UINT64_MAX - 1, UINT64_MAX - 1 };
	static const struct report_step step = { HOSTILE, HOSTILE, UINT64_MAX };
	static const struct report_holder held = { HOSTILE, HOSTILE, UINT64_MAX - 1, INFINITY, &step, 1 };
	static const struct report_finding finding = {
		.kind = FINDING_native, .confidence = INFINITY, .allocations_per_second = INFINITY, .bytes_per_second = { 1e300, -1e300, INFINITY },
		.blocks_per_second = { 1e300, 0, 0 }, .live_bytes = UINT64_MAX - 1, .live_blocks = UINT64_MAX - 1,
		.delta_bytes = INT64_MIN, .delta_blocks = INT64_MIN, .age_seconds = 1e300, .first_hand = 1, .traceback = frame,
		.n_traceback = 2, .types = &type, .n_types = 1, .holder = &held,
	};
	static const struct report_loss loss = { HOSTILE, HOSTILE, UINT64_MAX - 1 };
	static const struct report_verdict said = { VERDICT_native, 1, HOSTILE };
	struct report r = {
		.target = { .pid = 7, .python = HOSTILE, .cmdline = words, .container = HOSTILE }, .start = { INT64_MAX, 0 },
		.seconds = 1e300, .mode = "exact", .group_by = "traceback", .findings = &finding, .n_findings = 1, .verdict = &said,
	};

	memset(huge, 'h', sizeof(huge) - 1);
	r.coverage.ratio = 0.5;
	r.coverage.notes = remarks;
	r.coverage.losses = &loss;
	r.coverage.n_losses = 1;
	return r;
}

static struct report nothing(void)
{
	struct report r = ordinary();

	r.n_findings = r.n_findings_more = 0;
	r.coverage.n_losses = 0;
	r.coverage.dropped = r.coverage.unresolved_frames = 0;
	r.coverage.ratio = 1;
	r.coverage.notes = NULL;
	r.memory = NULL;
	r.verdict = NULL;
	return r;
}

static char *render(const struct report *report, const char *format, const struct report_style *style)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	assert_int_equal(report_write(report_writer_find(format), report, style, f), 0);
	fclose(f);
	assert_int_equal(strlen(text), size);
	return text;
}

static void check_both(const char *name, struct report report)
{
	_cleanup_(freep) char *text = render(&report, "text", &(struct report_style){ .width = 80 });
	_cleanup_(freep) char *json = render(&report, "json", &(struct report_style){ .pretty = true });
	char file[64];

	snprintf(file, sizeof(file), "report_%s", name);
	golden_check(file, "txt", text);
	golden_check(file, "json", json);
}

static void test_golden(void **state)
{
	(void)state;
	check_both("ordinary", ordinary());
	check_both("unknown", unknown());
	check_both("hostile", hostile());
	check_both("nothing", nothing());
}

/* Without the source lines, which JSON does not have. */
static void drop_sources(char *text)
{
	char *to = text;

	for (char *line = text, *next; *line; line = next) {
		next = line + strcspn(line, "\n") + 1;
		if (strncmp(line, "      ", 6) != 0) {
			memmove(to, line, (size_t)(next - line));
			to += next - line;
		}
	}
	*to = '\0';
}

/* A report that was kept as JSON looks the same when it is read back. */
static void test_parsed(void **state)
{
	struct report reports[] = { ordinary(), unknown(), nothing() };
	struct parsed_report *parsed = NULL;
	json_t *other = json_object();

	(void)state;
	for (size_t i = 0; i < sizeof(reports) / sizeof(*reports); i++) {
		_cleanup_(freep) char *text = render(&reports[i], "text", &(struct report_style){ 0 });
		_cleanup_(freep) char *json = render(&reports[i], "json", &(struct report_style){ 0 }), *again = NULL;
		json_t *value = json_loads(json, 0, NULL);

		assert_int_equal(report_parse(value, &parsed), 0);
		again = render(parsed_report(parsed), "text", &(struct report_style){ 0 });
		drop_sources(text);
		assert_string_equal(text, again);
		parsed_report_free(parsed);
		json_decref(value);
	}
	json_object_set_new(other, "schema", json_string("leaksnoop.heap/1"));
	assert_int_equal(report_parse(other, &parsed), -EINVAL);
	assert_int_equal(report_parse(NULL, &parsed), -EINVAL);
	json_decref(other);
}

/* No byte of a name may steer a terminal, whatever the style. */
static void test_hostile_is_harmless(void **state)
{
	struct report report = hostile();
	_cleanup_(freep) char *wide = render(&report, "text", &(struct report_style){ 0 });
	_cleanup_(freep) char *json = render(&report, "json", &(struct report_style){ 0 });
	size_t len = strlen(wide), n;

	(void)state;
	assert_true(len < 20000);
	for (size_t i = 0; i < len; i += n) {
		uint32_t c;

		n = utf8_decode(wide + i, len - i, &c);
		assert_true(c == '\n' || !utf8_is_unsafe(c));
	}
	for (const char *s = json; *s; s++)
		assert_true((*s >= ' ' && *s < 0x7f) || (*s == '\n' && !s[1]));
}

static void test_colours_add_nothing_else(void **state)
{
	struct report report = ordinary();
	_cleanup_(freep) char *plain = render(&report, "text", &(struct report_style){ .width = 80 });
	_cleanup_(freep) char *colour = render(&report, "text", &(struct report_style){ .width = 80, .colours = true });
	char *to = colour;

	(void)state;
	assert_non_null(strchr(colour, '\033'));
	for (const char *from = colour; *from; from++) {
		if (*from == '\033')
			from = strchr(from, 'm');
		else
			*to++ = *from;
	}
	*to = '\0';
	assert_string_equal(colour, plain);
}

/* The first line of code is the innermost frame of the first finding. */
static void test_first_line_of_code(void **state)
{
	struct report report = ordinary();
	_cleanup_(freep) char *text = render(&report, "text", &(struct report_style){ 0 });
	const char *first = strstr(text, ".py:");

	(void)state;
	assert_non_null(first);
	assert_int_equal(strncmp(first - strlen("/srv/app/cache"), "/srv/app/cache.py:41  Cache.put\n", 32), 0);
}

static void test_json_reads_back(void **state)
{
	static const char *const keys[] = {
		"schema", "target", "window", "coverage", "memory", "verdict", "findings", "more",
	};
	struct report report = ordinary();
	_cleanup_(freep) char *text = render(&report, "json", &(struct report_style){ 0 });
	json_t *root = json_loads(text, 0, NULL), *value;
	const char *key;
	size_t i = 0;

	(void)state;
	assert_non_null(root);
	assert_int_equal(strchr(text, '\n') - text, strlen(text) - 1);
	json_object_foreach(root, key, value)
		assert_string_equal(key, keys[i++]);
	assert_int_equal(i, 8);
	json_decref(root);
}

static void test_broken_stream(void **state)
{
	struct report report = ordinary();
	_cleanup_(fclosep) FILE *full = fopen("/dev/full", "w");

	(void)state;
	assert_non_null(full);
	assert_int_equal(report_write(&report_text, &report, &(struct report_style){ 0 }, full), -ENOSPC);
	clearerr(full);
	assert_int_equal(report_write(&report_json, &report, &(struct report_style){ 0 }, full), -ENOSPC);
	assert_null(report_writer_find("xml"));
	assert_null(report_writer_find(NULL));
}

static void check_error(const char *format, const struct err *err, const char *expected)
{
	_cleanup_(freep) char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	assert_int_equal(report_error(format, err, false, f), 0);
	fclose(f);
	assert_string_equal(text, expected);
}

static void test_errors(void **state)
{
	struct err err = { .code = -ENOTSUP, .what = "cannot attach to 4242: Python 3.16 is not known", .hint = "this build knows 3.8 to 3.15" };
	struct err evil = { .code = -ENOENT, .what = "no \033[2J\n\xff" };
	struct err bare = { .code = -ENOMEM };

	(void)state;
	check_error("text", &err, "error: cannot attach to 4242: Python 3.16 is not known\nhint: this build knows 3.8 to 3.15\n");
	check_error("json", &err, "{\"schema\": \"leaksnoop.error/1\", \"error\": \"cannot attach to 4242: Python 3.16 is not known\", "
				  "\"hint\": \"this build knows 3.8 to 3.15\"}\n");
	check_error(NULL, &evil, "error: no \\x1b[2J\\n\\xff\n");
	check_error("json", &evil, "{\"schema\": \"leaksnoop.error/1\", \"error\": \"no \\u001B[2J\\n\\uFFFD\", \"hint\": null}\n");
	check_error(NULL, &bare, "error: Cannot allocate memory\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_golden), cmocka_unit_test(test_parsed), cmocka_unit_test(test_hostile_is_harmless),
		cmocka_unit_test(test_colours_add_nothing_else), cmocka_unit_test(test_first_line_of_code),
		cmocka_unit_test(test_json_reads_back), cmocka_unit_test(test_broken_stream), cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
