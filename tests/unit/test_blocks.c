/* SPDX-License-Identifier: MIT */
/*
 * Blocks of real interpreters: what is alive is seen alive and by its name,
 * what was freed is not, and nothing of it is mistaken while threads churn.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "interp/blocks.h"
#include "interp/chunk.h"
#include "interp/obmalloc.h"
#include "interp/python_impl.h"
#include "pytarget.h"

#define LOOKS_MAX 16384

/* A line of the target: tag, type, address of the block, bytes requested (0: find the size class by the pool). */
struct expected {
	char tag[32], type[64];
	unsigned long long addr, size;
};

/* What the programs below share. Address and size of an object's block, from its type's flags (3.11: managed dict; 3.12: or weakrefs). */
#define HELPERS                                                                                                    \
	"import sys, gc, os\n"                                                                                     \
	"gc.collect(); gc.disable()\n"                                                                             \
	"v = sys.version_info[:2]\n"                                                                               \
	"def front(o):\n"                                                                                          \
	"    f = type(o).__flags__\n"                                                                              \
	"    pre = f >> 4 & 1 if v == (3, 11) else f >> 3 & 3 if v >= (3, 12) else 0\n"                            \
	"    return (16 if f >> 14 & 1 else 0) + (16 if pre else 0)\n"                                             \
	"def name(t):\n"                                                                                           \
	"    return t.__qualname__ if t.__module__ == 'builtins' else t.__module__ + '.' + t.__qualname__\n"       \
	"def line(tag, o, size=None):\n"                                                                           \
	"    if size is None: size = sys.getsizeof(o)\n"                                                           \
	"    return '%s %s %d %d' % (tag, name(type(o)), id(o) - front(o), size)\n"                                \
	"def fixed(o): return front(o) + type(o).__basicsize__\n"                                                  \
	"class Session:\n"                                                                                         \
	"    def __init__(self): self.user = 1\n"                                                                  \
	"class Slots: __slots__ = ('a', 'b')\n"                                                                    \
	"class Text(str): pass\n"                                                                                  \
	"class Fault(Exception): pass\n"

static const char kinds[] = HELPERS
	"def outer():\n"
	"    x = [1]\n"
	"    def inner(): return x\n"
	"    return inner\n"
	"inner = outer()\n"
	"r, w = os.pipe(); os.write(w, b'shrunk')\n"
	"shrunk_raw = os.read(r, 60000)\n"
	"shrunk = (b'\\xc3\\xa9' * 90).decode()\n"
	"k = len(sys.argv)\n"
	"objects = [\n"
	"  line('keep', shrunk), line('keep', shrunk_raw)]\n"
	"keep = ['x' * (40 + k), 'y' * (300 + k), '\\u20ac' * (20 + k), '\\U0001f600' * (30 + k), b'b' * (50 + k), 10 ** (30 + k), -10 ** (99 + k),\n"
	"  1.5 * k + 7, 3j * k, (k, 'a', 2), tuple(range(k, 40 + k)), b'L' * (599 + k), b'M' * (1999 + k), b'N' * (199999 + k), 'u' * (5000 + k)]\n"
	"objects += [line('keep', o) for o in keep]\n"
	"keep2 = [[k, 2], {k: 1}, {k, 2}, frozenset((k, 5)), Slots(), inner, inner.__closure__[0], range(k, 1000 + k), Fault('x'),\n"
	"  keep[0].upper, iter([k])]\n"
	"objects += [line('keep', o, fixed(o)) for o in keep2]\n"
	"keep3 = [Session(), Text('abc' * k)]\n"
	"objects += [line('keep', o, 0) for o in keep3]\n"
	"churn = [b'q' * (200 + i % 50) for i in range(1200)]\n"
	"texts = ['%d' % (10 ** 60 + i) for i in range(1200)]\n"
	"slots = [Slots() for i in range(1200)]\n"
	"big = [b'B' * (700 + i) for i in range(300)]\n"
	"huge = [b'H' * (300000 + i) for i in range(10)]\n"
	"objects += [line('keep', o) for o in churn[::3]] + [line('drop', o) for i, o in enumerate(churn) if i % 3]\n"
	"objects += [line('keep', o) for o in texts[::3]] + [line('drop', o) for i, o in enumerate(texts) if i % 3]\n"
	"objects += [line('keep', o, fixed(o)) for o in slots[::3]] + [line('drop', o, fixed(o)) for i, o in enumerate(slots) if i % 3]\n"
	"objects += [line('keep', o) for o in big[::3]] + [line('drop-big', o) for i, o in enumerate(big) if i % 3]\n"
	"objects += [line('keep', o) for o in huge[::2]] + [line('drop-huge', o) for i, o in enumerate(huge) if i % 2]\n"
	"dicts = [{'a': 1} for i in range(40)]; lists = [[1] for i in range(40)]\n"
	"objects += [line('park', o, fixed(o)) for o in dicts] + [line('park', o, fixed(o)) for o in lists]\n"
	"o = None\n"
	"sys.stdout.write('\\n'.join(objects) + '\\nend\\n'); sys.stdout.flush()\n"
	"if not sys.stdin.readline(): sys.exit()\n"
	"for a in (churn, texts, slots, big):\n"
	"    for i in range(len(a)):\n"
	"        if i % 3: a[i] = None\n"
	"for i in range(10):\n"
	"    if i % 2: huge[i] = None\n"
	"for i in range(40): dicts[i] = None\n"
	"for i in range(40): lists[i] = None\n"
	"os.write(1, b'end\\n')\n"
	"sys.stdin.read()\n";

struct target {
	struct pytarget process;
	struct python *python;
	struct types *types;
	struct blocks *blocks;
	struct expected *expected;
	struct block_look *looks;
	size_t n;
};

/* The size of the pool's blocks for a block that has none given; debug hooks (env) take 24 bytes of each. */
static uint64_t size_by_pool(const struct target *t, raddr_t addr)
{
	for (uint32_t class = 0; class < 32; class++)
		if (obmalloc_pool_alive(t->python, addr, class) == 1)
			return 16 * (class + 1);
	fail_msg("no pool holds %llx", (unsigned long long)addr.v);
	return 0;
}

static void start(struct target *t, const struct pyinterp *interp, const char *program, const char *const *env)
{
	struct err err = { 0 };
	char line[256];

	memset(t, 0, sizeof(*t));
	t->expected = calloc(LOOKS_MAX, sizeof(*t->expected));
	t->looks = calloc(LOOKS_MAX, sizeof(*t->looks));
	assert_int_equal(pytarget_start(interp, program, env, &t->process), 0);
	while (pytarget_line(&t->process, line, sizeof(line)) && strcmp(line, "end") != 0 && t->n < LOOKS_MAX) {
		struct expected *e = &t->expected[t->n++];

		assert_int_equal(sscanf(line, "%31s %63s %llu %llu", e->tag, e->type, &e->addr, &e->size), 4);
	}
	assert_string_equal(line, "end");
	pytarget_rest(&t->process);
	if (python_open(t->process.pid, &t->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(types_new(t->python, &t->types), 0);
	assert_int_equal(blocks_new(t->python, t->types, &t->blocks), 0);
	for (size_t i = 0; i < t->n; i++) {
		if (!t->expected[i].size && !(env && strstr(env[0], "=malloc")))
			t->expected[i].size = size_by_pool(t, RADDR(t->expected[i].addr)) - (env ? 24 : 0);
		t->looks[i] = (struct block_look){ .addr = RADDR(t->expected[i].addr), .size = t->expected[i].size };
	}
}

static void stop(struct target *t)
{
	blocks_free(t->blocks);
	types_free(t->types);
	python_free(t->python);
	pytarget_stop(&t->process);
	free(t->expected);
	free(t->looks);
}

static void go_on(struct target *t)
{
	char line[64];

	fputs("\n", t->process.in);
	fflush(t->process.in);
	assert_true(pytarget_line(&t->process, line, sizeof(line)));
	pytarget_rest(&t->process);
}

static void must_live(const struct target *t, const struct pyinterp *interp, size_t i)
{
	const struct expected *e = &t->expected[i];
	const struct block_look *look = &t->looks[i];

	if (look->state != BLOCK_LIVE || strcmp(types_name(t->types, look->type), e->type) != 0 || !look->print)
		fail_msg("%s: a live %s of %llu bytes at %llx has state %d, type %s, print %llx", interp->label, e->type, e->size,
			 e->addr, look->state, types_name(t->types, look->type), (unsigned long long)look->print);
}

/* Freed: not there, or something else by now. Counts those that something else took. */
static size_t must_be_gone(const struct target *t, const struct pyinterp *interp, size_t i, uint64_t print)
{
	const struct expected *e = &t->expected[i];
	const struct block_look *look = &t->looks[i];

	if (look->state == BLOCK_LIVE && look->print == print)
		fail_msg("%s: a freed %s (%s) of %llu bytes at %llx looks alive", interp->label, e->tag, e->type, e->size, e->addr);
	return look->state == BLOCK_LIVE;
}

static void check_after(struct target *t, const struct pyinterp *interp, const struct block_look *before)
{
	size_t dropped = 0, reused = 0, parked = 0, typed = 0, drop_big = 0;

	for (size_t i = 0; i < t->n; i++) {
		const struct expected *e = &t->expected[i];

		if (strcmp(e->tag, "keep") == 0) {
			must_live(t, interp, i);
			assert_int_equal(t->looks[i].print, before[i].print);
			continue;
		}
		reused += must_be_gone(t, interp, i, before[i].print);
		dropped++;
		drop_big += strcmp(e->tag, "drop-big") == 0 && t->looks[i].state != BLOCK_LIVE;
		if (strcmp(e->tag, "park") == 0 && t->looks[i].state == BLOCK_FREE) {
			parked++;
			typed += strcmp(types_name(t->types, t->looks[i].type), e->type) == 0;
		}
	}
	print_message("%s: %zu freed, %zu of them reused, %zu parked (%zu known by type), %zu of 200 big seen free\n", interp->label,
		      dropped, reused, parked, typed, drop_big);
	assert_true(dropped > 2500 && reused * 20 < dropped);
	assert_true(parked >= 70 && typed >= 60);
	assert_true(drop_big >= 190);
	assert_int_equal(blocks_stats(t->blocks).unsure, 0);
}

/* A block of which less was asked for than the object in it needs was another's: a later object took its place in the size class. */
static void must_tell_another(struct target *t, const struct pyinterp *interp)
{
	size_t told = 0;

	for (size_t i = 0; i < t->n; i++) {
		const struct expected *e = &t->expected[i];
		struct block_look look = { .addr = RADDR(e->addr), .size = e->size - 8 };

		if (strcmp(e->type, "__main__.Slots") != 0)
			continue;
		assert_int_equal(blocks_look(t->blocks, &look, 1), 0);
		if (look.state != BLOCK_GONE)
			fail_msg("%s: a block of %llu bytes with an object of %llu has state %d", interp->label, e->size - 8, e->size, look.state);
		told++;
	}
	assert_true(told > 1000);
}

static void kinds_of(const struct pyinterp *interp, const char *const *env)
{
	_cleanup_(freep) struct block_look *before = NULL;
	struct target t;

	start(&t, interp, kinds, env);
	assert_int_equal(blocks_look(t.blocks, t.looks, t.n), 0);
	for (size_t i = 0; i < t.n; i++)
		must_live(&t, interp, i);
	must_tell_another(&t, interp);
	before = calloc(t.n, sizeof(*before));
	memcpy(before, t.looks, t.n * sizeof(*before));
	go_on(&t);
	assert_int_equal(blocks_look(t.blocks, t.looks, t.n), 0);
	check_after(&t, interp, before);
	stop(&t);
}

static void test_kinds(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		kinds_of(&interps[i], NULL);
}

/* Where no block can be, whatever the size. */
static void test_nowhere(void **state)
{
	static const uint64_t addrs[] = { 0, 16, 4096, 1ull << 47, UINT64_MAX - 15, UINT64_MAX, 0x7ffffffff000 };
	struct block_look looks[64];
	struct target t;
	size_t interps_n, n = 0;
	const struct pyinterp *interps = pyinterps(&interps_n);

	(void)state;
	start(&t, &interps[0], kinds, NULL);
	for (size_t i = 0; i < sizeof(addrs) / sizeof(addrs[0]); i++)
		for (uint64_t size = 0; size < 8; size++)
			looks[n++] = (struct block_look){ .addr = RADDR(addrs[i]), .size = size == 7 ? UINT64_MAX : size * 200 };
	assert_int_equal(blocks_look(t.blocks, looks, n), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(looks[i].state, BLOCK_GONE);
	/* off the grid, and of another class */
	looks[0] = (struct block_look){ .addr = RADDR(t.looks[2].addr.v + 8), .size = t.looks[2].size };
	looks[1] = (struct block_look){ .addr = t.looks[2].addr, .size = t.looks[2].size + 100 };
	looks[2] = (struct block_look){ .addr = t.looks[2].addr, .size = t.looks[2].size };
	assert_int_equal(blocks_look(t.blocks, looks, 3), 0);
	assert_int_equal(looks[0].state, BLOCK_GONE);
	assert_int_equal(looks[1].state, BLOCK_GONE);
	assert_int_equal(looks[2].state, BLOCK_LIVE);
	/* the block's own size, whatever was asked for: 13/16 of it may be what a realloc in place left */
	assert_true(looks[2].block_bytes % 16 == 0 && looks[2].block_bytes >= looks[2].size && looks[2].block_bytes < looks[2].size + 16);
	looks[0] = (struct block_look){ .addr = t.looks[2].addr, .size = looks[2].block_bytes * 13 / 16 };
	assert_int_equal(blocks_look(t.blocks, looks, 1), 0);
	assert_int_equal(looks[0].state, BLOCK_LIVE);
	assert_int_equal(looks[0].block_bytes, looks[2].block_bytes);
	assert_int_equal(blocks_look(t.blocks, looks, 0), 0);
	stop(&t);
}

/* Two threads allocate and free all the time around blocks that live: those stay live, with type and print. */
static const char churning[] = HELPERS
	"import threading\n"
	"keep = []\n"
	"for i in range(3000):\n"
	"    keep.append(Slots()); keep.append(b'c' * (60 + i % 200)); keep.append((i, i)); drop = [Slots() for k in range(5)]\n"
	"out = [line('keep', o, fixed(o) if type(o) is Slots else None) for o in keep]\n"
	"def run():\n"
	"    while True:\n"
	"        a = [Slots() for i in range(2000)]; b = [b'd' * (60 + i % 200) for i in range(2000)]; c = [(i, a) for i in range(2000)]\n"
	"for i in range(2): threading.Thread(target=run, daemon=True).start()\n"
	"sys.stdout.write('\\n'.join(out) + '\\nend\\n'); sys.stdout.flush()\n"
	"sys.stdin.read()\n";

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void churn_of(const struct pyinterp *interp)
{
	_cleanup_(freep) uint64_t *prints = NULL;
	struct target t;
	size_t unsure = 0;
	double best = 1;

	start(&t, interp, churning, NULL);
	prints = calloc(t.n, sizeof(*prints));
	for (int round = 0; round < 20; round++) {
		assert_int_equal(blocks_look(t.blocks, t.looks, t.n), 0);
		for (size_t i = 0; i < t.n; i++) {
			if (t.looks[i].state == BLOCK_UNSURE) {
				unsure++;
				continue;
			}
			must_live(&t, interp, i);
			assert_true(!prints[i] || prints[i] == t.looks[i].print);
			prints[i] = t.looks[i].print;
		}
	}
	for (int round = 0; round < 20; round++) {
		double from = seconds(), took;

		assert_int_equal(blocks_look(t.blocks, t.looks + 1000, 1000), 0);
		took = seconds() - from;
		best = took < best ? took : best;
	}
	print_message("%s: %zu of %zu looks unsure; best of 20: %.2f us a block (1,000 blocks); %llu pools walked\n", interp->label, unsure,
		      20 * t.n, best * 1e3, (unsigned long long)blocks_stats(t.blocks).pools_walked);
	assert_true(unsure * 100 < 20 * t.n);
	stop(&t);
}

static void test_churn(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		churn_of(&interps[i]);
}

/*
 * The worst case: every pool has a long free list and every block a first word of 0, so that pools must be read whole. The
 * blocks are taken far from each other.
 */
#define SCATTERED(make) HELPERS \
	"make = lambda i: " make "\n" \
	"a = [make(i) for i in range(600000)]\n" \
	"gc.collect()\n" \
	"a = [o for i, o in enumerate(a) if i % 3 == 0]\n" \
	"out = [line('keep', o, fixed(o) + (8 if type(o) is tuple else 0)) for o in a[::200]]\n" \
	"sys.stdout.write('\\n'.join(out) + '\\nend\\n'); sys.stdout.flush()\n" \
	"sys.stdin.read()\n"

static const char tuples[] = SCATTERED("(i,)");
static const char instances[] = SCATTERED("Slots()");

static void scattered_of(const struct pyinterp *interp, const char *program, const char *what)
{
	struct target t;
	double best = 1;

	start(&t, interp, program, NULL);
	assert_int_equal(t.n, 1000);
	for (int round = 0; round < 10; round++) {
		double from = seconds(), took;

		assert_int_equal(blocks_look(t.blocks, t.looks, t.n), 0);
		took = seconds() - from;
		best = took < best ? took : best;
	}
	for (size_t i = 0; i < t.n; i++)
		must_live(&t, interp, i);
	print_message("%s: best of 10: %.2f us a block (1,000 scattered %s), %.0f pools walked a look\n", interp->label, best * 1e3, what,
		      (double)blocks_stats(t.blocks).pools_walked / 10);
	stop(&t);
}

static void test_scattered(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		scattered_of(&interps[i], tuples, "tuples");
		scattered_of(&interps[i], instances, "instances");
	}
}

/* The same with debug hooks, whose frees leave no contents, and with malloc for all. */
static void test_debug_hooks(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=debug", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		kinds_of(&interps[i], env);
}

/*
 * With malloc for all, small chunks may lie in a fastbin, where nothing but the contents tells; what must not happen is a freed
 * block that looks alive and is not said to be known by its contents only.
 */
static void test_malloc_for_all(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct target t;
		size_t free_seen = 0, weak = 0, wrong = 0;

		start(&t, &interps[i], kinds, env);
		go_on(&t);
		assert_int_equal(blocks_look(t.blocks, t.looks, t.n), 0);
		for (size_t k = 0; k < t.n; k++) {
			const struct block_look *look = &t.looks[k];

			if (strcmp(t.expected[k].tag, "keep") == 0) {
				if (t.expected[k].size)
					must_live(&t, &interps[i], k);
				continue;
			}
			free_seen += look->state != BLOCK_LIVE;
			weak += look->state == BLOCK_LIVE && look->by_contents;
			wrong += look->state == BLOCK_LIVE && !look->by_contents && look->type;
		}
		print_message("%s: malloc: %zu seen free, %zu not to be told, %zu wrong\n", interps[i].label, free_seen, weak, wrong);
		assert_int_equal(wrong, 0);
		assert_true(free_seen > 1500);
		stop(&t);
	}
}

/* The key of the tcaches, as a second process of the same kind would not have it. */
static void test_key(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		uint64_t keys[2] = { 0 };

		for (int k = 0; k < 2; k++) {
			struct target t;

			start(&t, &interps[i], kinds, NULL);
			assert_int_equal(chunk_find_key(t.python, &keys[k]), 0);
			stop(&t);
		}
		assert_int_not_equal(keys[0], keys[1]);
	}
}

static bool is_glibc(const char *text)
{
	_cleanup_(maps_freep) struct maps *maps = NULL;

	assert_int_equal(maps_parse(text, strlen(text), &maps), 0);
	return chunk_is_glibc(maps);
}

static void test_chunks(void **state)
{
	struct chunk c;

	(void)state;
	assert_true(is_glibc("7f00000000-7f00001000 r-xp 00000000 00:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6\n"));
	assert_true(is_glibc("7f00000000-7f00001000 r-xp 00000000 00:00 1 /lib/libc-2.31.so\n"));
	assert_false(is_glibc("7f00000000-7f00001000 r-xp 00000000 00:00 1 /lib/ld-musl-x86_64.so.1\n"));
	assert_false(is_glibc("7f00000000-7f00001000 r-xp 00000000 00:00 1 /lib/libc.so.6\n"
			      "7f00002000-7f00003000 r-xp 00000000 00:00 1 /lib/libjemalloc.so.2\n"));
	assert_false(is_glibc("400000-500000 r-xp 00000000 00:00 1 /srv/python3-static\n"));
	/* malloc(600): 608 + 1, or 16 more where the rest would be too small; nothing else */
	assert_true(chunk_parse(0x261, 600, 1, &c) && c.size == 0x260 && !c.may_hide);
	assert_true(chunk_parse(0x261, 600, 0, &c) && c.may_hide);
	assert_true(chunk_parse(0x271, 600, 1, &c) && chunk_parse(0x265, 600, 1, &c));
	assert_false(chunk_parse(0x281, 600, 1, &c) || chunk_parse(0x251, 600, 1, &c) || chunk_parse(0x269, 600, 1, &c));
	assert_false(chunk_parse(0, 600, 1, &c) || chunk_parse(UINT64_MAX, 600, 1, &c) || chunk_parse(0x261, UINT64_MAX, 1, &c));
	assert_true(chunk_parse(0x21, 0, 1, &c) && c.may_hide);
	/* mappings of their own, up to 2.42 and from 2.43 */
	assert_true(chunk_parse(0x31002, 200032, 1, &c) && c.mmapped && chunk_parse(0x49ff2, 300033, 1, &c) && c.mmapped);
	assert_false(chunk_parse(0x31002, 300033, 1, &c) || chunk_parse(0x31012, 200032, 1, &c) || chunk_parse(0x4000002, 200032, 1, &c));
}

/* The process is gone: an error, not a verdict. */
static void test_exit(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	struct target t;

	(void)state;
	start(&t, &interps[0], kinds, NULL);
	pytarget_stop(&t.process);
	assert_int_equal(blocks_look(t.blocks, t.looks, t.n), -ESRCH);
	t.process.pid = 0;
	stop(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_nowhere),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_debug_hooks),
		cmocka_unit_test(test_malloc_for_all),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
