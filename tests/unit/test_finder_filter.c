/* SPDX-License-Identifier: MIT */
/* Which processes pass, of real ones. Needs root. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "finding.h"
#include "trace/finder_filter.h"

/* Two targets, of which the filter is to let one pass. */
static void check_filter(const char *what, struct finder_options options, pid_t in, pid_t out)
{
	print_message("filter: %s\n", what);
	options.settle_ns = SETTLE;
	options.max = 100;
	finding_open(&options);
	finding_await(in);
	finding_step_for(2 * SETTLE);
	assert_null(finding_last(out));
	finding_close();
}

static void test_filters(void **state)
{
	static const char other_user[] = "import os, sys\nos.setuid(65534)\nprint(flush=True)\nsys.stdin.read()\n";
	char script[] = "/tmp/leaksnoop-finder-XXXXXX", dir[200] = "";
	char *argv[] = { finding_program(), (char *)(uintptr_t)"-u", script, NULL };
	const char *globs[] = { "leaksnoop-find*", NULL }, *groups[] = { dir, NULL }, *below[] = { strrchr(dir, '\0'), NULL };
	struct pytarget plain, other, named;
	uid_t nobody = 65534;
	pid_t pids[2] = { 0 };
	char line[16];

	(void)state;
	assert_true(close(mkstemp(script)) == 0);
	finding_write(script, finding_idle);
	finding_start(&plain, finding_python(), finding_idle);
	finding_start(&other, finding_python(), other_user);
	assert_int_equal(pytarget_exec(argv, NULL, &named), 0);
	assert_true(pytarget_line(&named, line, sizeof(line)));
	pids[0] = plain.pid;
	check_filter("pid", (struct finder_options){ .pids = pids }, plain.pid, other.pid);
	check_filter("user", (struct finder_options){ .uids = &nobody, .n_uids = 1 }, other.pid, plain.pid);
	check_filter("command", (struct finder_options){ .comms = globs }, named.pid, plain.pid);
	if (finding_make_cgroup(dir, sizeof(dir))) {
		finding_join_cgroup(dir, other.pid);
		check_filter("cgroup with its mount", (struct finder_options){ .cgroups = groups }, other.pid, plain.pid);
		below[0] = strrchr(dir, '/') + 1;
		check_filter("cgroup", (struct finder_options){ .cgroups = below }, other.pid, plain.pid);
		check_filter("all", (struct finder_options){ .cgroups = below, .uids = &nobody, .n_uids = 1 }, other.pid, plain.pid);
	} else {
		print_message("no cgroup can be made here: that filter was tried on texts only (test_cgroup)\n");
	}
	pytarget_stop(&plain);
	pytarget_stop(&other);
	pytarget_stop(&named);
	if (dir[0])
		assert_int_equal(rmdir(dir), 0);
	unlink(script);
}

/* A worker that passes, of a parent that does not. */
static void test_filtered_parent(void **state)
{
	static const char program[] = "import os, sys\n"
				      "if os.fork() == 0:\n"
				      "    os.setuid(65534); print(os.getpid(), flush=True)\n"
				      "    os.read(0, 1); os._exit(0)\n"
				      "os.wait()\n";
	static const uid_t nobody = 65534;
	struct finder_options options = { .settle_ns = SETTLE, .max = 1, .uids = &nobody, .n_uids = 1 };
	struct pytarget target;
	pid_t worker;

	(void)state;
	finding_open(&options);
	assert_int_equal(pytarget_start(finding_python(), program, NULL, &target), 0);
	worker = finding_number(&target);
	assert_true(finding_await(worker)->found.forked);
	assert_null(finding_last(target.pid));
	pytarget_stop(&target);
	finding_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_filtered_parent),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
