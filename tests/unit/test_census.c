/* SPDX-License-Identifier: MIT */
/* The census against what real interpreters say of themselves, while they change, when they hold garbage, and when they die. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "heap/census.h"
#include "interp/obmalloc.h"
#include "pytarget.h"
#include "target/proc.h"

/*
 * Makes objects of known types and contents between two moments, and then says what it made: "type count bytes" a line, bytes as
 * sys.getsizeof() has them. Two small rounds warm up what is made once.
 */
static const char known[] =
	"import sys, gc, collections\n"
	"gc.disable()\n"
	"class Slot: __slots__ = ('a', 'b', 'c')\n"
	"class Plain:\n"
	"    def __init__(self): self.a = self.b = None\n"
	"class Text(str): pass\n"
	"class Map(dict): pass\n"
	"names = ['name%d' % i for i in range(60)]\n"
	"def twins():\n"
	"    class Twin: pass\n"
	"    return Twin\n"
	"A, B = twins(), twins()\n"
	"def grown(n):\n"
	"    made = []\n"
	"    for i in range(n): made.append(None)\n"
	"    return made\n"
	"def filled(n):\n"
	"    made = {}\n"
	"    for i in range(n): made[names[i]] = None\n"
	"    return made\n"
	"def make(n):\n"
	"    keep = [[i + 0.5 for i in range(12 * n + 345)]]\n"
	"    keep.append([10 ** (18 + i % 50) + i for i in range(5 * n)])\n"
	"    keep.append(['%d ascii' % i for i in range(n)] + ['\\xe9 %d' % i for i in range(n)] + ['\\u0100 %d' % i for i in range(n)])\n"
	"    keep.append(['\\U0001f600 %d' % i for i in range(n)] + ['x' * (600 + i) + str(i) for i in range(n // 4)])\n"
	"    keep.append([b'small %d' % i for i in range(n)] + [bytes(700 + i) for i in range(n // 4)])\n"
	"    keep.append([Slot() for i in range(3 * n)])\n"
	"    keep.append([Plain() for i in range(2 * n)])\n"
	"    keep.append([A() for i in range(n)] + [B() for i in range(n)])\n"
	"    keep.append([set(range(i % 90)) for i in range(n)] + [frozenset(range(i % 90 + 1)) for i in range(n)])\n"
	"    keep.append([[None] * (i % 120) for i in range(n)] + [grown(i % 120) for i in range(n)])\n"
	"    keep.append([tuple([None] * (i % 100 + 1)) for i in range(n)])\n"
	"    keep.append([dict.fromkeys(range(i % 70)) for i in range(n)] + [filled(i % 60) for i in range(n)])\n"
	"    keep.append([Map.fromkeys(names[:i % 50]) for i in range(n)])\n"
	"    keep.append([collections.deque(range(i % 200)) for i in range(n)])\n"
	"    keep.append([bytearray(i) for i in range(n)])\n"
	"    keep.append([complex(i, 1) for i in range(n)])\n"
	"    keep.append([(lambda: None) for i in range(n)])\n"
	"    keep.append([collections.OrderedDict() for i in range(n)])\n"
	"    keep.append([Text('t%d' % i) for i in range(n)])\n"
	"    return keep\n"
	"def name(t):\n"
	"    return t.__qualname__ if t.__module__ in ('builtins', None) else t.__module__ + '.' + t.__qualname__\n"
	"def tell(keep):\n"
	"    said = {}\n"
	"    def add(o):\n"
	"        old = said.get(name(type(o)), (0, 0))\n"
	"        said[name(type(o))] = old[0] + 1, old[1] + sys.getsizeof(o)\n"
	"    add(keep)\n"
	"    for group in keep:\n"
	"        add(group)\n"
	"        for o in group:\n"
	"            add(o)\n"
	/* up to 3.10 an instance with attributes has a dict; later it would be made by asking for it */
	"            if sys.version_info < (3, 11) and type(o) is Plain: add(o.__dict__)\n"
	"    for n, (count, size) in said.items(): print(n, count, size)\n"
	"    print('end', flush=True)\n"
	"keep = None\n"
	"for n in 4, 4, 1000:\n"
	"    print('ready', flush=True)\n"
	"    sys.stdin.readline()\n"
	"    keep = make(n)\n"
	"    print('made', flush=True)\n"
	"    sys.stdin.readline()\n"
	"    tell(keep)\n"
	"    keep = None; gc.collect()\n"
	"sys.stdin.read()\n";

struct target {
	struct pytarget process;
	struct python *python;
};

static void wait_for(struct target *t, const char *word)
{
	char line[512];

	do
		assert_true(pytarget_line(&t->process, line, sizeof(line)));
	while (strcmp(line, word) != 0);
	pytarget_rest(&t->process);
}

static void start(struct target *t, const struct pyinterp *interp, const char *program, const char *const *env)
{
	struct err err = { 0 };

	*t = (struct target){ 0 };
	assert_int_equal(pytarget_start(interp, program, env, &t->process), 0);
	wait_for(t, "ready");
	if (python_open(t->process.pid, &t->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
}

static void stop(struct target *t)
{
	python_free(t->python);
	pytarget_stop(&t->process);
}

static void go_on(struct target *t)
{
	fputs("\n", t->process.in);
	fflush(t->process.in);
}

static struct census *read_census(struct target *t, const struct pyinterp *interp)
{
	struct census *census = NULL;
	struct err err = { 0 };

	if (census_read(t->python, NULL, &census, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	return census;
}

static struct census_row row_of(const struct census *census, const char *type)
{
	for (size_t i = 0; i < census->n_types; i++)
		if (strcmp(census->types[i].name, type) == 0)
			return census->types[i];
	return (struct census_row){ 0 };
}

/* What must hold of any census. */
static void check_sums(const struct pyinterp *interp, const struct census *census)
{
	uint64_t objects = 0, bytes = 0, blocks = 0;

	for (size_t i = 0; i < census->n_types; i++) {
		assert_true(census->types[i].count > 0 && census->types[i].owned_bytes <= census->types[i].bytes);
		assert_true(i == 0 || strcmp(census->types[i - 1].name, census->types[i].name) < 0);
		objects += census->types[i].count;
		bytes += census->types[i].bytes;
	}
	for (int kind = 0; kind < CENSUS_NON_OBJECT_COUNT; kind++) {
		blocks += census->non_objects[kind].count;
		assert_null(census->non_objects[kind].name);
	}
	assert_int_equal(objects, census->objects);
	assert_int_equal(bytes, census->bytes);
	assert_true(census->static_objects > 100 && census->static_objects < objects);
	if (objects - census->static_objects + blocks != census->blocks)
		fail_msg("%s: %llu objects, %llu static, %llu others, %llu blocks", interp->label, (unsigned long long)objects,
			 (unsigned long long)census->static_objects, (unsigned long long)blocks, (unsigned long long)census->blocks);
}

/* Compares what came between the two with what the target says it made. */
static void compare(struct target *t, const struct pyinterp *interp, const char *how, const struct census *before, const struct census *after)
{
	char line[512];
	unsigned long long count, bytes;

	while (pytarget_line(&t->process, line, sizeof(line)) && strcmp(line, "end") != 0) {
		struct census_row a, b;
		char *space = strchr(line, ' ');

		assert_non_null(space);
		*space = '\0';
		assert_int_equal(sscanf(space + 1, "%llu %llu", &count, &bytes), 2);
		a = row_of(before, line);
		b = row_of(after, line);
		if (b.count - a.count != count || b.bytes - a.bytes != bytes)
			fail_msg("%s%s: %llu more %s of %llu bytes, not %llu of %llu", interp->label, how,
				 (unsigned long long)(b.count - a.count), line, (unsigned long long)(b.bytes - a.bytes), count, bytes);
	}
}

static void known_of(const struct pyinterp *interp, const char *how, const char *const *env)
{
	struct census *before, *after;
	struct obmalloc_totals totals;
	struct err err = { 0 };
	struct target t;
	int r;

	start(&t, interp, known, env);
	for (int i = 0; i < 2; i++) {
		go_on(&t);
		wait_for(&t, "made");
		go_on(&t);
		wait_for(&t, "ready");
	}
	before = read_census(&t, interp);
	go_on(&t);
	wait_for(&t, "made");
	after = read_census(&t, interp);
	r = obmalloc_totals(t.python, &totals, &err);
	if (r == 0)
		assert_int_equal(after->blocks, totals.allocated_blocks);
	check_sums(interp, before);
	check_sums(interp, after);
	assert_int_equal(after->refused + after->retries, 0);
	assert_int_equal(row_of(after, "NoneType").count, 1);
	assert_int_equal(row_of(after, "bool").count, 2);
	assert_int_equal(row_of(after, "ellipsis").count, 1);
	go_on(&t);
	compare(&t, interp, how, before, after);
	print_message("%s%s: %llu objects, %llu blocks, %llu unknown in %.1f ms\n", interp->label, how, (unsigned long long)after->objects,
		      (unsigned long long)after->blocks, (unsigned long long)after->non_objects[CENSUS_UNKNOWN].count, after->seconds * 1e3);
	census_free(before);
	census_free(after);
	stop(&t);
}

static void known_of_all(const char *how, const char *const *env)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	for (size_t i = 0; i < n; i++)
		known_of(&interps[i], how, env);
}

static void test_known(void **state)
{
	(void)state;
	known_of_all("", NULL);
}

static void test_debug_hooks(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=debug", NULL };

	(void)state;
	known_of_all(", debug hooks", env);
}

static void test_without_pymalloc(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };

	(void)state;
	known_of_all(", malloc", env);
}

/* Its tracked objects by type, as gc sees them: of these types all are tracked. */
static const char tracked[] =
	"import sys, gc, collections, types, asyncio, json, logging\n"
	"class Node:\n"
	"    def __init__(self): self.other = self\n"
	"class Meta(type): pass\n"
	"class Made(metaclass=Meta): pass\n"
	"nodes = [Node() for i in range(500)]\n"
	"generators = [(x for x in nodes) for i in range(100)]\n"
	"partials = [__import__('functools').partial(print) for i in range(50)]\n"
	"drop = [Node() for i in range(100)]; drop = None\n"
	"gc.collect(); gc.disable()\n"
	"def name(t):\n"
	"    return t.__qualname__ if t.__module__ in ('builtins', None) else t.__module__ + '.' + t.__qualname__\n"
	"counts = {}\n"
	"for o in gc.get_objects(): counts[type(o)] = counts.get(type(o), 0) + 1\n"
	"o = None\n"
	"want = [Node, Meta, types.GeneratorType, __import__('functools').partial]\n"
	/* 3.15 does not show all that were made before the program began */
	"if sys.version_info < (3, 15): want += [list, set, types.FunctionType, types.ModuleType, property, staticmethod, classmethod]\n"
	"lines = ['%s %d 0' % (name(t), counts[t]) for t in want]\n"
	"more = ['%s %d 0' % (name(t), counts[t]) for t in counts if t not in want]\n"
	"print('ready', flush=True)\n"
	"sys.stdin.readline()\n"
	"for line in lines: print(line)\n"
	"print('end')\n"
	"for line in more: print(line)\n"
	"print('end', flush=True)\n"
	"sys.stdin.read()\n";

static void tracked_of(const struct pyinterp *interp)
{
	struct census *census;
	struct target t;
	char line[512];
	bool exact = true;

	start(&t, interp, tracked, NULL);
	census = read_census(&t, interp);
	check_sums(interp, census);
	go_on(&t);
	while (pytarget_line(&t.process, line, sizeof(line))) {
		char *space = strchr(line, ' ');
		uint64_t want, have;

		if (strcmp(line, "end") == 0) {
			if (!exact)
				break;
			exact = false;
			continue;
		}
		assert_non_null(space);
		*space = '\0';
		want = strtoull(space + 1, NULL, 10);
		have = row_of(census, line).count;
		/* the lists that hold what is said here came later */
		if (have < want || (exact && have > want + (strcmp(line, "list") == 0 ? 4 : 0)))
			fail_msg("%s: %llu of %s, not %llu", interp->label, (unsigned long long)have, line, (unsigned long long)want);
	}
	census_free(census);
	stop(&t);
}

static void test_tracked(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		tracked_of(&interps[i]);
}

static const char churning[] =
	"import sys, threading\n"
	"class Kept: __slots__ = ('a', 'b', 'c')\n"
	"class Brief: __slots__ = ('a', 'b', 'c')\n"
	"keep = []\n"
	"for i in range(10000): keep.append(Kept()); drop = [Brief() for k in range(3)]\n"
	"def run():\n"
	"    while True:\n"
	"        a = [Brief() for i in range(3000)]; b = {str(i): [i] for i in range(3000)}; c = set(b); d = ['x' * i for i in range(900)]\n"
	"for i in range(4): threading.Thread(target=run, daemon=True).start()\n"
	"print('ready', flush=True)\n"
	"sys.stdin.read()\n";

/* What nobody touches is counted but for pools that were torn; what changes is not absurd. */
static void churn_of(const struct pyinterp *interp, int rounds)
{
	struct proc_counters counters;
	uint64_t retries = 0, refused = 0;
	struct target t;

	start(&t, interp, churning, NULL);
	for (int round = 0; round < rounds; round++) {
		struct census *census = read_census(&t, interp);
		uint64_t kept = row_of(census, "__main__.Kept").count;

		check_sums(interp, census);
		assert_int_equal(proc_counters_read(t.process.pid, &counters), 0);
		/* what comes and goes can be seen in two places */
		if (kept > 10000 || kept + 600 * census->refused < 10000 || row_of(census, "__main__.Brief").count > 40000 ||
		    census->bytes > 2 * counters.highwater_bytes || census->block_bytes > 2 * counters.highwater_bytes)
			fail_msg("%s: %llu kept, %llu bytes, %llu refused", interp->label, (unsigned long long)kept,
				 (unsigned long long)census->bytes, (unsigned long long)census->refused);
		retries += census->retries;
		refused += census->refused;
		census_free(census);
	}
	print_message("%s: %d while it runs: %llu retries, %llu refused\n", interp->label, rounds, (unsigned long long)retries,
		      (unsigned long long)refused);
	stop(&t);
}

static void test_churn(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		churn_of(&interps[i], getenv("LEAKSNOOP_FULL") ? 1000 : 50);
}

/* It writes over its own objects and over free memory of pools, and then does nothing that would trip over it. */
static const char garbage[] =
	"import sys, gc, os, ctypes, random, collections\n"
	"gc.disable()\n"
	"random.seed(int(sys.stdin.readline()))\n"
	"keep = [{'a': i} for i in range(300)], [[i] for i in range(300)], [{i} for i in range(300)], ['text %d' % i for i in range(300)]\n"
	"keep += [10 ** 30 + i for i in range(300)], [bytearray(i) for i in range(300)], [type('C', (), {}) for i in range(50)], [(i, i) for i in range(300)]\n"
	"keep += [collections.deque(range(99)) for i in range(100)], [b'x' * i for i in range(40, 90)]\n"
	"words = [0, 1, 2**64 - 1, 2**63, 2**47 - 8, 4096, 2**32 - 1, id(keep), id(int), id(dict), id(keep[0][0]), id(keep[6][0]), 0x5555555555555555]\n"
	"word = lambda: random.choice(words) ^ random.getrandbits(20) % random.choice((1, 1, 8, 2**20))\n"
	"store = ctypes.c_uint64.from_address\n"
	"writes = []\n"
	"for o in (o for kind in keep for o in kind):\n"
	"    if random.random() < .7:\n"
	"        writes += [(store(id(o) + 8 * k), word()) for k in range(2, max(3, sys.getsizeof(o) // 8 - 4)) if random.random() < .5]\n"
	"    if random.random() < .1: writes.append((store(id(o)), word()))\n"
	"    if random.random() < .1: writes.append((store(id(o) + 8), word()))\n"
	/* a size that nothing else asks for: the next who did would be handed garbage */
	"free = [bytes(430) for i in range(1000)]\n"
	"writes += [(store(id(o)), random.choice(words)) for o in free[::3]]; o = None\n"
	"print('ready', flush=True)\n"
	"sys.stdin.readline()\n"
	"del free[::3]\n"
	"for place, value in writes: place.value = value\n"
	"os.write(1, b'made\\n')\n"
	"os.read(0, 1); os._exit(0)\n";

/* Was there anything to see? */
static bool garbage_of(const struct pyinterp *interp, int seed)
{
	bool made;
	struct census *census = NULL;
	struct target t;
	struct err err = { 0 };
	char line[64];
	int r;

	t = (struct target){ 0 };
	assert_int_equal(pytarget_start(interp, garbage, NULL, &t.process), 0);
	fprintf(t.process.in, "%d\n", seed);
	fflush(t.process.in);
	wait_for(&t, "ready");
	if (python_open(t.process.pid, &t.python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	go_on(&t);
	/* it may trip over it all the same */
	made = pytarget_line(&t.process, line, sizeof(line));
	if (made) {
		assert_string_equal(line, "made");
		r = census_read(t.python, NULL, &census, &err);
		if (r && r != -ESRCH)
			fail_msg("%s, seed %d: %s: %s", interp->label, seed, strerror(-r), err.what);
		made = !r;
	}
	if (made) {
		check_sums(interp, census);
		assert_true(census->refused > 0);
		print_message("%s: garbage: %llu refused, %.1f ms\n", interp->label, (unsigned long long)census->refused,
			      census->seconds * 1e3);
		census_free(census);
	}
	stop(&t);
	return made;
}

static void test_garbage(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		int seen = 0;

		/* Where its own memory lies is left to chance: it may trip several times in a row. */
		for (int seed = 1; seed <= (getenv("LEAKSNOOP_FULL") ? 30 : 2) || (!seen && seed <= 20); seed++)
			seen += garbage_of(&interps[i], seed);
		if (!seen)
			fail_msg("%s: it never came so far", interps[i].label);
	}
}

struct looker {
	pid_t kill;
	int calls, answer;
	uint64_t done, total;
};

static int look(void *ctx, uint64_t done, uint64_t total)
{
	struct looker *looker = ctx;

	looker->calls++;
	looker->done = done;
	looker->total = total;
	if (looker->kill)
		kill(looker->kill, SIGKILL);
	if (looker->kill)
		usleep(100000);
	return looker->answer;
}

static const char large[] = "import sys\n"
			    "keep = [[str(i)] for i in range(1500000)]\n"
			    "print('ready', flush=True)\n"
			    "sys.stdin.read()\n";

/* Who looks can end it; the process can die in the middle of it. */
static void test_ends(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	struct looker looker = { .answer = -ECANCELED };
	struct census_options options = { look, &looker };
	struct census *census = NULL;
	struct err err = { 0 };
	struct target t;

	(void)state;
	start(&t, &interps[n - 1], large, NULL);
	assert_int_equal(census_read(t.python, &options, &census, &err), -ECANCELED);
	assert_null(census);
	assert_int_equal(looker.calls, 1);
	assert_true(looker.done > 0 && looker.done < looker.total);
	looker = (struct looker){ .kill = t.process.pid };
	assert_int_equal(census_read(t.python, &options, &census, &err), -ESRCH);
	assert_null(census);
	/* and dead it stays */
	assert_true(census_read(t.python, NULL, &census, &err) < 0);
	assert_null(census);
	stop(&t);
	assert_string_equal(census_non_object_name(CENSUS_DICT_KEYS), "dict keys");
	assert_string_equal(census_non_object_name(CENSUS_UNKNOWN), "unknown");
	census_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_debug_hooks),
		cmocka_unit_test(test_without_pymalloc),
		cmocka_unit_test(test_tracked),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
