/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "target/cgroup.h"

static const char mountinfo[] =
	"22 28 0:21 / /proc rw,nosuid shared:14 - proc proc rw\n"
	"25 31 0:24 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n"
	"30 25 0:25 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n"
	"33 25 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
	"34 25 0:28 /docker/abc /inside/memory rw - cgroup cgroup rw,memory\n"
	"torn";

static void check_path(const char *path, const char *wanted)
{
	char *got = NULL;

	assert_int_equal(cgroup_path_parse(mountinfo, path, &got), 0);
	assert_string_equal(got, wanted);
	free(got);
}

static void test_paths(void **state)
{
	(void)state;
	check_path("/sys/fs/cgroup/unified/system.slice/a.service", "/system.slice/a.service");
	check_path("/sys/fs/cgroup/memory/a//b/", "/a/b");
	check_path("/sys/fs/cgroup/memory", "");
	check_path("/sys/fs/cgroup/memory/", "");
	check_path("/inside/memory/x", "/docker/abc/x");
	check_path("/inside/memoryx", "/inside/memoryx");
	check_path("system.slice/a.service/", "/system.slice/a.service");
	check_path("/system.slice", "/system.slice");
	check_path("/", "");
	check_path("", "");
}

static void test_lines(void **state)
{
	static const char v1[] = "9:name=systemd:/\n4:memory:/box/one\n1:cpu,cpuacct:/other:odd\n0::/\n";
	static const char v2[] = "0::/system.slice/web.service\n";

	(void)state;
	assert_true(cgroup_text_has(v1, "/box"));
	assert_true(cgroup_text_has(v1, "/box/one"));
	assert_false(cgroup_text_has(v1, "/box/one/two"));
	assert_false(cgroup_text_has(v1, "/bo"));
	assert_true(cgroup_text_has(v1, "/other:odd"));
	assert_true(cgroup_text_has(v2, "/system.slice"));
	assert_false(cgroup_text_has(v2, "/system"));
	assert_true(cgroup_text_has(v2, ""));
	assert_false(cgroup_text_has("nothing", ""));
	assert_false(cgroup_text_has("", "/a"));
}

static void test_own(void **state)
{
	char *path = NULL;
	bool has = false;

	(void)state;
	assert_int_equal(cgroup_path("/", &path), 0);
	assert_int_equal(cgroup_has(getpid(), path, &has), 0);
	assert_true(has);
	assert_int_equal(cgroup_has(getpid(), "/no/such/group", &has), 0);
	assert_false(has);
	assert_true(cgroup_has(0x7ffffffe, path, &has) < 0);
	free(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
