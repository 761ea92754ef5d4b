/* SPDX-License-Identifier: MIT */
/*
 * Sizes of objects in real interpreters: of each object that tests/targets/object_sizes.py makes, what sys.getsizeof() says, to the byte;
 * each part is a block of the allocator, of the size that was requested. And nonsense: refused, without end or overflow never.
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

#include "base/map64.h"
#include "interp/arenas.h"
#include "interp/chunk.h"
#include "interp/object_size.h"
#include "interp/pool.h"
#include "pytarget.h"
#include "random.h"

#define TARGET "tests/targets/object_sizes.py"
#define LINES_MAX 20000
#define FRONT 32u
#define HEAD 256u
#define SHOWN_MAX 30

struct expected {
	uint64_t addr, size;
	char parts[80], type[64];
};

struct target {
	struct pytarget process;
	struct python *python;
	struct types *types;
	struct object_sizes *sizes;
	const struct pyinterp *interp;
	struct expected *expected;
	size_t count, wrong;
};

static char *program(void)
{
	FILE *file = fopen(TARGET, "r");
	char *text = calloc(1, 1 << 17);

	assert_non_null(file);
	assert_in_range(fread(text, 1, (1 << 17) - 1, file), 1000, (1 << 17) - 2);
	fclose(file);
	return text;
}

static void start(const struct pyinterp *interp, struct target *t)
{
	char line[256], *text = program();
	struct err err = { 0 };

	*t = (struct target){ .interp = interp, .expected = calloc(LINES_MAX, sizeof(struct expected)) };
	assert_int_equal(pytarget_start(interp, text, NULL, &t->process), 0);
	free(text);
	while (pytarget_line(&t->process, line, sizeof(line)) && strcmp(line, "end") != 0) {
		struct expected *e = &t->expected[t->count++];
		unsigned long long addr, size;

		assert_in_range(t->count, 1, LINES_MAX - 1);
		if (strncmp(line, "missing ", 8) == 0)
			fail_msg("%s: no object of %s was made", interp->label, line + 8);
		if (sscanf(line, "%llu %llu %79s %63s", &addr, &size, e->parts, e->type) != 4)
			fail_msg("%s: %s", interp->label, line);
		e->addr = addr;
		e->size = size;
	}
	assert_string_equal(line, "end");
	assert_in_range(t->count, 5000, LINES_MAX);
	if (python_open(t->process.pid, &t->python, &err) < 0)
		fail_msg("%s: %s", interp->label, err.what);
	assert_int_equal(types_new(t->python, &t->types), 0);
	assert_int_equal(object_sizes_new(t->types, &t->sizes), 0);
}

static void stop(struct target *t)
{
	object_sizes_free(t->sizes);
	types_free(t->types);
	python_free(t->python);
	pytarget_stop(&t->process);
	free(t->expected);
}

static void complain(struct target *t, const struct expected *e, const char *what, uint64_t value)
{
	if (t->wrong++ < SHOWN_MAX)
		print_message("%s: %s at %#llx, %llu bytes: %s %llu (%#llx)\n", t->interp->label, e->type, (unsigned long long)e->addr,
			      (unsigned long long)e->size, what, (unsigned long long)value, (unsigned long long)value);
}

static uint32_t type_of(struct target *t, const struct expected *e)
{
	uint64_t type;

	assert_int_equal(rmem_u64(python_rmem(t->python), RADDR(e->addr + 8), &type), 0);
	return types_find(t->types, RADDR(type));
}

/* Answers all questions. Returns the answer's r; *ret_asked: how many questions. */
static int answer(struct target *t, struct object_size *size, unsigned *ret_asked)
{
	uint8_t bytes[OBJECT_NEED_MAX];
	int r = 0;

	for (*ret_asked = 0; r == 0 && size->need.bytes; (*ret_asked)++) {
		assert_in_range(size->need.bytes, 1, OBJECT_NEED_MAX);
		r = rmem_read(python_rmem(t->python), size->need.addr, bytes, size->need.bytes);
		if (r == 0)
			r = object_size_go_on(t->sizes, bytes, size);
	}
	return r;
}

/* Does a block of the allocator start there that was requested with this many bytes (or a few more)? pymalloc's realloc keeps a block
 * that shrinks by up to a quarter. */
static bool is_block(struct target *t, uint64_t addr, uint64_t bytes, uint64_t slack)
{
	struct rmem *mem = python_rmem(t->python);
	uint8_t header[POOL_HEADER_MAX];
	struct pool_head head;
	struct chunk chunk;
	uint64_t word;

	if (arenas_hold(types_arenas(t->types), RADDR(addr))) {
		raddr_t pool = pool_of(t->python, RADDR(addr));

		assert_int_equal(rmem_read(mem, pool, header, pool_header_bytes(t->python)), 0);
		return pool_head_parse(t->python, header, &head) == 0 && pool_block_index(t->python, pool, &head, RADDR(addr)) >= 0 &&
		       bytes <= head.block_size && (head.block_size - bytes < 16 + slack || 4 * bytes > 3 * (uint64_t)head.block_size);
	}
	if (rmem_u64(mem, RADDR(addr - 8), &word) < 0)
		return false;
	for (uint64_t more = 0; more <= slack; more += 8)
		if (chunk_parse(word, bytes + more, 0, &chunk))
			return true;
	return false;
}

/* "kind:address:bytes" of the counted parts, "values" for values that are not, "-" for none. */
static void parts_text(const struct object_size *size, char *text, size_t room)
{
	static const char *const names[] = { "dict", "values", "list", "set", "bytearray", "deque", "str", "other" };
	size_t at = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < size->n_parts; i++) {
		const struct object_part *part = &size->parts[i];

		if (part->counted)
			at += (size_t)snprintf(text + at, room - at, "%s%s:%llu:%llu", at ? "," : "", names[part->kind],
					       (unsigned long long)part->addr.v, (unsigned long long)part->bytes);
		else if (part->kind == PART_INSTANCE_VALUES)
			at += (size_t)snprintf(text + at, room - at, "values");
		assert_in_range(at, 0, room - 1);
	}
	if (!at)
		snprintf(text, room, "-");
}

static void check_parts(struct target *t, const struct expected *e, const struct object_size *size)
{
	int minor = t->interp->minor;
	char text[512];

	assert_in_range(size->n_parts, 0, OBJECT_PARTS_MAX);
	for (uint32_t i = 0; i < size->n_parts; i++) {
		const struct object_part *part = &size->parts[i];
		/* of values of 3.11 and 3.12 the least size is known; a ctypes struct forgets the fields of its base */
		bool least = part->kind == PART_INSTANCE_VALUES && minor >= 11 && minor <= 12;
		uint64_t slack = least ? 256 : strcmp(e->type, "StgDict") == 0 ? 16 : 0;

		if (!part->blocks || part->bytes % part->blocks || !is_block(t, part->addr.v, part->bytes / part->blocks, slack))
			complain(t, e, "no such block: a part of bytes", part->bytes);
	}
	parts_text(size, text, sizeof(text));
	if (strcmp(e->parts, "?") != 0 && strcmp(e->parts, text) != 0) {
		complain(t, e, "other parts than expected:", size->n_parts);
		print_message("  %s instead of %s\n", text, e->parts);
	}
}

static void check_one(struct target *t, const struct expected *e, size_t len, bool in_block)
{
	uint32_t type = type_of(t, e), front;
	struct object_size size;
	uint8_t bytes[FRONT + HEAD] = { 0 };
	unsigned asked;
	int r;

	if (!type) {
		complain(t, e, "no type", 0);
		return;
	}
	front = in_block ? types_facts(t->types, type)->front : 0;
	r = rmem_read(python_rmem(t->python), RADDR(e->addr - front), bytes + FRONT - front, front + len);
	if (r < 0 && len > 16) {
		check_one(t, e, 16, in_block);
		return;
	}
	if (in_block)
		r = object_size_in_block(t->sizes, type, RADDR(e->addr), bytes + FRONT, len, &size);
	else
		r = object_size_of(t->sizes, type, RADDR(e->addr), bytes + FRONT, len, &size);
	if (r == 0)
		r = answer(t, &size, &asked);
	if (r < 0)
		complain(t, e, "refused:", (uint64_t)-r);
	else if (size.bytes != e->size)
		complain(t, e, "found", size.bytes);
	else
		check_parts(t, e, &size);
}

static void check_all(struct target *t)
{
	for (size_t i = 0; i < t->count; i++) {
		check_one(t, &t->expected[i], 80, false);
		check_one(t, &t->expected[i], HEAD, true);
		check_one(t, &t->expected[i], 16, i % 2);
	}
	print_message("%s: %zu objects, %u types, %zu wrong\n", t->interp->label, t->count, types_count(t->types), t->wrong);
	assert_int_equal(t->wrong, 0);
}

/* --- nonsense */

/* Bytes in which one object of the target is changed. */
struct forged {
	struct target *t;
	uint32_t type;
	uint64_t addr;
	uint8_t bytes[HEAD];
};

static void put64(uint8_t *bytes, size_t at, uint64_t value)
{
	memcpy(bytes + at, &value, sizeof(value));
}

/* The first object of this type that is large enough to be read whole. */
static void forge(struct target *t, const char *type, struct forged *f)
{
	for (size_t i = 0; i < t->count; i++) {
		*f = (struct forged){ .t = t, .addr = t->expected[i].addr };
		if (strcmp(t->expected[i].type, type) != 0 ||
		    rmem_read(python_rmem(t->python), RADDR(f->addr), f->bytes, sizeof(f->bytes)) < 0)
			continue;
		f->type = type_of(t, &t->expected[i]);
		assert_true(f->type);
		return;
	}
	fail_msg("%s: no %s", t->interp->label, type);
}

/* Refused at once, and ret is as it was. */
static void refused(const struct forged *f, const char *what)
{
	struct object_size size, before;

	memset(&size, 0xa5, sizeof(size));
	before = size;
	if (object_size_of(f->t->sizes, f->type, RADDR(f->addr), f->bytes, sizeof(f->bytes), &size) != -EPROTO)
		fail_msg("%s: %s is not refused", f->t->interp->label, what);
	assert_memory_equal(&size, &before, sizeof(size));
}

static void refused_with(struct target *t, const char *type, size_t at, uint64_t value)
{
	struct forged f;
	char what[128];

	forge(t, type, &f);
	put64(f.bytes, at, value);
	snprintf(what, sizeof(what), "%s with %#llx at %zu", type, (unsigned long long)value, at);
	refused(&f, what);
}

/* Refused when it gives this as the answer to its only question, with what stands at an offset replaced. */
static void refused_answer(struct target *t, const char *type, size_t at, size_t bytes, uint64_t value)
{
	struct object_size size, before;
	uint8_t answer_bytes[OBJECT_NEED_MAX];
	struct forged f;

	forge(t, type, &f);
	assert_int_equal(object_size_of(t->sizes, f.type, RADDR(f.addr), f.bytes, sizeof(f.bytes), &size), 0);
	assert_true(size.need.bytes >= at + bytes);
	assert_int_equal(rmem_read(python_rmem(t->python), size.need.addr, answer_bytes, size.need.bytes), 0);
	memcpy(answer_bytes + at, &value, bytes);
	before = size;
	assert_int_equal(object_size_go_on(t->sizes, answer_bytes, &size), -EPROTO);
	assert_memory_equal(&size, &before, sizeof(size));
}

static void forged_counts(struct target *t)
{
	const struct layout *l = python_layout(t->python);
	static const uint64_t absurd[] = { 1ull << 60, UINT64_MAX, 1ull << 63, 1ull << 47 };

	for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
		refused_with(t, "tuple", 16, absurd[i]);
		refused_with(t, "bytes", 16, absurd[i]);
		refused_with(t, "list", 16, absurd[i]);
		refused_with(t, "str", l->str_length, absurd[i]);
		refused_with(t, "set", l->set_mask, absurd[i] - 2);
		refused_with(t, "bytearray", l->bytearray_alloc, absurd[i]);
		refused_with(t, "deque", 16, absurd[i]);
		refused_with(t, "OrderedDict", 72, absurd[i]);
		refused_with(t, "dict", l->dict_keys, absurd[i] | 1ull << 47);
	}
	refused_with(t, "int", l->ob_head_size, l->minor >= 12 ? UINT64_MAX : 1ull << 62);
	refused_with(t, "list", l->list_allocated, UINT64_MAX - 1);
	refused_with(t, "list", l->list_allocated, 1ull << 60);
	refused_with(t, "set", l->set_mask, 6);
	refused_with(t, "deque", l->deque_left_index, 65);
	refused_with(t, "str", l->str_state, 7u << 2 | 1u << 5);
	refused_with(t, "dict", l->dict_keys, 0);
	if (l->dk_log2_size != NO_OFFSET) {
		refused_answer(t, "dict", l->dk_log2_size, 1, 200);
		refused_answer(t, "dict", l->dk_log2_index_bytes, 1, 63);
		refused_answer(t, "dict", l->dk_kind, 1, 9);
	} else {
		refused_answer(t, "dict", l->dk_size, 8, 12);
		refused_answer(t, "dict", l->dk_size, 8, 1ull << 62);
	}
	refused_answer(t, "dict", l->dk_nentries, 8, UINT64_MAX);
	refused_answer(t, "dict", l->dk_usable, 8, 1ull << 60);
}

/* A list that is being sorted at this moment. */
static void sorted_list(struct target *t)
{
	const struct layout *l = python_layout(t->python);
	struct object_size size;
	struct forged f;

	forge(t, "list", &f);
	put64(f.bytes, 16, 0);
	put64(f.bytes, l->list_items, 0);
	put64(f.bytes, l->list_allocated, UINT64_MAX);
	assert_int_equal(object_size_of(t->sizes, f.type, RADDR(f.addr), f.bytes, sizeof(f.bytes), &size), 0);
	assert_int_equal(size.bytes, 56);
	assert_int_equal(size.n_parts, 0);
}

/* Format codes without an end. */
static void endless(struct target *t)
{
	uint8_t bytes[OBJECT_NEED_MAX];
	struct object_size size;
	struct forged f;
	unsigned asked = 0;
	int r;

	memset(bytes, 1, sizeof(bytes));
	forge(t, "Struct", &f);
	r = object_size_of(t->sizes, f.type, RADDR(f.addr), f.bytes, sizeof(f.bytes), &size);
	for (; r == 0 && size.need.bytes && asked <= OBJECT_STEPS_MAX; asked++)
		r = object_size_go_on(t->sizes, bytes, &size);
	assert_int_equal(r, -EPROTO);
	assert_int_equal(asked, OBJECT_STEPS_MAX);
}

/* Any bytes for an object of any type: an answer or a refusal, soon. */
static void noise(struct target *t)
{
	uint8_t object[FRONT + HEAD], bytes[OBJECT_NEED_MAX];
	uint64_t seed = 7, answers = 0, refusals = 0;

	for (uint32_t type = 0; type <= types_count(t->types) + 1; type++) {
		for (unsigned round = 0; round < 300; round++) {
			struct object_size size = { 0 };
			unsigned asked = 0;
			int r;

			for (size_t i = 0; i < sizeof(object); i += 8)
				put64(object, i, random_bits(&seed) >> random_bits(&seed) % 64);
			r = object_size_in_block(t->sizes, type, RADDR(0x7f0000000000), object + FRONT, random_bits(&seed) % (HEAD + 1), &size);
			for (; r == 0 && size.need.bytes; asked++) {
				assert_in_range(size.need.bytes, 1, OBJECT_NEED_MAX);
				assert_in_range(asked, 0, OBJECT_STEPS_MAX);
				for (size_t i = 0; i < sizeof(bytes); i += 8)
					put64(bytes, i, random_bits(&seed) >> random_bits(&seed) % 64);
				r = object_size_go_on(t->sizes, bytes, &size);
			}
			assert_true(r == 0 || r == -EPROTO);
			assert_true(r < 0 || size.bytes < 1ull << 60);
			answers += r == 0;
			refusals += r < 0;
		}
	}
	assert_true(answers > 10000 && refusals > 1000);
}

static void check_nonsense(struct target *t)
{
	struct object_size size = { 0 };
	uint8_t bytes[HEAD] = { 0 };

	forged_counts(t);
	sorted_list(t);
	endless(t);
	noise(t);
	assert_int_equal(object_size_of(t->sizes, 0, RADDR(4096), bytes, HEAD, &size), -EPROTO);
	assert_int_equal(object_size_of(t->sizes, TYPES_MAX, RADDR(4096), bytes, HEAD, &size), -EPROTO);
	/* nothing was asked */
	assert_int_equal(object_size_go_on(t->sizes, bytes, &size), -EPROTO);
	object_sizes_free(NULL);
}

/* One start of the target for both: it makes thousands of objects. */
static void test_interpreters(void **state)
{
	size_t n;
	const struct pyinterp *interps = pyinterps(&n);
	struct target t;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		start(&interps[i], &t);
		check_all(&t);
		check_nonsense(&t);
		stop(&t);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interpreters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
