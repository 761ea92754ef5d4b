/* SPDX-License-Identifier: MIT */
/* The progress line, on a pseudo-terminal of our own and by a clock of our own. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "cmd/progress.h"
#include "pty.h"

#define GB 1000000000ull

static uint64_t now_ns;

static uint64_t mono(void *ctx)
{
	(void)ctx;
	return now_ns;
}

static const struct clock test_clock = { .now_mono_ns = mono };

/* What was written to the terminal since the last call. */
static const char *shown(void)
{
	static char text[4096];
	ssize_t n = read(main_fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static struct progress *begin(int fd)
{
	struct progress *p = NULL;

	now_ns = 5 * GB;
	assert_int_equal(progress_new("reading the heap", fd, &test_clock, &p), 0);
	return p;
}

static void test_line(void **state)
{
	struct progress *p;

	(void)state;
	pty_resize(120);
	p = begin(term_fd);
	assert_int_equal(progress_update(p, 1 * GB, 10 * GB), 0);
	now_ns += 2 * GB - 1;
	progress_update(p, 2 * GB, 10 * GB);
	assert_string_equal(shown(), "");
	now_ns += 1;
	progress_update(p, 4 * GB, 10 * GB);
	assert_string_equal(shown(), "\rreading the heap: 40 %, 3815 MiB of 9537 MiB, 2.0 GB/s, 3 s left");
	now_ns += GB / 20;
	progress_update(p, 5 * GB, 10 * GB);
	assert_string_equal(shown(), "");
	/* a shorter line wipes the rest of the one before */
	now_ns += 2 * GB;
	progress_update(p, 9 * GB, 0);
	assert_string_equal(shown(), "\rreading the heap: 8583 MiB, 2.2 GB/s                            ");
	progress_free(p);
	assert_string_equal(shown(), "\r                                    \r");
}

static void test_absurd(void **state)
{
	struct progress *p;
	const char *text;

	(void)state;
	pty_resize(30);
	p = begin(term_fd);
	now_ns += 3 * GB;
	/* more than all, and hardly room */
	progress_update(p, UINT64_MAX, 1);
	text = shown();
	assert_int_equal(strlen(text), 30);
	assert_non_null(strstr(text, "100 %"));
	progress_free(p);
	shown();
	assert_int_equal(progress_update(NULL, 1, 2), 0);
	progress_free(NULL);
}

/* A fast read leaves no trace, and nothing goes into a pipe or a file. */
static void test_silence(void **state)
{
	int fds[2];
	char c;
	struct progress *p;

	(void)state;
	p = begin(term_fd);
	progress_update(p, 1, 2);
	progress_free(p);
	assert_string_equal(shown(), "");
	assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	p = begin(fds[1]);
	now_ns += 10 * GB;
	progress_update(p, GB, 2 * GB);
	now_ns += GB;
	progress_update(p, GB, 2 * GB);
	progress_free(p);
	assert_int_equal(read(fds[0], &c, 1), -1);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_absurd),
		cmocka_unit_test(test_silence),
	};

	return cmocka_run_group_tests(tests, pty_open, pty_close);
}
