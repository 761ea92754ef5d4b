/* SPDX-License-Identifier: MIT */
/* Remote memory: our own process, a process that has ended, recorded regions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "interp/rmem.h"

#define AT(p) RADDR((uintptr_t)(p))

static void test_live(void **state)
{
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char text[16];
	uint64_t u64 = 7;

	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(munmap(page + 4096, 4096), 0);
	memcpy(page + 4092, "abc", 4);
	assert_int_equal(rmem_open_pid(getpid(), &mem), 0);
	assert_int_equal(rmem_cstr(mem, AT(page + 4092), text, sizeof(text)), 0);
	assert_string_equal(text, "abc");
	assert_int_equal(rmem_cstr(mem, AT(page + 4092), text, 3), 0);
	assert_string_equal(text, "ab");
	assert_int_equal(rmem_u64(mem, AT(page + 4092), &u64), -EFAULT);
	assert_int_equal(u64, 7);
	page[4095] = 'x';
	assert_int_equal(rmem_cstr(mem, AT(page + 4092), text, sizeof(text)), -EFAULT);
	assert_int_equal(rmem_read(mem, RADDR(0), text, 1), -EFAULT);
	assert_int_equal(rmem_read(mem, RADDR(UINT64_MAX - 2), text, 8), -EFAULT);
	assert_int_equal(rmem_read(mem, RADDR(1ull << 60), text, 8), -EFAULT);
	assert_int_equal(rmem_read(mem, RADDR(0), text, 0), 0);
	assert_true(rmem_reads(mem) >= 4 && rmem_bytes_read(mem) >= 4);
	munmap(page, 4096);
}

static void test_gather(void **state)
{
	static uint64_t numbers[600];
	static uint64_t got[600];
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	raddr_t addrs[600];

	(void)state;
	for (size_t i = 0; i < 600; i++) {
		numbers[i] = i * i;
		addrs[i] = AT(&numbers[599 - i]);
	}
	assert_int_equal(rmem_open_pid(getpid(), &mem), 0);
	assert_int_equal(rmem_gather(mem, addrs, 600, sizeof(got[0]), got), 0);
	for (size_t i = 0; i < 600; i++)
		assert_int_equal(got[i], (599 - i) * (599 - i));
	assert_int_equal(rmem_gather(mem, addrs, 0, 8, got), 0);
	addrs[300] = RADDR(8);
	assert_int_equal(rmem_gather(mem, addrs, 600, sizeof(got[0]), got), -EFAULT);
}

static void test_ended(void **state)
{
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	pid_t pid = fork();
	uint32_t u32;

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_int_equal(rmem_open_pid(0, &mem), -ESRCH);
	assert_int_equal(rmem_open_pid(pid, &mem), 0);
	assert_int_equal(rmem_u32(mem, AT(&u32), &u32), -ESRCH);
}

static void test_regions(void **state)
{
	static const uint8_t low[] = { 1, 2, 3, 4, 'h', 'i', 0 };
	static const uint8_t high[] = { 9 };
	const struct rmem_region regions[] = { { 0x1000, low, sizeof(low) }, { UINT64_MAX, high, sizeof(high) } };
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	raddr_t addrs[] = { { 0x1001 }, { 0x1000 } };
	uint8_t two[2];
	uint32_t u32;
	char text[8];

	(void)state;
	assert_int_equal(rmem_open_regions(regions, 2, &mem), 0);
	assert_int_equal(rmem_u32(mem, RADDR(0x1000), &u32), 0);
	assert_int_equal(u32, 0x04030201);
	assert_int_equal(rmem_u32(mem, RADDR(0x1004), &u32), -EFAULT);
	assert_int_equal(rmem_u32(mem, RADDR(0xfff), &u32), -EFAULT);
	assert_int_equal(rmem_u32(mem, RADDR(UINT64_MAX), &u32), -EFAULT);
	assert_int_equal(rmem_cstr(mem, RADDR(0x1004), text, sizeof(text)), 0);
	assert_string_equal(text, "hi");
	assert_int_equal(rmem_gather(mem, addrs, 2, 1, two), 0);
	assert_int_equal(two[0], 2);
	assert_int_equal(two[1], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_gather),
		cmocka_unit_test(test_ended),
		cmocka_unit_test(test_regions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
