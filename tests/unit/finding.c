/* SPDX-License-Identifier: MIT */
#include "finding.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"

struct finding finding;
const char finding_idle[] = "import sys\nprint('ready', flush=True)\nsys.stdin.read()\n";

struct noted *finding_last(pid_t pid)
{
	for (size_t i = finding.n; i > 0; i--)
		if (finding.event[i - 1].found.id.pid == pid)
			return &finding.event[i - 1];
	return NULL;
}

static void on_found(void *ctx, const struct found *found)
{
	struct noted *before = finding_last(found->id.pid);

	(void)ctx;
	assert_true(!before || before->lost);
	assert_true(finding.n < FINDING_MAX);
	finding.event[finding.n].found = *found;
	snprintf(finding.event[finding.n].image, sizeof(finding.event[finding.n].image), "%s", found->image);
	finding.event[finding.n++].lost = false;
}

static void on_lost(void *ctx, struct process_id id, enum process_end end, int code)
{
	struct noted *noted = finding_last(id.pid);

	(void)ctx;
	assert_non_null(noted);
	assert_false(noted->lost);
	assert_int_equal(noted->found.id.start_ticks, id.start_ticks);
	noted->lost = true;
	noted->end = end;
	noted->code = code;
}

const struct finder_events finding_events = { .found = on_found, .lost = on_lost };

void finding_open(const struct finder_options *options)
{
	struct err err = { 0 };

	finding.n = 0;
	if (finder_new(options, &finding_events, &finding.finder, &err) < 0 || finder_start(finding.finder, &err) < 0)
		fail_msg("%s (%s)", err.what, err.hint);
}

void finding_close(void)
{
	finder_free(finding.finder);
	finding.finder = NULL;
}

uint64_t finding_now(void)
{
	return clock_mono_ns(&clock_real);
}

void finding_step(void)
{
	uint64_t next = finder_next_ns(finding.finder), at = finding_now();
	struct pollfd fd = { .fd = finder_fd(finding.finder), .events = POLLIN };

	poll(&fd, 1, next <= at ? 0 : (int)((next - at) / MS + 1));
	assert_int_equal(finder_step(finding.finder, finding_now()), 0);
}

void finding_step_for(uint64_t ns)
{
	for (uint64_t end = finding_now() + ns; finding_now() < end;)
		finding_step();
}

const struct noted *finding_await(pid_t pid)
{
	for (uint64_t end = finding_now() + PATIENCE; finding_now() < end; finding_step())
		if (finding_last(pid) && !finding_last(pid)->lost)
			return finding_last(pid);
	fail_msg("process %d was not found", (int)pid);
	return NULL;
}

const struct noted *finding_await_lost(pid_t pid, enum process_end end, int code)
{
	for (uint64_t until = finding_now() + PATIENCE; finding_now() < until; finding_step()) {
		const struct noted *noted = finding_last(pid);

		if (!noted || !noted->lost)
			continue;
		assert_int_equal(noted->end, end);
		assert_int_equal(noted->code, code);
		return noted;
	}
	fail_msg("the end of process %d was not told", (int)pid);
	return NULL;
}

pid_t finding_start(struct pytarget *target, const struct pyinterp *interp, const char *program)
{
	char line[64];

	assert_int_equal(pytarget_start(interp, program, NULL, target), 0);
	assert_true(pytarget_line(target, line, sizeof(line)));
	return target->pid;
}

const struct pyinterp *finding_python(void)
{
	size_t n;

	return pyinterps(&n);
}

char *finding_program(void)
{
	static char system[] = "/usr/bin/python3";

	return finding_python()->argv[1] ? system : finding_python()->argv[0];
}

int finding_number(struct pytarget *target)
{
	char line[64];

	assert_true(pytarget_line(target, line, sizeof(line)));
	return atoi(line);
}

const struct finder_options finding_usual = { .settle_ns = SETTLE, .max = 1000 };

void finding_say(struct pytarget *target, const char *text)
{
	fputs(text, target->in);
	fflush(target->in);
}

void finding_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

bool finding_make_cgroup(char *dir, size_t size)
{
	static const char *const tops[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };

	for (size_t i = 0; i < sizeof(tops) / sizeof(tops[0]); i++) {
		char procs[256];

		snprintf(dir, size, "%s/leaksnoop-test-%d", tops[i], (int)getpid());
		if (mkdir(dir, 0755) < 0)
			continue;
		snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir);
		if (access(procs, W_OK) == 0)
			return true;
		rmdir(dir);
	}
	return false;
}

void finding_join_cgroup(const char *dir, pid_t pid)
{
	char path[300], text[16];

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	snprintf(text, sizeof(text), "%d", (int)pid);
	finding_write(path, text);
}
