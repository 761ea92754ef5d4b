/* SPDX-License-Identifier: MIT */
/* Terminals (a pseudo-terminal of our own) and clocks. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/term.h"
#include "pty.h"

static void test_width(void **state)
{
	static const struct { unsigned short columns; const char *env; unsigned want; } cases[] = {
		{ 132, NULL, 132 }, { 5, NULL, 20 },	   { 60000, NULL, 1000 },  { 0, NULL, 80 },	{ 0, "100", 100 },
		{ 0, "3", 20 },	    { 0, "-5", 80 },	   { 0, "x", 80 },	   { 0, "", 80 },	{ 0, "99999999999999999999", 1000 },
		{ 90, "100", 90 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		pty_resize(cases[i].columns);
		if (cases[i].env)
			setenv("COLUMNS", cases[i].env, 1);
		else
			unsetenv("COLUMNS");
		assert_int_equal(term_width(term_fd), cases[i].want);
	}
	unsetenv("COLUMNS");
}

static bool colours(const char *kind, const char *no_color)
{
	struct term term;

	if (kind)
		setenv("TERM", kind, 1);
	else
		unsetenv("TERM");
	if (no_color)
		setenv("NO_COLOR", no_color, 1);
	else
		unsetenv("NO_COLOR");
	term_inspect(term_fd, &term);
	assert_true(term.is_tty && term.width == 77);
	return term.colours;
}

static void test_colours(void **state)
{
	(void)state;
	pty_resize(77);
	assert_true(colours("xterm", NULL));
	assert_true(colours("xterm", ""));
	assert_false(colours("xterm", "0"));
	assert_false(colours("dumb", NULL));
	assert_false(colours("", NULL));
	assert_false(colours(NULL, NULL));
}

static bool many_colours(const char *kind, const char *more, const char *no_color)
{
	struct term term;

	setenv("TERM", kind, 1);
	if (more)
		setenv("COLORTERM", more, 1);
	else
		unsetenv("COLORTERM");
	setenv("NO_COLOR", no_color, 1);
	term_inspect(term_fd, &term);
	return term.colours_256;
}

static void test_many_colours(void **state)
{
	(void)state;
	assert_true(many_colours("xterm-256color", NULL, ""));
	assert_true(many_colours("xterm-direct", NULL, ""));
	assert_true(many_colours("xterm", "truecolor", ""));
	assert_false(many_colours("xterm", NULL, ""));
	assert_false(many_colours("xterm", "", ""));
	assert_false(many_colours("xterm-256color", "truecolor", "1"));
	assert_false(many_colours("dumb", "truecolor", ""));
	unsetenv("NO_COLOR");
	unsetenv("COLORTERM");
}

static void test_no_terminal(void **state)
{
	_cleanup_(closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int fds[] = { null, -1 };

	(void)state;
	setenv("TERM", "xterm", 1);
	setenv("COLUMNS", "100", 1);
	for (size_t i = 0; i < 2; i++) {
		struct term term = { .is_tty = true, .colours = true, .width = 1 };

		term_inspect(fds[i], &term);
		assert_false(term.is_tty || term.colours || term.width);
		assert_int_equal(term_width(fds[i]), 0);
	}
}

static uint64_t fixed_ns(void *ctx)
{
	return *(uint64_t *)ctx;
}

static struct timespec fixed_wall(void *ctx)
{
	return (struct timespec){ .tv_sec = (time_t)(*(uint64_t *)ctx / 1000000000u) };
}

static void test_clock(void **state)
{
	uint64_t now = 5000000000ull, first = clock_mono_ns(&clock_real);
	struct clock clock = { .now_mono_ns = fixed_ns, .now_wall = fixed_wall, .ctx = &now };

	(void)state;
	assert_true(clock_seconds_since(&clock, 3500000000ull) == 1.5);
	assert_true(clock_seconds_since(&clock, now) == 0);
	assert_true(clock_seconds_since(&clock, UINT64_MAX) == 0);
	assert_int_equal(clock_wall(&clock).tv_sec, 5);
	assert_true(clock_mono_ns(&clock_real) >= first);
	assert_true(clock_wall(&clock_real).tv_sec > 1600000000);
	assert_true(clock_seconds_since(&clock_real, first) < 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_width),
		cmocka_unit_test(test_colours),
		cmocka_unit_test(test_many_colours),
		cmocka_unit_test(test_no_terminal),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, pty_open, pty_close);
}
