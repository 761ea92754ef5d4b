/* SPDX-License-Identifier: MIT */
/* What this kernel emulates, measured; and the file that remembers it. Needs root, for uprobes and a /run of its own. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "trace/kernel.h"
#include "trace/kernel_x86.h"

#define ALWAYS ((1u << SITE_NOP1) | (1u << SITE_PUSH) | (1u << SITE_CALL) | (1u << SITE_JMP) | (1u << SITE_JCC))

static char cache[128];
static site_mask_t measured;

/* A /run that nobody else sees. */
static int setup(void **state)
{
	char id[64] = "";
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	(void)state;
	if (!f || !fgets(id, sizeof(id), f) || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("run", "/run", "tmpfs", 0, NULL))
		return -1;
	fclose(f);
	id[strcspn(id, "\n")] = '\0';
	snprintf(cache, sizeof(cache), "/run/leaksnoop/uprobes-%s", id);
	return 0;
}

static void test_measure(void **state)
{
	struct kernel_costs costs;
	struct err err = { 0 };

	(void)state;
	if (kernel_measure(&costs, &err) < 0)
		fail_msg("%s", err.what);
	for (int c = 0; c < SITE_CLASS_COUNT; c++)
		print_message("%-6s %6.2f us%s\n", site_class_name((enum site_class)c), costs.hit_us[c],
			      costs.emulated & (1u << c) ? "  emulated" : "");
	assert_int_equal(costs.emulated & ALWAYS, ALWAYS);
	assert_false(costs.emulated & (1u << SITE_OTHER));
	assert_false(costs.emulated >> SITE_CLASS_COUNT);
	for (int c = 0; c < SITE_CLASS_COUNT; c++)
		if (costs.emulated & (1u << c))
			assert_true(costs.hit_us[c] >= 0 && costs.hit_us[c] < costs.hit_us[SITE_OTHER]);
	measured = costs.emulated;
}

static void write_cache(const char *text, mode_t mode)
{
	FILE *f;

	mkdir("/run/leaksnoop", 0755);
	unlink(cache);
	f = fopen(cache, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(cache, mode), 0);
}

static void test_cache(void **state)
{
	struct stat st;
	uint64_t start;
	char text[32];

	(void)state;
	assert_int_equal(kernel_emulated(), measured);
	assert_int_equal(stat(cache, &st), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_uid == 0 && !(st.st_mode & 022));
	/* The second time it is only read. */
	start = clock_mono_ns(&clock_real);
	assert_int_equal(kernel_emulated(), measured);
	assert_true(clock_seconds_since(&clock_real, start) < 0.05);
	/* And believed. */
	snprintf(text, sizeof(text), "%x\n", ALWAYS);
	write_cache(text, 0644);
	assert_int_equal(kernel_emulated(), ALWAYS);
}

/* What a tracer that may not measure says: the file's mask if it believes it, else the least. */
static site_mask_t unprivileged(void)
{
	site_mask_t mask = 0;
	int status, out[2];
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		mask = kernel_emulated();
		_exit(write(out[1], &mask, sizeof(mask)) == sizeof(mask) ? 0 : 1);
	}
	close(out[1]);
	assert_int_equal(read(out[0], &mask, sizeof(mask)), sizeof(mask));
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return mask;
}

static void expect_refused(const char *what)
{
	if (unprivileged() != ALWAYS)
		fail_msg("'%s' was believed", what);
}

static void test_hostile_cache(void **state)
{
	static const char *const texts[] = { "", "\n", "0\n", "xyz\n", "ffffffff\n", "-1\n", "3fff\n", "1ffffffff\n" };
	char text[32];

	(void)state;
	snprintf(text, sizeof(text), "%x\n", ALWAYS | 1u << SITE_NOP2);
	write_cache(text, 0644);
	assert_int_equal(unprivileged(), ALWAYS | 1u << SITE_NOP2);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_cache(texts[i], 0644);
		expect_refused(texts[i]);
	}
	write_cache(text, 0666);
	expect_refused("a file that anyone may write");
	write_cache(text, 0644);
	assert_int_equal(chown(cache, 65534, 65534), 0);
	expect_refused("a file of another user");
	unlink(cache);
	assert_int_equal(mkfifo(cache, 0644), 0);
	expect_refused("a pipe");
	unlink(cache);
	assert_int_equal(mkdir(cache, 0755), 0);
	expect_refused("a directory");
	rmdir(cache);
	/* Who may measure does so, and mends the file. */
	write_cache("nonsense\n", 0644);
	assert_int_equal(kernel_emulated(), measured);
	assert_int_equal(unprivileged(), measured);
}

static void test_unprivileged(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct kernel_costs costs;
		struct err err = { 0 };
		int r;

		if (setgid(65534) || setuid(65534))
			_exit(2);
		r = kernel_measure(&costs, &err);
		_exit((r == -EPERM || r == -EACCES) && err.what[0] && err.hint[0] ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_facts(void **state)
{
	struct kernel_facts facts;
	int fd;

	(void)state;
	kernel_facts_read(&facts);
	assert_true(facts.release[0]);
	assert_int_equal(facts.btf, access("/sys/kernel/btf/vmlinux", R_OK) == 0);
	assert_true(facts.uprobes && facts.syscall_tracepoints);
	assert_int_equal(kernel_pmu_type("no-such-pmu"), -ENOENT);
	assert_int_equal(kernel_tracepoint_id("syscalls", "sys_exit_no_such_call"), -ENOENT);
	assert_true(kernel_tracepoint_id("syscalls", "sys_exit_brk") > 0);
	assert_int_equal(kernel_tracepoint_open("no", "such"), -ENOENT);
	fd = kernel_tracepoint_open("syscalls", "sys_exit_brk");
	assert_true(fd >= 0);
	close(fd);
	assert_true(kernel_uprobe_open("/no/such/file", 0, 0) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_measure),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_hostile_cache),
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_facts),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
