/* SPDX-License-Identifier: MIT */
/* smaps of this process and of texts that make no sense. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "target/proc.h"
#include "target/smaps.h"

#define PAGE 4096ull

static const char two[] = "00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/x\n"
			  "Size:                328 kB\nRss:                 128 kB\nPss:                  64 kB\nAnonymous:             4 kB\n"
			  "Swap:                 12 kB\nVmFlags: rd ex mr mw me\n"
			  "00651000-00652000 rw-p 00051000 08:02 173521 /usr/bin/x\nSize: 4 kB\nRss: 4 kB\nPss: 4 kB\n";

static struct smaps *parse(const char *text)
{
	struct smaps *smaps = NULL;
	int r = smaps_parse(text, strlen(text), &smaps);

	if (r)
		fail_msg("%s: %s", text, strerror(-r));
	return smaps;
}

static void test_text(void **state)
{
	_cleanup_(smaps_freep) struct smaps *smaps = parse(two);

	(void)state;
	assert_int_equal(maps_count(smaps_maps(smaps)), 2);
	assert_string_equal(maps_get(smaps_maps(smaps), 1)->path, "/usr/bin/x");
	assert_int_equal(smaps_usage(smaps, 0)->rss, 128 << 10);
	assert_int_equal(smaps_usage(smaps, 0)->pss, 64 << 10);
	assert_int_equal(smaps_usage(smaps, 0)->swap, 12 << 10);
	assert_int_equal(smaps_usage(smaps, 0)->anonymous, 4 << 10);
	assert_int_equal(smaps_usage(smaps, 1)->rss, 4 << 10);
	assert_int_equal(smaps_total(smaps).rss, 132 << 10);
	assert_int_equal(smaps_total(smaps).pss, 68 << 10);
}

/* Every prefix of it: cut lines and numbers are no harm, and no mapping ever holds more than it is long. */
static void test_torn(void **state)
{
	(void)state;
	for (size_t n = 0; n <= strlen(two); n++) {
		_cleanup_(smaps_freep) struct smaps *smaps = NULL;

		if (smaps_parse(two, n, &smaps) < 0)
			fail_msg("%zu bytes", n);
		assert_true(maps_count(smaps_maps(smaps)) <= 2 && smaps_total(smaps).rss <= 132 << 10);
	}
}

static void test_nonsense(void **state)
{
	static const char *const refused[] = { "Rss: 4 kB\n", "nothing\n", "0-0 r-xp 0 0:0 0\n", "400000-300000 r-xp 0 0:0 0 \n" };
	_cleanup_(smaps_freep) struct smaps *absurd =
		parse("1000-2000 rw-p 00000000 00:00 0 \nRss: 99999999999999999999 kB\nPss: -4 kB\nSwap: kB\nRss:\n"
		      "1800-3000 rw-p 00000000 00:00 0 \nRss: 999 kB\n"
		      "4000-6000 rw-p 00000000 00:00 0 \nRss: 999 kB\n");
	struct smaps *smaps = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		if (smaps_parse(refused[i], strlen(refused[i]), &smaps) != -EINVAL)
			fail_msg("taken: %s", refused[i]);
	assert_int_equal(smaps_parse("1000-2000 r\0", 12, &smaps), -EINVAL);
	/* the second overlaps the first and is gone; the third is cut to its size */
	assert_int_equal(maps_count(smaps_maps(absurd)), 2);
	assert_int_equal(smaps_usage(absurd, 0)->rss, 0);
	assert_int_equal(smaps_usage(absurd, 1)->rss, 0x2000);
}

static void test_own(void **state)
{
	_cleanup_(smaps_freep) struct smaps *smaps = NULL;
	uint8_t *p = mmap(NULL, 100 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct proc_memory memory;
	const struct map *map;

	(void)state;
	madvise(p, 100 * PAGE, MADV_NOHUGEPAGE);
	memset(p, 1, 10 * PAGE);
	/* a mapping to itself: its flags differ from its neighbours' */
	mprotect(p + 50 * PAGE, 50 * PAGE, PROT_NONE);
	assert_int_equal(smaps_load(getpid(), &smaps), 0);
	map = maps_at(smaps_maps(smaps), (uint64_t)(uintptr_t)p);
	assert_non_null(map);
	assert_true(smaps_usage(smaps, (size_t)(map - maps_get(smaps_maps(smaps), 0)))->rss >= 10 * PAGE);
	assert_int_equal(proc_memory_read(getpid(), &memory), 0);
	assert_true(llabs((long long)memory.rss_bytes - (long long)smaps_total(smaps).rss) < 1 << 20);
	assert_true(llabs((long long)memory.pss_bytes - (long long)smaps_total(smaps).pss) < 1 << 20);
	assert_int_equal(smaps_load(0x3fffff, &smaps), -ESRCH);
	munmap(p, 100 * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
