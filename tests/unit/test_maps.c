/* SPDX-License-Identifier: MIT */
/* Parsing /proc/PID/maps: what the kernel writes, and what it never would. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <cmocka.h>

#include "target/maps.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static struct maps *parse(const char *text)
{
	struct maps *maps = NULL;

	assert_int_equal(maps_parse(text, strlen(text), &maps), 0);
	assert_non_null(maps);
	return maps;
}

static void test_ordinary(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = parse(
		"00400000-0041f000 r--p 00000000 fe:01 1234                     /usr/bin/python3.11\n"
		"0041f000-006c4000 r-xp 0001f000 fe:01 1234                     /usr/bin/python3.11\n"
		"01a2b000-01b2b000 rw-p 00000000 00:00 0                        [heap]\n"
		"7f0000000000-7f0000001000 rw-s 00001000 00:1f 77 /dev/shm/a b (deleted)\n"
		"7f0000002000-7f0000003000 ---p 00000000 00:00 0 \n"
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0        [vsyscall]\n");
	const struct map *m;

	(void)state;
	assert_int_equal(maps_count(maps), 6);
	m = maps_get(maps, 1);
	assert_true(m->start == 0x41f000 && m->end == 0x6c4000 && m->offset == 0x1f000 && m->inode == 1234);
	assert_true(m->dev == makedev(0xfe, 1));
	assert_true(m->read && !m->write && m->exec && !m->shared && !m->deleted);
	assert_string_equal(m->path, "/usr/bin/python3.11");
	assert_string_equal(maps_get(maps, 2)->path, "[heap]");
	m = maps_get(maps, 3);
	assert_true(m->shared && m->deleted);
	assert_string_equal(m->path, "/dev/shm/a b");
	assert_string_equal(maps_get(maps, 4)->path, "");
	assert_null(maps_get(maps, 6));
}

static void test_at(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = parse("1000-2000 r--p 0 0:0 0 \n2000-3000 r--p 0 0:0 0 \n5000-6000 r--p 0 0:0 0 \n");

	(void)state;
	assert_null(maps_at(maps, 0));
	assert_null(maps_at(maps, 0xfff));
	assert_ptr_equal(maps_at(maps, 0x1000), maps_get(maps, 0));
	assert_ptr_equal(maps_at(maps, 0x1fff), maps_get(maps, 0));
	assert_ptr_equal(maps_at(maps, 0x2000), maps_get(maps, 1));
	assert_null(maps_at(maps, 0x3000));
	assert_ptr_equal(maps_at(maps, 0x5fff), maps_get(maps, 2));
	assert_null(maps_at(maps, 0x6000));
	assert_null(maps_at(maps, UINT64_MAX));
}

static void test_sorted_and_apart(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = parse("5000-9000 r--p 0 0:0 0 \n1000-3000 r--p 0 0:0 0 \n2000-4000 rw-p 0 0:0 0 \n"
							"5000-9000 r--p 0 0:0 0 \n8000-8001 r--p 0 0:0 0 \n");

	(void)state;
	assert_int_equal(maps_count(maps), 2);
	assert_int_equal(maps_get(maps, 0)->start, 0x1000);
	assert_int_equal(maps_get(maps, 1)->start, 0x5000);
}

static void test_torn_and_empty(void **state)
{
	_cleanup_(maps_freep) struct maps *empty = parse("");
	_cleanup_(maps_freep) struct maps *torn = parse("1000-2000 r--p 00000000 fe:01 9 /lib/x\n2000-3000 r--p 00000000 fe:01 9 /lib");

	(void)state;
	assert_int_equal(maps_count(empty), 0);
	assert_null(maps_at(empty, 0));
	assert_int_equal(maps_count(torn), 1);
	maps_free(NULL);
}

static void test_names(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = parse("1000-2000 r--p 0 1:2 3 /a\\012b\\0120 (deleted)\n2000-3000 r--p 0 1:2 3  (deleted)\n"
							"3000-4000 r--p 0 1:2 3 /x\\01\n");

	(void)state;
	assert_string_equal(maps_get(maps, 0)->path, "/a\nb\n0");
	assert_true(maps_get(maps, 0)->deleted);
	assert_string_equal(maps_get(maps, 1)->path, "(deleted)");
	assert_string_equal(maps_get(maps, 2)->path, "/x\\01");
}

static void test_refused(void **state)
{
	static const char *const bad[] = {
		"\n", "hello\n", "1000\n", "1000-\n", "1000-2000\n", "1000-2000 r--p\n", "1000-2000 r--p 0 0:0\n",
		"1000-2000 r--p 0 0:0 0\n",                       /* the kernel writes a space after the inode */
		"2000-1000 r--p 0 0:0 0 \n", "1000-1000 r--p 0 0:0 0 \n", "-2000 r--p 0 0:0 0 \n",
		"10000000000000000-20000000000000000 r--p 0 0:0 0 \n", "1000-2000 rwxq 0 0:0 0 \n", "1000-2000 x--p 0 0:0 0 \n",
		"1000-2000 r--p g 0:0 0 \n", "1000-2000 r--p 0 100000000:0 0 \n", "1000-2000 r--p 0 0:0 99999999999999999999 \n",
		"1000-2000 r--p 0 0:0 a \n", "1000-2000 R--p 0 0:0 0 \n", "0x1000-2000 r--p 0 0:0 0 \n",
	};
	struct maps *maps = NULL;

	(void)state;
	for (size_t i = 0; i < LEN(bad); i++)
		assert_int_equal(maps_parse(bad[i], strlen(bad[i]), &maps), -EINVAL);
	assert_int_equal(maps_parse("1000-2000 r--p 0 0:0 0 a\0b\n", 26, &maps), -EINVAL);
	assert_null(maps);
}

static void test_load(void **state)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;
	struct maps *none = NULL;
	int on_stack = 0;
	const struct map *m;

	(void)state;
	assert_int_equal(maps_load(getpid(), &maps), 0);
	m = maps_at(maps, (uintptr_t)&on_stack);
	assert_non_null(m);
	assert_string_equal(m->path, "[stack]");
	assert_true(m->read && m->write && !m->exec);
	m = maps_at(maps, (uintptr_t)test_load);
	assert_true(m && m->exec && m->inode);
	assert_int_equal(maps_load(0x3fffffff, &none), -ESRCH);
	assert_int_equal(maps_load(0, &none), -ESRCH);
	assert_int_equal(maps_load(-1, &none), -ESRCH);
	assert_null(none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary), cmocka_unit_test(test_at), cmocka_unit_test(test_sorted_and_apart),
		cmocka_unit_test(test_torn_and_empty), cmocka_unit_test(test_names), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_load),
	};

	return cmocka_run_group_tests_name("maps", tests, NULL, NULL);
}
