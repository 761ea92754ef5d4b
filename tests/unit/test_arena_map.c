/* SPDX-License-Identifier: MIT */
/*
 * The map of arenas against sys._debugmallocstats() of the interpreter itself, class by class and to the last block, in programs
 * that sleep, and against the addresses of known objects for what pins an arena.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "arena_checks.h"

#define CLASSES 32
#define STATS_MAX 8

/* What an interpreter says of its own arenas. */
struct stats {
	uint64_t pools[CLASSES], live[CLASSES], avail[CLASSES];
	uint64_t arenas, highwater, unused_pools;
	uint64_t live_bytes, avail_bytes, headers, quantization, alignment, total;
	uint64_t blocks;          /* sys.getallocatedblocks() */
	int64_t interpreter;
};

struct looked {
	struct pytarget target;
	struct python *python;
	struct arena_map *map;
	struct stats stats[STATS_MAX];
	size_t n_stats;
};

/*
 * tell(id) prints the counts in a way that leaves nothing allocated behind: what it allocates on the way is freed before it sleeps,
 * and the count of blocks is printed several times until it is at rest.
 */
#define TELL                                                                                                           \
	"import gc, os, sys, time\n"                                                                                   \
	"def tell(number, write=os.write, blocks=sys.getallocatedblocks, stats=sys._debugmallocstats, sleep=time.sleep):\n" \
	"    write(1, b'blocks %d %d\\n' % (number, blocks()))\n"                                                     \
	"    write(1, b'blocks %d %d\\n' % (number, blocks()))\n"                                                     \
	"    write(1, b'blocks %d %d\\n' % (number, blocks()))\n"                                                     \
	"    stats()\n"                                                                                                \
	"    write(1, b'end\\n')\n"                                                                                    \
	"    sleep(600)\n"

#define QUIET "gc.collect(); gc.disable(); os.dup2(1, 2)\n"

static const char empty[] = TELL QUIET "tell(0)\n";
static const char fragmented[] = TELL "import random\n"
				      "random.seed(7)\n"
				      "keep = [(i, str(i) * (i % 9), [i], {i: i}) for i in range(60000)]\n"
				      "for i in range(60000):\n"
				      "    if random.random() < 0.9: keep[i] = None\n"
				      "raw = [bytes(3000) for i in range(100)]\n" QUIET "tell(0)\n";
static const char subs[] =
	"source_of_tell = r\"\"\"" TELL "\"\"\"\n"
	"exec(source_of_tell)\n"
	"import threading\n"
	"try: import _interpreters as i\n"
	"except ImportError: import _xxsubinterpreters as i\n"
	"v = sys.version_info[:2]\n"
	"own = v >= (3, 12)\n"
	"source = '''%s\n"
	"keep = [[k] for k in range(%d)]\n"
	"del keep[::2]\n"
	"gc.collect(); gc.disable()\n"
	"%s\n"
	"'''\n"
	"def isolated(): return i.create() if v != (3, 11) else i.create(isolated=False)\n"
	"def shared(): return i.create('legacy') if v >= (3, 13) else i.create(isolated=False) if v >= (3, 9) else i.create()\n"
	"kinds = [isolated, isolated, shared] if own else [shared, shared]\n"
	"keep = [[k] for k in range(30000)]\n"
	"del keep[::2]\n"
	"os.dup2(1, 2)\n"
	"r, w = os.pipe()\n"
	"for number, kind in enumerate(kinds):\n"
	"    x = kind()\n"
	"    end = 'os.write(%d, b\"x\"); ' % w + ('tell(%d)' % int(x) if kind is isolated and own else 'time.sleep(600)')\n"
	"    text = source % (source_of_tell, 20000 * (number + 1), end)\n"
	"    threading.Thread(target=i.run_string, args=(x, text), daemon=True).start()\n"
	"    os.read(r, 1)\n"
	"time.sleep(0.3)\n"
	"gc.collect(); gc.disable()\n"
	"tell(0)\n";

/* "# arenas allocated current           =                   12": the number behind the last blank, without commas. */
static uint64_t number_at_end(const char *line)
{
	const char *p = strrchr(line, ' ');
	uint64_t n = 0;

	for (; p && *p; p++)
		if (*p >= '0' && *p <= '9')
			n = 10 * n + (uint64_t)(*p - '0');
	return n;
}

static void parse_line(struct stats *s, const char *line)
{
	static const struct {
		const char *start;
		size_t at;
	} keys[] = {
		{ "# arenas allocated current", offsetof(struct stats, arenas) },
		{ "# arenas highwater mark", offsetof(struct stats, highwater) },
		{ "# bytes in allocated blocks", offsetof(struct stats, live_bytes) },
		{ "# bytes in available blocks", offsetof(struct stats, avail_bytes) },
		{ "# bytes lost to pool headers", offsetof(struct stats, headers) },
		{ "# bytes lost to quantization", offsetof(struct stats, quantization) },
		{ "# bytes lost to arena alignment", offsetof(struct stats, alignment) },
	};
	unsigned class, size;
	unsigned long long pools, live, avail;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strncmp(line, keys[i].start, strlen(keys[i].start)))
			*(uint64_t *)((char *)s + keys[i].at) = number_at_end(line);
	if (!strncmp(line, "Total ", 6) && !s->total)
		s->total = number_at_end(line);
	if (strstr(line, "unused pools *"))
		s->unused_pools = strtoull(line, NULL, 10);
	if (sscanf(line, " %u %u %llu %llu %llu", &class, &size, &pools, &live, &avail) == 5 && class < CLASSES && size == 16 * (class + 1)) {
		s->pools[class] = pools;
		s->live[class] = live;
		s->avail[class] = avail;
	}
}

/* Reads the target's output up to the end of the report of interpreter 0, which comes last. */
static void read_stats(struct looked *l, const struct pyinterp *interp)
{
	struct stats s = { 0 };
	char line[512];

	while (l->n_stats < STATS_MAX && pytarget_line(&l->target, line, sizeof(line))) {
		long long id;
		unsigned long long blocks;

		if (sscanf(line, "blocks %lld %llu", &id, &blocks) == 2) {
			s.interpreter = id;
			s.blocks = blocks;
		} else if (!strcmp(line, "end")) {
			l->stats[l->n_stats++] = s;
			if (s.interpreter == 0)
				return;
			s = (struct stats){ 0 };
		} else {
			parse_line(&s, line);
		}
	}
	fail_msg("%s: no end of its report; last line: %s", interp->label, line);
}

static void look(struct looked *l, const struct pyinterp *interp, const char *program, const char *const *env)
{
	struct err err = { 0 };

	memset(l, 0, sizeof(*l));
	assert_int_equal(pytarget_start(interp, program, env, &l->target), 0);
	read_stats(l, interp);
	pytarget_rest(&l->target);
	if (python_open(l->target.pid, &l->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	l->map = arena_map_of(l->python, interp);
}

static void done(struct looked *l)
{
	arena_map_free(l->map);
	python_free(l->python);
	kill(l->target.pid, SIGKILL);
	pytarget_stop(&l->target);
}

/* The sums of all that the interpreters said. */
static struct stats sum_stats(const struct looked *l)
{
	struct stats sum = { 0 };

	for (size_t i = 0; i < l->n_stats; i++) {
		const uint64_t *from = (const uint64_t *)&l->stats[i];
		uint64_t *to = (uint64_t *)&sum;

		for (size_t k = 0; k < offsetof(struct stats, interpreter) / sizeof(*to); k++)
			to[k] += from[k];
	}
	return sum;
}

static void check_interpreter(const struct looked *l, const struct stats *s, const struct pyinterp *interp)
{
	uint64_t arenas = 0, used = 0, idle = 0, live = 0, pools = 0, blocks = 0;

	for (size_t i = 0; i < l->map->n_arenas; i++) {
		const struct arena_row *row = &l->map->arenas[i];

		if (row->interpreter != s->interpreter)
			continue;
		arenas++;
		used += row->pools_used;
		idle += row->pools_free + row->pools_uncarved;
		live += row->live_blocks;
	}
	for (int c = 0; c < CLASSES; c++) {
		pools += s->pools[c];
		blocks += s->live[c];
	}
	assert_same(interp, "arenas of an interpreter", arenas, s->arenas);
	assert_same(interp, "its pools in use", used, pools);
	assert_same(interp, "its other pools", idle, s->unused_pools);
	assert_same(interp, "its blocks", live, blocks);
}

static void check_exact(const struct looked *l, const struct pyinterp *interp)
{
	const struct arena_totals *t = &l->map->totals;
	struct stats s = sum_stats(l);

	check_arena_sums(l->map, interp);
	assert_same(interp, "refused", l->map->refused, 0);
	assert_same(interp, "in doubt", l->map->unsure, 0);
	assert_same(interp, "read again", l->map->retries, 0);
	assert_same(interp, "arenas", t->arenas, s.arenas);
	if (t->arenas_highwater != UINT64_MAX)
		assert_same(interp, "high-water mark", t->arenas_highwater, s.highwater);
	assert_same(interp, "classes", l->map->n_classes, CLASSES);
	for (int c = 0; c < CLASSES; c++) {
		assert_same(interp, "pools", l->map->classes[c].pools, s.pools[c]);
		assert_same(interp, "live blocks", l->map->classes[c].live_blocks, s.live[c]);
		assert_same(interp, "free blocks", l->map->classes[c].free_blocks, s.avail[c]);
	}
	assert_same(interp, "live bytes", t->live_bytes, s.live_bytes);
	assert_same(interp, "free bytes in pools in use", t->free_in_used_pools_bytes, s.avail_bytes);
	assert_same(interp, "other pools", t->pools_free + t->pools_uncarved, s.unused_pools);
	assert_same(interp, "overhead", t->overhead_bytes, s.headers + s.quantization + s.alignment);
	assert_same(interp, "arena bytes", t->arena_bytes, s.total);
	for (size_t i = 0; i < l->n_stats; i++)
		check_interpreter(l, &l->stats[i], interp);
}

static void check_blocks(const struct looked *l, const struct pyinterp *interp)
{
	struct obmalloc_totals t;
	struct stats s = sum_stats(l);
	struct err err = { 0 };

	if (obmalloc_totals(l->python, &t, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_same(interp, "sys.getallocatedblocks()", t.allocated_blocks, s.blocks);
	assert_same(interp, "blocks by the other way", t.live_blocks, l->map->totals.live_blocks);
}

static void exact_of(const struct pyinterp *interp, const char *program, const char *const *env)
{
	struct looked l;

	look(&l, interp, program, env);
	check_exact(&l, interp);
	check_blocks(&l, interp);
	done(&l);
}

static void test_exact(void **state)
{
	static const char *const hooks[] = { "PYTHONMALLOC=debug", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		exact_of(&interps[i], empty, NULL);
		exact_of(&interps[i], fragmented, NULL);
		exact_of(&interps[i], fragmented, hooks);
	}
}

static void test_interpreters(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct looked l;

		look(&l, &interps[i], subs, NULL);
		assert_same(&interps[i], "states", l.map->states, interps[i].minor >= 12 ? 3 : 1);
		assert_same(&interps[i], "reports", l.n_stats, l.map->states);
		check_exact(&l, &interps[i]);
		done(&l);
	}
}

static const char pinned[] = "import gc, os, sys\n"
			     "class Session: __slots__ = ('a', 'b', 'c')\n"
			     "keep = [Session() for i in range(150000)]\n"
			     "keep = keep[:120000:3000] + keep[120000:]\n"
			     "gc.collect(); gc.disable()\n"
			     "print(len(keep), flush=True)\n"
			     "for x in keep: print(id(x))\n"
			     "sys.stdout.flush()\n"
			     "sys.stdin.readline()\n"
			     "del x, keep[:]; gc.collect()\n"
			     "print('gone', flush=True)\n"
			     "sys.stdin.read()\n";

/* The arena that holds an address. */
static const struct arena_row *arena_of(const struct arena_map *map, uint64_t addr)
{
	for (size_t i = 0; i < map->n_arenas; i++)
		if (addr - map->arenas[i].address.v < map->arenas[i].bytes)
			return &map->arenas[i];
	return NULL;
}

static uint64_t sessions_in(const struct arena_map *map, const struct arena_row *row)
{
	uint64_t count = 0;

	for (size_t i = 0; i < row->n_pins; i++) {
		const struct arena_pin *pin = &map->pins[row->first_pin + i];

		if (pin->type && !strcmp(pin->type, "__main__.Session") && !pin->parked)
			count += pin->count;
	}
	return count;
}

/* In each arena with few blocks, as many as the program says; and such arenas go back to the system when those go. */
static void pinned_of(const struct pyinterp *interp)
{
	struct pytarget target;
	struct python *python = NULL;
	struct arena_map *map, *after;
	struct err err = { 0 };
	char line[64];
	uint64_t *counts, in_returnable = 0;
	long long n;

	assert_int_equal(pytarget_start(interp, pinned, NULL, &target), 0);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	n = atoll(line);
	assert_int_equal(n, 30040);
	uint64_t *ids = calloc((size_t)n, sizeof(*ids));
	for (long long i = 0; i < n; i++) {
		assert_true(pytarget_line(&target, line, sizeof(line)));
		ids[i] = strtoull(line, NULL, 10);
	}
	pytarget_rest(&target);
	if (python_open(target.pid, &python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	map = arena_map_of(python, interp);
	check_arena_sums(map, interp);
	counts = calloc(map->n_arenas, sizeof(*counts));
	for (long long i = 0; i < n; i++) {
		const struct arena_row *row = arena_of(map, ids[i]);

		assert_non_null(row);
		counts[row - map->arenas]++;
	}
	for (size_t i = 0; i < map->n_arenas; i++) {
		const struct arena_row *row = &map->arenas[i];
		uint64_t named = row->pins_unread;

		if (!row->returnable)
			continue;
		assert_same(interp, "sessions that pin an arena", sessions_in(map, row), counts[i]);
		in_returnable += counts[i];
		for (size_t k = 0; k < row->n_pins; k++)
			named += map->pins[row->first_pin + k].count;
		assert_same(interp, "blocks named", named, row->live_blocks);
	}
	print_message("%s: %llu of %llu arenas returnable, %llu sessions in them; fragmentation %.2f, packed %llu\n", interp->label,
		      (unsigned long long)map->totals.arenas_returnable, (unsigned long long)map->totals.arenas,
		      (unsigned long long)in_returnable, map->totals.fragmentation, (unsigned long long)map->totals.arenas_if_packed);
	/* 120,000 sessions of 48 or 64 bytes fill at least 5 MiB; 40 of them stayed; the others' first arena may have few */
	assert_in_range(in_returnable, 30, 40 + ARENA_PINNED_BLOCKS);
	assert_true(map->totals.arenas_returnable >= 4 && map->totals.arenas_if_packed + 4 <= map->totals.arenas);
	fputs("go\n", target.in);
	fflush(target.in);
	assert_true(pytarget_line(&target, line, sizeof(line)));
	pytarget_rest(&target);
	after = arena_map_of(python, interp);
	check_arena_sums(after, interp);
	if (after->totals.arenas + map->totals.arenas_returnable > map->totals.arenas + 2)
		fail_msg("%s: %llu arenas were to go, of %llu are left %llu", interp->label, (unsigned long long)map->totals.arenas_returnable,
			 (unsigned long long)map->totals.arenas, (unsigned long long)after->totals.arenas);
	arena_map_free(map);
	arena_map_free(after);
	python_free(python);
	pytarget_stop(&target);
	free(counts);
	free(ids);
}

static void test_pinned(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++)
		pinned_of(&interps[i]);
}

static void test_none(void **state)
{
	static const char *const env[] = { "PYTHONMALLOC=malloc", NULL };
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);

	(void)state;
	for (size_t i = 0; i < n; i++) {
		struct pytarget target;
		struct python *python = NULL;
		struct arena_map *map = NULL;
		struct err err = { 0 };
		char line[16];

		assert_int_equal(pytarget_start(&interps[i], "import sys\nprint(1, flush=True); sys.stdin.read()", env, &target), 0);
		assert_true(pytarget_line(&target, line, sizeof(line)));
		assert_int_equal(python_open(target.pid, &python, &err), 0);
		if (arena_map_read(python, NULL, &map, &err) != -ENOENT)
			fail_msg("%s: %s", interps[i].label, err.what);
		assert_null(map);
		assert_non_null(strstr(err.what, "does not use pymalloc"));
		python_free(python);
		pytarget_stop(&target);
	}
	arena_map_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_interpreters),
		cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
