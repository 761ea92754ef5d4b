/* SPDX-License-Identifier: MIT */
/*
 * glibc's heaps from outside against what malloc itself says (mallinfo2(), malloc_info()), in every interpreter at hand: arenas of threads,
 * filled tcaches and fastbins, aligned blocks with mappings of their own, trimmed heaps, a main heap that brk cannot extend. Then a
 * target that changes its heaps at full speed in 4 threads, one that dies, and one that must not grow by being looked at.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "heap/libc_visit.h"
#include "pytarget.h"
#include "target/pagemap.h"
#include "target/proc.h"
#include "target_process.h"

/* libc of the target through ctypes; says() prints what malloc says of itself and waits for a line. */
#define HEAD                                                                                                          \
	"import ctypes, os, random, sys, threading, tempfile, time\n"                                                       \
	"class Info(ctypes.Structure):\n"                                                                             \
	"    _fields_ = [(n, ctypes.c_size_t) for n in 'arena ordblks smblks hblks hblkhd usmblks fsmblks uord ford keep'.split()]\n" \
	"libc = ctypes.CDLL('libc.so.6')\n"                                                                           \
	"for f in (libc.malloc, libc.memalign, libc.fopen, libc.mmap, libc.sbrk): f.restype = ctypes.c_void_p\n"      \
	"libc.free.argtypes = [ctypes.c_void_p]; libc.malloc.argtypes = [ctypes.c_size_t]; libc.sbrk.argtypes = [ctypes.c_long]\n"   \
	"libc.memalign.argtypes = [ctypes.c_size_t] * 2; libc.mallinfo2.restype = Info\n"                             \
	"libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]; libc.fclose.argtypes = [ctypes.c_void_p]\n"     \
	"libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]\n"         \
	"random.seed(7)\n"                                                                                            \
	"def says():\n"                                                                                               \
	"    name = tempfile.mktemp(); f = libc.fopen(name.encode(), b'w'); libc.malloc_info(0, f); libc.fclose(f)\n" \
	"    arenas = open(name).read().count('<heap nr='); os.unlink(name)\n"                                        \
	"    m = libc.mallinfo2()\n"                                                                                  \
	"    os.write(1, b'%d %d %d %d %d %d\\n' % (arenas, m.arena, m.ford, m.hblks, m.hblkhd, m.fsmblks)); os.read(0, 1)\n"        \
	"def work(n, sizes=(10, 24, 100, 600, 3000, 20000, 100000)):\n"                                               \
	"    ps = [libc.malloc(random.choice(sizes)) for i in range(n)]\n"                                            \
	"    random.shuffle(ps)\n"                                                                                    \
	"    for p in ps[:n // 2]: libc.free(p)\n"

static const char plain[] = HEAD "says()\n";

static const char threads[] = HEAD
	"work(3000); done, stay = [], threading.Lock(); stay.acquire()\n"
	"for n in range(3):\n"
	"    t = threading.Thread(target=work, args=(2000,)); t.start(); t.join()\n"
	"for n in range(6): threading.Thread(target=lambda: (work(2500), done.append(n), stay.acquire()), daemon=True).start()\n"
	"while len(done) < 6: time.sleep(0.01)\n"
	"time.sleep(0.1); says()\n";

static const char large[] = HEAD
	"keep = [libc.malloc(n) for n in range(140000, 3000000, 100000)]\n"
	"keep += [libc.memalign(a, 300000) for a in (64, 256, 4096, 8192, 65536, 1 << 20, 2 << 20)]\n"
	"arrays = [bytearray(1 << 20) for n in range(20)]; libc.free(keep[3]); says()\n";

/* Something else lies behind the heap: malloc maps what it needs. */
static const char stopped[] = HEAD
	"end = libc.sbrk(0); assert libc.mmap(end, 4096, 0, 0x22 | 0x100000, -1, 0) == end\n"
	"work(4000); says()\n";

static const char trimmed[] = HEAD
	"keep = [bytes([n % 255 + 1]) * 3000 for n in range(20000)]; del keep[::2]; holes = [k for k in keep if len(k)]\n"
	"del keep, holes[1000:]; says()\n"
	"libc.malloc_trim(0); says()\n";

struct said {
	uint64_t arenas, system, free, mapped_chunks, mapped, fast;
};

static bool hear(struct pytarget *target, struct said *s)
{
	unsigned long v[6];
	char line[256];

	if (!pytarget_line(target, line, sizeof(line)) ||
	    sscanf(line, "%lu %lu %lu %lu %lu %lu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5]) != 6)
		return false;
	*s = (struct said){ v[0], v[1], v[2], v[3], v[4], v[5] };
	return true;
}

static void go_on(struct pytarget *target)
{
	fputc('\n', target->in);
	fflush(target->in);
}

struct sums {
	uint64_t bytes[3], chunks[3];
};

static int add(void *ctx, raddr_t block, uint64_t bytes, enum libc_chunk_state state)
{
	struct sums *sums = ctx;

	assert_true(block.v % 16 == 0 && bytes > 0 && bytes < 1ull << 40 && state <= LIBC_CHUNK_MMAPPED);
	sums->bytes[state] += bytes;
	sums->chunks[state]++;
	return 0;
}

static void equal(uint64_t got, uint64_t want, const char *what, const struct pyinterp *interp)
{
	if (got != want)
		fail_msg("%s: %s %llu, malloc says %llu", interp->label, what, (unsigned long long)got, (unsigned long long)want);
}

static void compare(const struct pyinterp *interp, const struct python *python, const struct said *said, struct libc_heap_info *i)
{
	struct sums sums = { 0 };
	struct err err;

	if (libc_heap_walk(python, add, &sums, i, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	equal(i->arenas, said->arenas, "arenas", interp);
	equal(i->used + i->free + i->top + i->overhead, said->system, "system memory", interp);
	equal(i->free - i->cached + i->top, said->free, "free", interp);
	equal(i->mmapped_chunks, said->mapped_chunks, "mapped chunks", interp);
	/* 2.43 counts some words more for each mremap() */
	equal(i->mmapped, said->mapped & ~4095ull, "mapped bytes", interp);
	equal(i->refused + i->lost + i->mmapped_missing, 0, "refused", interp);
	equal(sums.chunks[LIBC_CHUNK_USED], i->used_chunks, "used chunks told", interp);
	equal(sums.bytes[LIBC_CHUNK_USED] + 8 * i->used_chunks, i->used, "used bytes told", interp);
	equal(sums.chunks[LIBC_CHUNK_MMAPPED], i->mmapped_chunks, "mapped chunks told", interp);
	assert_true(i->resident_used <= i->used && i->resident_free <= i->free + i->top && i->resident_mmapped <= i->mmapped);
	assert_true(i->trimmable <= i->resident_free);
	/* a tcache holds something in every program */
	assert_true(i->cached_chunks > 0);
}

static void start(const struct pyinterp *interp, const char *program, struct pytarget *target, struct said *said, struct python **python)
{
	struct err err;

	assert_int_equal(pytarget_start(interp, program, NULL, target), 0);
	if (!hear(target, said))
		fail_msg("%s does not run the program", interp->label);
	if (python_open(target->pid, python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
}

/* One interpreter for each libc at hand will do where the interpreter does not matter: Debian's are of three releases. */
static bool is_chosen(const struct pyinterp *interps, size_t k)
{
	return k == 0 || strncmp(interps[k].label, "debian", 6) == 0;
}

typedef void (*info_fn)(const struct libc_heap_info *info);

static void check_program(const char *program, bool all, info_fn check)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	for (size_t k = 0; k < n; k++) {
		_cleanup_(python_freep) struct python *python = NULL;
		struct libc_heap_info info;
		struct pytarget target;
		struct said said;

		if (!all && !is_chosen(interps, k))
			continue;
		start(&interps[k], program, &target, &said, &python);
		compare(&interps[k], python, &said, &info);
		if (check)
			check(&info);
		pytarget_stop(&target);
	}
}

static void test_plain(void **state)
{
	(void)state;
	check_program(plain, true, NULL);
}

static void check_threads(const struct libc_heap_info *info)
{
	assert_true(info->arenas > 2 && info->used > 100 << 20);
}

static void test_threads(void **state)
{
	(void)state;
	check_program(threads, false, check_threads);
}

static void check_large(const struct libc_heap_info *info)
{
	assert_true(info->mmapped > 20 << 20 && info->resident_mmapped < info->mmapped / 2);
}

static void test_large(void **state)
{
	(void)state;
	check_program(large, false, check_large);
}

static void test_stopped_heap(void **state)
{
	(void)state;
	check_program(stopped, false, NULL);
}

/* What is called trimmable is what malloc_trim() gives back; nothing of it is left then. */
static void test_trim(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t k = 0; k < n; k++) {
		_cleanup_(python_freep) struct python *python = NULL;
		struct libc_heap_info before, after;
		struct proc_memory rss[2];
		struct pytarget target;
		struct said said;
		uint64_t given;

		if (!is_chosen(interps, k))
			continue;
		start(&interps[k], trimmed, &target, &said, &python);
		assert_int_equal(proc_memory_read(target.pid, &rss[0]), 0);
		compare(&interps[k], python, &said, &before);
		go_on(&target);
		assert_true(hear(&target, &said));
		assert_int_equal(proc_memory_read(target.pid, &rss[1]), 0);
		compare(&interps[k], python, &said, &after);
		given = rss[0].anon_bytes - rss[1].anon_bytes;
		assert_true(before.trimmable > 8 << 20 && after.trimmable < 256 << 10);
		/* saying it touched some pages again */
		assert_true(given <= before.trimmable && given + (256 << 10) > before.trimmable);
		pytarget_stop(&target);
	}
}

/* Pages that are not there are not brought in: neither what was never touched nor what was given back. */
static void test_does_not_touch(void **state)
{
	static const char program[] = HEAD "keep = [libc.malloc(100 << 20) for n in range(10)]; work(4000); libc.malloc_trim(0); says()\n";
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	_cleanup_(python_freep) struct python *python = NULL;
	struct proc_counters before, after;
	struct libc_heap_info info;
	struct pytarget target;
	struct said said;

	(void)state;
	start(&interps[n - 1], program, &target, &said, &python);
	assert_int_equal(proc_counters_read(target.pid, &before), 0);
	compare(&interps[n - 1], python, &said, &info);
	assert_int_equal(proc_counters_read(target.pid, &after), 0);
	assert_true(info.mmapped > 1000ull << 20);
	assert_true(after.rss_bytes <= before.rss_bytes + (64 << 10));
	pytarget_stop(&target);
}

/* ---- a program in C, without an interpreter ---- */

#define SLOTS 3000

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg + 1;
	static __thread void *blocks[SLOTS];

	for (;;) {
		unsigned i;
		size_t size;

		seed = seed * 1664525u + 1013904223u;
		i = (seed >> 8) % SLOTS;
		size = (seed >> 20) % 7 == 0 ? 20000 + seed % 30000 : (seed >> 16) % 900;
		if ((seed >> 4) % 2000 == 0)
			size = 200000 + seed % 300000;
		free(blocks[i]);
		blocks[i] = malloc(size);
		if (blocks[i])
			memset(blocks[i], 0x5a, size);
	}
	return NULL;
}

static void churn_in_threads(void)
{
	pthread_t thread;

	for (uintptr_t i = 0; i < 4; i++)
		pthread_create(&thread, NULL, churn, (void *)i);
	for (;;)
		pause();
}

struct watch {
	pid_t kill_pid;         /* at chunk number kill_at */
	uint64_t chunks, kill_at, bytes;
};

static int watch_chunk(void *ctx, const struct libc_chunk *chunk)
{
	struct watch *w = ctx;

	if (w->kill_pid && w->chunks == w->kill_at)
		kill(w->kill_pid, SIGKILL);
	assert_true(chunk->size >= 32 && chunk->size < 1ull << 32 && chunk->resident <= chunk->size && chunk->block % 16 == 0);
	w->chunks++;
	w->bytes += chunk->size;
	return 0;
}

/* As libc_heap_walk(), of any process. */
static int walk(pid_t pid, struct rmem *mem, struct watch *w, struct libc_heap_info *info)
{
	_cleanup_(libc_ranges_free) struct libc_ranges taken = { 0 };
	_cleanup_(maps_freep) struct maps *maps = NULL;
	_cleanup_(closep) int pagemap = pagemap_open(pid);
	struct libc_view view = { .mem = mem, .pagemap = pagemap };
	int r = maps_load(pid, &maps);

	view.maps = maps;
	return r < 0 ? r : pagemap < 0 ? pagemap : libc_visit(&view, &taken, watch_chunk, w, info);
}

static bool glibc_serves_us(void)
{
#ifdef __SANITIZE_ADDRESS__
	print_message("skipped: the sanitizer's allocator serves this program\n");
	return false;
#else
	return true;
#endif
}

static pid_t start_churning(void)
{
	pid_t pid = fork();

	/* a test that fails leaves it */
	if (pid == 0 && !prctl(PR_SET_PDEATHSIG, SIGKILL))
		churn_in_threads();
	assert_true(pid > 0);
	usleep(300000);
	return pid;
}

static void test_busy(void **state)
{
	int walks = getenv("LEAKSNOOP_FULL") ? 1000 : 100;
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	_cleanup_(target_stopp) pid_t pid = -1;
	uint64_t lost = 0, all = 0;

	(void)state;
	if (!glibc_serves_us())
		return;
	pid = start_churning();
	assert_int_equal(rmem_open_pid(pid, &mem), 0);
	/* until the threads have made what they will hold */
	for (int i = 0; i < 100; i++) {
		struct libc_heap_info info;
		struct watch w = { 0 };

		assert_int_equal(walk(pid, mem, &w, &info), 0);
		if (info.used_chunks > 9000)
			break;
		usleep(100000);
	}
	for (int i = 0; i < walks; i++) {
		struct libc_heap_info info;
		struct watch w = { 0 };

		assert_int_equal(walk(pid, mem, &w, &info), 0);
		/* 4 threads with up to 3000 blocks of 3.7 KB each; what is free is of that order */
		assert_true(info.used > 20 << 20 && info.used < 200 << 20);
		assert_true(info.free + info.top < 200 << 20 && info.mmapped < 500 << 20);
		assert_true(info.used_chunks > 8000 && info.used_chunks < 20000);
		lost += info.lost;
		all += w.bytes;
	}
	/* what could not be read in peace, of all */
	assert_true(lost * 1000 < all);
}

static void test_killed_midway(void **state)
{
	(void)state;
	if (!glibc_serves_us())
		return;
	for (uint64_t at = 0; at < 20000; at += 2500) {
		_cleanup_(rmem_freep) struct rmem *mem = NULL;
		struct libc_heap_info info;
		pid_t pid = start_churning();
		struct watch w = { .kill_pid = pid, .kill_at = at };
		int r;

		assert_int_equal(rmem_open_pid(pid, &mem), 0);
		r = walk(pid, mem, &w, &info);
		if (r != -ESRCH && r != 0)
			fail_msg("killed at chunk %llu: %s", (unsigned long long)at, strerror(-r));
		target_stop(pid);
		r = walk(pid, mem, &w, &info);
		assert_true(r == -ESRCH || r == -ENOENT);
	}
}

/* A process whose memory is not malloc's. */
static void test_refused(void **state)
{
	static const char text[] = "00400000-00401000 rw-p 00000000 00:00 0 [heap]\n"
				   "7f0000000000-7f0000001000 rw-p 00000000 08:01 1 /lib/libc.so.6\n";
	static const uint8_t zeros[4096];
	const struct rmem_region regions[] = { { 0x400000, zeros, sizeof(zeros) }, { 0x7f0000000000, zeros, sizeof(zeros) } };
	_cleanup_(libc_ranges_free) struct libc_ranges taken = { 0 };
	_cleanup_(maps_freep) struct maps *maps = NULL;
	_cleanup_(rmem_freep) struct rmem *mem = NULL;
	struct libc_view view = { .pagemap = -1 };
	struct libc_heap_info info;

	(void)state;
	assert_int_equal(maps_parse(text, strlen(text), &maps), 0);
	assert_int_equal(rmem_open_regions(regions, 2, &mem), 0);
	view.maps = maps;
	view.mem = mem;
	assert_int_equal(libc_visit(&view, &taken, NULL, NULL, &info), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_large),
		cmocka_unit_test(test_stopped_heap),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_does_not_touch),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_killed_midway),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
