/* SPDX-License-Identifier: MIT */
/* Option rows: parsing, bounds, complaints, and that help, dump and table agree. The verbs here are stand-ins. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "cmd/nearest.h"
#include "cmd/options.h"
#include "cmd/verb.h"

struct opts {
	bool passive;
	int frames, format, depth;
	double factor, duration;
	uint64_t ring_size;
	const char *output;
	struct strings include;
};

static const struct option_row rows[] = {
	OPTION(struct opts, passive, FLAG, 'p', "passive", NULL, NULL, "write nothing into the target"),
	OPTION(struct opts, frames, INT, 0, "frames", "N", "25", "frames of a stack", .min = 1, .max = 128),
	OPTION(struct opts, factor, DOUBLE, 0, "factor", "X", "0.5", "a factor", .min = -1, .max = 1),
	OPTION(struct opts, duration, DURATION, 'd', "duration", "TIME", "30s", "how long to trace"),
	OPTION(struct opts, ring_size, SIZE, 0, "ring-size", "SIZE", "16m", "bytes of the ring", .min = 4096, .max = 1u << 30),
	OPTION(struct opts, format, CHOICE, 0, "format", NULL, "text", "what to print", .choices = "text|json"),
	OPTION(struct opts, output, STRING, 'o', "output", "FILE", NULL, "where to print"),
	OPTION(struct opts, include, STRINGS, 0, "include", "GLOB", NULL, "only files that match"),
	OPTION(struct opts, depth, INT, 0, "depth", "N", "-1", "how deep; default: as deep as it goes", .min = -1, .max = 9, .quiet = true),
	OPTION(struct opts, passive, FLAG, 0, "secret", NULL, NULL, "not in help", .hidden = true),
	{ 0 },
};

static int run_never(const void *opts, int argc, char **argv, struct err *err)
{
	(void)opts;
	(void)argc;
	(void)argv;
	return err_set(err, -EIO, "not run here");
}

const struct verb verb_attach = {
	.name = "attach", .args_doc = "PID", .summary = "trace one process", .details = "Example:\n  leaksnoop attach 4242",
	.rows = rows, .opts_size = sizeof(struct opts), .min_args = 1, .max_args = 1, .run = run_never,
};
const struct verb verb_ps = { .name = "ps", .summary = "list", .run = run_never };
const struct verb verb_doctor = { .name = "doctor", .args_doc = "[PID]", .summary = "look", .max_args = 1, .run = run_never };

#define WORDS_MAX 32

/* Parses "attach" and the words of line; args go to ret_arg (the first one). */
static int parse(const char *line, struct opts *opts, char *ret_arg, struct err *err)
{
	static char words[1024];
	char *argv[WORDS_MAX + 1] = { (char *)"attach" }, *save = NULL;
	struct options_found found = { 0 };
	int argc = 1, r;

	snprintf(words, sizeof(words), "%s", line);
	for (char *w = strtok_r(words, " ", &save); w && argc < WORDS_MAX; w = strtok_r(NULL, " ", &save))
		argv[argc++] = w;
	*err = (struct err){ 0 };
	r = options_parse(&verb_attach, argc, argv, opts, &found, err);
	if (r >= 0 && ret_arg)
		snprintf(ret_arg, 64, "%s", found.n_args ? found.args[0] : found.help ? "(help)" : found.dump ? "(dump)" : "");
	free(found.args);
	return r;
}

static void test_defaults(void **state)
{
	struct opts o;
	struct err err;
	char arg[64];

	(void)state;
	assert_int_equal(parse("4242", &o, arg, &err), 0);
	assert_string_equal(arg, "4242");
	assert_false(o.passive);
	assert_int_equal(o.frames, 25);
	assert_int_equal(o.depth, -1);
	assert_true(o.factor == 0.5 && o.duration == 30);
	assert_int_equal(o.ring_size, 16 << 20);
	assert_int_equal(o.format, 0);
	assert_null(o.output);
	assert_int_equal(o.include.n, 0);
}

static void test_values(void **state)
{
	struct opts o;
	struct err err;
	char arg[64];

	(void)state;
	assert_int_equal(parse("-p --frames=3 77 --factor -0.25 -d 1.5m --ring-size 64KiB --format json -o out.json --include a*.py --inc b",
			       &o, arg, &err), 0);
	assert_string_equal(arg, "77");
	assert_true(o.passive && o.frames == 3 && o.factor == -0.25 && o.duration == 90);
	assert_int_equal(o.ring_size, 65536);
	assert_int_equal(o.format, 1);
	assert_string_equal(o.output, "out.json");
	assert_int_equal(o.include.n, 2);
	assert_string_equal(o.include.v[0], "a*.py");
	assert_string_equal(o.include.v[1], "b");
	options_free(&verb_attach, &o);
	assert_null(o.include.v);
	assert_int_equal(parse("-d 200ms -- -5", &o, arg, &err), 0);
	assert_true(o.duration == 0.2);
	assert_string_equal(arg, "-5");
	assert_int_equal(parse("--help --frames nonsense", &o, arg, &err), 0);
	assert_string_equal(arg, "(help)");
	assert_int_equal(parse("--dump-options", &o, arg, &err), 0);
	assert_string_equal(arg, "(dump)");
}

static void test_complaints(void **state)
{
	static const struct {
		const char *line, *what, *hint;
	} cases[] = {
		{ "", "attach: PID is missing", "usage: leaksnoop attach [OPTION...] PID" },
		{ "1 2", "attach: '2' is one argument too many", "usage: leaksnoop attach [OPTION...] PID" },
		{ "1 --frames 1000", "--frames 1000: must be from 1 to 128", "" },
		{ "1 --frames 0", "--frames 0: must be from 1 to 128", "" },
		{ "1 --frames 2.5", "--frames 2.5: must be a whole number", "" },
		{ "1 --frames 99999999999", "--frames 99999999999: must be a whole number", "" },
		{ "1 --frames 0x10", "--frames 0x10: must be a whole number", "" },
		{ "1 --frames nan", "--frames nan: must be a whole number", "" },
		{ "1 --frames=", "--frames : must be a whole number", "" },
		{ "1 --factor 1.5", "--factor 1.5: must be from -1 to 1", "" },
		{ "1 --factor 1e0", "--factor 1e0: must be a number", "" },
		{ "1 --factor .", "--factor .: must be a number", "" },
		{ "1 --duration -3", "--duration -3: must be 0 or more", "" },
		{ "1 --duration 3y", "--duration 3y: must be a time, as 30, 1.5s, 200ms, 5m, 2h or 1d", "" },
		{ "1 --ring-size 1k", "--ring-size 1k: must be from 4096 to 1073741824 bytes", "" },
		{ "1 --ring-size 9999999g", "--ring-size 9999999g: must be a size, as 4096, 64k, 16m or 2g", "" },
		{ "1 --ring-size 1.00001k", "--ring-size 1.00001k: must be a size, as 4096, 64k, 16m or 2g", "" },
		{ "1 --format xml", "--format xml: must be text or json", "" },
		{ "--frmaes 3 1", "attach: there is no option --frmaes", "did you mean --frames?" },
		{ "1 --zzzzzz=3", "attach: there is no option --zzzzzz", "'leaksnoop attach --help' lists the options" },
		{ "1 --f 3", "attach: --f could be --frames, --factor, --format", "'leaksnoop attach --help' lists the options" },
		{ "1 --frames", "attach: --frames needs a value (N)", "'leaksnoop attach --help' lists the options" },
		{ "1 -d", "attach: -d needs a value (TIME)", "'leaksnoop attach --help' lists the options" },
		{ "1 --passive=3", "attach: --passive takes no value", "'leaksnoop attach --help' lists the options" },
		{ "1 -x", "attach: there is no option -x", "'leaksnoop attach --help' lists the options" },
		{ "1 -pxp", "attach: there is no option -x", "'leaksnoop attach --help' lists the options" },
		{ "1 --format json -xp", "attach: there is no option -x", "'leaksnoop attach --help' lists the options" },
		{ "1 --include a --include b --nope", "attach: there is no option --nope", "'leaksnoop attach --help' lists the options" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct opts o;
		struct err err;

		assert_int_equal(parse(cases[i].line, &o, NULL, &err), -EUSAGE);
		assert_string_equal(err.what, cases[i].what);
		assert_string_equal(err.hint, cases[i].hint);
		options_free(&verb_attach, &o);
	}
}

static char *collect(int (*print)(const struct verb *, FILE *), const struct verb *verb)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	assert_non_null(f);
	assert_int_equal(print(verb, f), 0);
	fclose(f);
	return text;
}

/* Every row that is not hidden is in help with its name, value, default; every option of help is a row (or --help). */
static void test_help_agrees_with_rows(void **state)
{
	_cleanup_(freep) char *help = collect(options_help, &verb_attach);
	size_t rows_shown = 0, options_in_help = 0;
	char needle[128];

	(void)state;
	for (const struct option_row *row = rows; row->name; row++) {
		snprintf(needle, sizeof(needle), "--%s%s%s", row->name, row->type == OPTION_FLAG ? "" : "=",
			 row->type == OPTION_FLAG ? "" : row->arg ? row->arg : row->choices);
		assert_int_equal(strstr(help, needle) != NULL, !row->hidden);
		rows_shown += !row->hidden;
		if (row->init) {
			snprintf(needle, sizeof(needle), "(default %s)", row->init);
			assert_int_equal(strstr(help, needle) != NULL, !row->quiet);
		}
	}
	for (const char *s = strstr(help, "  --"); s; s = strstr(s + 4, "  --"))
		options_in_help++;
	for (const char *s = strstr(help, ", --"); s; s = strstr(s + 4, ", --"))
		options_in_help++;
	assert_int_equal(options_in_help, rows_shown + 1);
	assert_non_null(strstr(help, "Usage: leaksnoop attach [OPTION...] PID"));
	assert_non_null(strstr(help, "trace one process"));
	assert_non_null(strstr(help, "leaksnoop attach 4242"));
}

static void test_dump(void **state)
{
	_cleanup_(freep) char *dump = collect(options_dump, &verb_attach);
	size_t lines = 0;

	(void)state;
	assert_non_null(strstr(dump, "frames\t\tint\tN\t25\t1..128\tframes of a stack\n"));
	assert_non_null(strstr(dump, "passive\tp\tflag\t\t\t\twrite nothing into the target\n"));
	assert_non_null(strstr(dump, "format\t\tchoice\ttext|json\ttext\ttext|json\twhat to print\n"));
	assert_null(strstr(dump, "secret"));
	for (const char *s = strchr(dump, '\n'); s; s = strchr(s + 1, '\n'))
		lines++;
	assert_int_equal(lines, 9);
}

static void test_no_rows(void **state)
{
	struct options_found found = { 0 };
	char *argv[] = { (char *)"ps", (char *)"x", NULL };
	struct err err = { 0 };
	_cleanup_(freep) char *help = collect(options_help, &verb_ps);

	(void)state;
	assert_non_null(strstr(help, "--help"));
	assert_int_equal(options_parse(&verb_ps, 1, argv, NULL, &found, &err), 0);
	free(found.args);
	assert_int_equal(options_parse(&verb_ps, 2, argv, NULL, &found, &err), -EUSAGE);
	assert_string_equal(err.what, "ps: 'x' is one argument too many");
	assert_null(options_format(&verb_ps, 2, argv));
}

static void test_format(void **state)
{
	char *json[] = { (char *)"attach", (char *)"--bad", (char *)"--format", (char *)"json", NULL };
	char *equals[] = { (char *)"attach", (char *)"--format=json", (char *)"--format=text", NULL };
	char *after[] = { (char *)"attach", (char *)"--", (char *)"--format=json", NULL };
	char *cut[] = { (char *)"attach", (char *)"--format", NULL };

	(void)state;
	assert_string_equal(options_format(&verb_attach, 4, json), "json");
	assert_string_equal(options_format(&verb_attach, 3, equals), "text");
	assert_string_equal(options_format(&verb_attach, 3, after), "text");
	assert_string_equal(options_format(&verb_attach, 2, cut), "text");
}

static void test_pid(void **state)
{
	static const char *const bad[] = { "", "0", "-1", "abc", "12x", " 1", "4194305", "99999999999999" };
	struct err err = { 0 };
	pid_t pid = 0;

	(void)state;
	assert_int_equal(option_pid("4242", &pid, &err), 0);
	assert_int_equal(pid, 4242);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(option_pid(bad[i], &pid, &err), -EUSAGE);
	assert_int_equal(pid, 4242);
}

static void test_verbs(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_ptr_equal(verb_find("ps"), &verb_ps);
	assert_null(verb_find("p"));
	assert_int_equal(verb_unknown("atach", &err), -EUSAGE);
	assert_string_equal(err.hint, "did you mean 'attach'?");
	verb_unknown("docotr", &err);
	assert_string_equal(err.hint, "did you mean 'doctor'?");
	verb_unknown("frobnicate", &err);
	assert_string_equal(err.hint, "'leaksnoop help' lists what there is");
	assert_int_equal(edit_distance("", "abc"), 3);
	assert_int_equal(edit_distance("abcd", "abdc"), 1);
}

/* What follows the first word of a command is the command's own. */
static void test_command(void **state)
{
	static const struct verb verb = {
		.name = "run", .args_doc = "COMMAND...", .summary = "run one", .rows = rows, .opts_size = sizeof(struct opts),
		.min_args = 1, .max_args = 16, .command = true, .run = run_never,
	};
	const char *plain[] = { "run", "-p", "--frames=3", "ls", "-p", "--frames", "x", "--", "-q", NULL };
	const char *dashes[] = { "run", "-p", "--", "--odd", "--help", "--", "z", NULL };
	const char *none[] = { "run", "-p", NULL };
	struct options_found found = { 0 };
	struct err err = { 0 };
	struct opts o;

	(void)state;
	assert_int_equal(options_parse(&verb, 9, (char **)plain, &o, &found, &err), 0);
	assert_true(o.passive && o.frames == 3);
	assert_int_equal(found.n_args, 6);
	for (int i = 0; i < 6; i++)
		assert_string_equal(found.args[i], plain[3 + i]);
	assert_null(found.args[6]);
	free(found.args);
	assert_int_equal(options_parse(&verb, 7, (char **)dashes, &o, &found, &err), 0);
	assert_int_equal(found.n_args, 4);
	for (int i = 0; i < 4; i++)
		assert_string_equal(found.args[i], dashes[3 + i]);
	free(found.args);
	options_free(&verb, &o);
	assert_int_equal(options_parse(&verb, 2, (char **)none, &o, &found, &err), -EUSAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults), cmocka_unit_test(test_command), cmocka_unit_test(test_values), cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_help_agrees_with_rows), cmocka_unit_test(test_dump), cmocka_unit_test(test_no_rows),
		cmocka_unit_test(test_format), cmocka_unit_test(test_pid), cmocka_unit_test(test_verbs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
