/* SPDX-License-Identifier: MIT */
/* Pages of this process and of others: touched, given back, reserved by the terabyte, gone. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "target/pagemap.h"
#include "target_process.h"

#define PAGE 4096ull

static uint8_t *reserve(size_t size)
{
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(madvise(p, size, MADV_NOHUGEPAGE), 0);
	return p;
}

static uint64_t count(int fd, const void *start, size_t size)
{
	uint64_t bytes = UINT64_MAX, at = (uint64_t)(uintptr_t)start;
	int r = pagemap_count(fd, at, at + size, &bytes);

	if (r)
		fail_msg("pagemap_count: %s", strerror(-r));
	return bytes;
}

/* Sizes on both sides of a batch, and of the limit from which the kernel is asked to scan. */
static void test_own(void **state)
{
	static const size_t sizes[] = { 4 * PAGE, 1024 * PAGE, 3001 * PAGE, 32 << 20, 64 << 20, 300 << 20 };
	_cleanup_(closep) int fd = pagemap_open(getpid());

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *p = reserve(sizes[i]);

		assert_int_equal(count(fd, p, sizes[i]), 0);
		for (size_t page = 0; page < sizes[i] / PAGE; page += 3)
			p[page * PAGE + 17] = 1;
		assert_int_equal(count(fd, p, sizes[i]), (sizes[i] / PAGE + 2) / 3 * PAGE);
		/* Bounds are widened to pages. */
		assert_int_equal(count(fd, p + 100, 1), PAGE);
		assert_int_equal(count(fd, p + PAGE - 1, 2), PAGE);
		assert_int_equal(madvise(p, sizes[i] - PAGE, MADV_DONTNEED), 0);
		p[sizes[i] - 1] = 1;
		assert_int_equal(count(fd, p, sizes[i]), PAGE);
		munmap(p, sizes[i]);
		assert_int_equal(count(fd, p, sizes[i]), 0);
	}
}

/* A reservation of 8 TiB with three pages in it: at once, or not at all. */
static void test_reservation(void **state)
{
	_cleanup_(closep) int fd = pagemap_open(getpid());
	size_t size = (size_t)8 << 40;
	uint8_t *p = reserve(size);
	uint64_t bytes = 0;
	int r;

	(void)state;
	p[0] = p[size / 2] = p[size - 1] = 1;
	r = pagemap_count(fd, (uint64_t)(uintptr_t)p, (uint64_t)(uintptr_t)p + size, &bytes);
	if (r == -E2BIG)
		print_message("this kernel has no PAGEMAP_SCAN (6.7)\n");
	else
		assert_true(r == 0 && bytes == 3 * PAGE);
	munmap(p, size);
}

/* What is in memory as RSS counts it: neither pages that were only read nor those never touched. */
static void test_resident(void **state)
{
	static const size_t sizes[] = { 64 * PAGE, 3000 * PAGE, 128 << 20 };
	_cleanup_(closep) int fd = pagemap_open(getpid());
	static uint64_t bits[(128 << 20) / PAGE / 64];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		volatile uint8_t *p = reserve(sizes[i]);
		uint64_t start = (uint64_t)(uintptr_t)p, bytes = 0, pages = sizes[i] / PAGE, set = 0;

		for (uint64_t page = 0; page < pages; page++) {
			if (page % 3 == 0)
				p[page * PAGE] = 1;
			else if (page % 3 == 1)
				(void)p[page * PAGE];
		}
		assert_int_equal(pagemap_resident_count(fd, start, start + sizes[i], &bytes), 0);
		assert_int_equal(bytes, (pages + 2) / 3 * PAGE);
		assert_int_equal(pagemap_resident(fd, start, start + sizes[i], bits), 0);
		for (uint64_t page = 0; page < pages; page++) {
			assert_int_equal(bits[page / 64] >> (page % 64) & 1, page % 3 == 0);
			set++;
		}
		assert_int_equal(set, pages);
		munmap((void *)(uintptr_t)p, sizes[i]);
	}
	assert_int_equal(pagemap_resident(fd, PAGE + 1, 2 * PAGE, bits), -EINVAL);
	assert_int_equal(pagemap_resident(fd, 2 * PAGE, PAGE, bits), -EINVAL);
	assert_int_equal(pagemap_resident(-1, PAGE, 2 * PAGE, bits), -EBADF);
}

static void test_ranges(void **state)
{
	_cleanup_(closep) int fd = pagemap_open(getpid());
	uint64_t bytes = 42;

	(void)state;
	assert_int_equal(pagemap_count(fd, 5000, 4000, &bytes), -EINVAL);
	assert_int_equal(pagemap_count(fd, 0, UINT64_MAX, &bytes), -EINVAL);
	assert_int_equal(pagemap_count(fd, UINT64_MAX - 10, UINT64_MAX, &bytes), -EINVAL);
	assert_int_equal(pagemap_count(-1, 0, PAGE, &bytes), -EBADF);
	assert_int_equal(pagemap_count(-1, 0, (uint64_t)128 << 20, &bytes), -EBADF);
	assert_int_equal(bytes, 42);
	assert_int_equal(pagemap_count(fd, PAGE, PAGE, &bytes), 0);
	assert_int_equal(bytes, 0);
}

static void test_other(void **state)
{
	_cleanup_(target_stopp) pid_t pid = -1;
	uint8_t *p = reserve(128 << 20);
	uint64_t bytes;
	int fd;

	(void)state;
	memset(p, 1, 10 * PAGE);
	pid = fork();
	if (pid == 0) {
		memset(p + (64 << 20), 1, 5 * PAGE);
		for (;;)
			pause();
	}
	fd = pagemap_open(pid);
	assert_true(fd >= 0);
	for (int i = 0; i < 1000 && count(fd, p, 128 << 20) < 15 * PAGE; i++)
		usleep(1000);
	assert_int_equal(count(fd, p, 128 << 20), 15 * PAGE);
	/* Its end is the end of the answers, for small ranges and large. */
	target_stop(pid);
	assert_int_equal(pagemap_count(fd, (uint64_t)(uintptr_t)p, (uint64_t)(uintptr_t)p + PAGE, &bytes), -ESRCH);
	assert_int_equal(pagemap_count(fd, (uint64_t)(uintptr_t)p, (uint64_t)(uintptr_t)p + (128 << 20), &bytes), -ESRCH);
	close(fd);
	assert_true(pagemap_open(pid) < 0);
	pid = -1;
	munmap(p, 128 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_reservation),
		cmocka_unit_test(test_resident),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
