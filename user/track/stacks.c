/* SPDX-License-Identifier: MIT */
#include "track/stacks.h"

#include <errno.h>
#include <string.h>

#include "../bpf/control.h"
#include "base/intern.h"
#include "base/map64.h"
#include "interp/text.h"

#define STRINGS_BYTES_MAX ((size_t)256 << 20)
#define TABLE_BYTES_MAX ((uint32_t)4 << 20)   /* a line table over this is not believed */
#define TARGETS_MAX MAX_TARGETS
#define ADDRESS_BITS 48

/* A target makes code objects and stacks at will: what is kept of them ends here. */
#define TABLES_BYTES_MAX ((size_t)512 << 20)  /* line tables of living code objects, together */
#define STACKS_FRAMES_MAX ((size_t)64 << 20)  /* frames of all stacks */
#define FRAMES_MAX ((size_t)8 << 20)          /* different frames */
#define IDS_MAX ((size_t)2 << 20)             /* kernel ids of one generation */

struct code {
	uint32_t file, function;
	int firstlineno;
	uint64_t linetable;         /* address of the bytes object: with the first line, what tells another code object at the same address */
	uint32_t table_size;
	uint8_t *table;
};

struct stacks {
	stacks_fetch_fn fetch;
	void *ctx;
	struct intern *strings;
	struct map64 *codes;        /* target and address -> struct code */
	struct map64 *frame_ids;    /* file, function, line -> index + 1 */
	/*
	 * The kernel's id -> index, in two generations: when the young one is full, the old one is dropped and the young one takes its
	 * place. An id in use moves to the young one, so that only ids unused for a whole generation are forgotten: after a code
	 * object was freed the kernel gives every stack a new id, which is for ever in a program that calls eval() all day.
	 */
	struct map64 *stack_ids, *old_ids;
	struct map64 *stack_index;  /* hash of the frames -> index */
	struct frame *frames;
	size_t n_frames, cap_frames;
	struct stack *stacks;
	size_t n_stacks, cap_stacks;
	size_t table_bytes, stack_frames;
	uint32_t unknown;           /* the string that stands for a name not known */
	uint8_t kinds[TARGETS_MAX];
	uint64_t unresolved, malformed;
};

static uint64_t code_key(uint32_t target, uint64_t addr)
{
	return ((uint64_t)target << ADDRESS_BITS) | addr;
}

/* Makes room for one more element. */
static int grow(void **array, size_t count, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 256;
	void *p;

	if (count < *cap)
		return 0;
	p = reallocarray(*array, more, size);
	if (!p)
		return -ENOMEM;
	*array = p;
	*cap = more;
	return 0;
}

static int stacks_intern_frames(struct stacks *s, uint64_t hash, const uint32_t *frames, uint32_t count, bool truncated,
				uint32_t *ret_index);

int stacks_new(stacks_fetch_fn fetch, void *ctx, struct stacks **ret_stacks)
{
	_cleanup_(stacks_freep) struct stacks *s = calloc(1, sizeof(*s));
	uint32_t none;
	int r;

	if (!s)
		return -ENOMEM;
	s->fetch = fetch;
	s->ctx = ctx;
	r = intern_new(STRINGS_BYTES_MAX, &s->strings);
	if (!r)
		r = map64_new(sizeof(struct code), &s->codes);
	if (!r)
		r = map64_new(sizeof(uint32_t), &s->frame_ids);
	if (!r)
		r = map64_new(sizeof(uint32_t), &s->stack_ids);
	if (!r)
		r = map64_new(sizeof(uint32_t), &s->old_ids);
	if (!r)
		r = map64_new(sizeof(uint32_t), &s->stack_index);
	if (!r)
		r = intern_add(s->strings, "?", 1, &s->unknown);
	if (!r)
		r = stacks_intern_frames(s, 0, NULL, 0, false, &none);
	if (r)
		return r;
	*ret_stacks = take_ptr(s);
	return 0;
}

void stacks_free(struct stacks *s)
{
	struct code *code;
	size_t cursor = 0;
	uint64_t key;

	if (!s)
		return;
	while (s->codes && (code = map64_next(s->codes, &cursor, &key)))
		free(code->table);
	for (size_t i = 0; i < s->n_stacks; i++)
		free((void *)s->stacks[i].frames);
	map64_free(s->codes);
	map64_free(s->frame_ids);
	map64_free(s->stack_ids);
	map64_free(s->old_ids);
	map64_free(s->stack_index);
	intern_free(s->strings);
	free(s->frames);
	free(s->stacks);
	free(s);
}

int stacks_add_target(struct stacks *s, uint32_t target, enum linetable_kind kind)
{
	if (target >= TARGETS_MAX)
		return -ENOSPC;
	s->kinds[target] = (uint8_t)kind;
	return 0;
}

static int malformed(struct stacks *s)
{
	s->malformed++;
	return -EBADMSG;
}

/* A string of a CODE record as UTF-8, interned. */
static int code_string(struct stacks *s, uint8_t kind, const uint8_t *bytes, size_t size, uint32_t *ret_id)
{
	char utf8[4 * CODE_FILE_MAX + 1];
	size_t n;

	*ret_id = s->unknown;
	if (!kind)
		return 0;
	n = text_utf8(kind, bytes, size, utf8, sizeof(utf8));
	return intern_add(s->strings, utf8, n, ret_id);
}

/* The whole line table: what the record has, or the target's memory where that is cut; then the two must agree. */
static int code_table(struct stacks *s, const struct event_code *e, struct code *code)
{
	uint8_t *table = NULL;
	uint32_t size = e->table_size;

	if (s->table_bytes > TABLES_BYTES_MAX)
		return -ENOSPC;
	if (e->linetable_size > size && e->linetable_size <= TABLE_BYTES_MAX && s->fetch) {
		table = malloc(e->linetable_size);
		if (!table)
			return -ENOMEM;
		if (!s->fetch(s->ctx, e->hdr.target, e->linetable, table, e->linetable_size) && !memcmp(table, e->table, size)) {
			code->table = table;
			code->table_size = e->linetable_size;
			return 0;
		}
		free(table);
	}
	table = malloc(size + 1u);
	if (!table)
		return -ENOMEM;
	memcpy(table, e->table, size);
	code->table = table;
	code->table_size = size;
	return 0;
}

int stacks_on_code(struct stacks *s, const struct event_code *e, size_t size)
{
	struct code code = { 0 }, *known;
	int r;

	if (size < sizeof(*e) || size - sizeof(*e) < e->table_size || e->name_size > CODE_NAME_MAX ||
	    e->file_size > CODE_FILE_MAX || e->hdr.target >= TARGETS_MAX || e->code >> ADDRESS_BITS)
		return malformed(s);
	/* Whatever becomes of this one: the one before at its address is gone. */
	stacks_on_code_free(s, e->hdr.target, e->code);
	r = code_string(s, e->name_kind, e->name, e->name_size, &code.function);
	if (!r)
		r = code_string(s, e->file_kind, e->file, e->file_size, &code.file);
	if (!r)
		r = code_table(s, e, &code);
	if (r)
		return r;
	code.firstlineno = e->firstlineno;
	code.linetable = e->linetable;
	known = map64_put(s->codes, code_key(e->hdr.target, e->code), NULL);
	if (!known) {
		free(code.table);
		return -ENOMEM;
	}
	s->table_bytes += code.table_size;
	*known = code;
	return 0;
}

void stacks_visit_codes(const struct stacks *s, uint32_t target, stacks_code_fn fn, void *ctx)
{
	const struct code *code;
	size_t cursor = 0;
	uint64_t key;

	while ((code = map64_next(s->codes, &cursor, &key)))
		if (key >> ADDRESS_BITS == target)
			fn(ctx, key & ((1ull << ADDRESS_BITS) - 1), code->linetable, code->firstlineno);
}

int stacks_on_code_free(struct stacks *s, uint32_t target, uint64_t addr)
{
	struct code code;

	if (target >= TARGETS_MAX || addr >> ADDRESS_BITS)
		return malformed(s);
	if (map64_remove(s->codes, code_key(target, addr), &code)) {
		s->table_bytes -= code.table_size;
		free(code.table);
	}
	return 0;
}

/* Starts far from any value mixed in: a hash that meets its own value becomes 0, which is the empty stack's. */
#define HASH_SEED 0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0xff51afd7ed558ccdull;
	return hash ^ (hash >> 32);
}

static int frame_intern(struct stacks *s, uint32_t file, uint32_t function, int line, uint32_t *ret_index)
{
	uint64_t key = mix(mix(mix(HASH_SEED, file), function), (uint32_t)line);
	uint32_t *index = map64_get(s->frame_ids, key);
	int r;

	if (index) {
		*ret_index = *index;
		return 0;
	}
	if (s->n_frames >= FRAMES_MAX)
		return -ENOSPC;
	r = grow((void **)&s->frames, s->n_frames, &s->cap_frames, sizeof(*s->frames));
	if (r)
		return r;
	index = map64_put(s->frame_ids, key, NULL);
	if (!index)
		return -ENOMEM;
	*index = (uint32_t)s->n_frames;
	s->frames[s->n_frames++] = (struct frame){ .file = file, .function = function, .line = line };
	*ret_index = *index;
	return 0;
}

static int frame_resolve(struct stacks *s, uint32_t target, const struct frame_rec *rec, uint32_t *ret_index)
{
	/* The address is what a frame in the target's memory said. */
	const struct code *code = rec->code >> ADDRESS_BITS ? NULL : map64_get(s->codes, code_key(target, rec->code));
	int line;

	if (!code) {
		s->unresolved++;
		return frame_intern(s, s->unknown, s->unknown, -1, ret_index);
	}
	line = linetable_line(s->kinds[target], code->table, code->table_size, code->firstlineno, rec->offset);
	if (line < 0)
		s->unresolved++;
	return frame_intern(s, code->file, code->function, line, ret_index);
}

static int stacks_intern_frames(struct stacks *s, uint64_t hash, const uint32_t *frames, uint32_t count, bool truncated,
				uint32_t *ret_index)
{
	uint32_t *index, *copy;
	int r;

	index = map64_get(s->stack_index, hash);
	if (index) {
		*ret_index = *index;
		return 0;
	}
	if (s->stack_frames + count + 1 > STACKS_FRAMES_MAX)
		return -ENOSPC;
	r = grow((void **)&s->stacks, s->n_stacks, &s->cap_stacks, sizeof(*s->stacks));
	if (r)
		return r;
	copy = malloc((count + 1u) * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	index = map64_put(s->stack_index, hash, NULL);
	if (!index) {
		free(copy);
		return -ENOMEM;
	}
	if (count)
		memcpy(copy, frames, count * sizeof(*copy));
	*index = (uint32_t)s->n_stacks;
	s->stacks[s->n_stacks++] = (struct stack){ .count = count, .truncated = truncated, .frames = copy };
	s->stack_frames += count + 1;
	*ret_index = *index;
	return 0;
}

static int remember_id(struct stacks *s, uint64_t id, uint32_t index)
{
	uint32_t *known;

	if (map64_count(s->stack_ids) >= IDS_MAX) {
		struct map64 *old = s->old_ids;

		map64_clear(old);
		s->old_ids = s->stack_ids;
		s->stack_ids = old;
	}
	known = map64_put(s->stack_ids, id, NULL);
	if (!known)
		return -ENOMEM;
	*known = index;
	return 0;
}

int stacks_on_stack(struct stacks *s, const struct event_stack *e, size_t size)
{
	uint32_t frames[MAX_FRAMES], index = 0;
	bool truncated;
	uint64_t hash = HASH_SEED;

	if (size < sizeof(*e) || e->count > MAX_FRAMES || size - sizeof(*e) < e->count * sizeof(e->frames[0]) ||
	    e->hdr.target >= TARGETS_MAX)
		return malformed(s);
	truncated = e->hdr.flags & (EVENT_F_TRUNCATED | EVENT_F_BROKEN);
	for (uint32_t i = 0; i < e->count; i++) {
		int r = frame_resolve(s, e->hdr.target, &e->frames[i], &frames[i]);

		if (r)
			return r;
		hash = mix(hash, frames[i]);
	}
	if (e->count) {
		int r = stacks_intern_frames(s, mix(hash, truncated), frames, e->count, truncated, &index);

		if (r)
			return r;
	}
	return remember_id(s, e->stack, index);
}

uint32_t stacks_peek(const struct stacks *s, uint64_t id)
{
	const uint32_t *known = map64_get(s->stack_ids, id);

	if (!known)
		known = map64_get(s->old_ids, id);
	return known ? *known : 0;
}

uint32_t stacks_find(struct stacks *s, uint64_t id)
{
	const uint32_t *known;
	uint32_t index;

	if (!id)
		return 0;
	known = map64_get(s->stack_ids, id);
	if (known)
		return *known;
	known = map64_get(s->old_ids, id);
	if (!known) {
		s->unresolved++;
		return 0;
	}
	index = *known;
	/* Without memory it stays where it is. */
	(void)remember_id(s, id, index);
	return index;
}

size_t stacks_count(const struct stacks *s)
{
	return s->n_stacks;
}

const struct stack *stacks_get(const struct stacks *s, uint32_t index)
{
	return &s->stacks[index < s->n_stacks ? index : 0];
}

const struct frame *stacks_frame(const struct stacks *s, uint32_t index)
{
	return &s->frames[index];
}

const char *stacks_str(const struct stacks *s, uint32_t id)
{
	return intern_str(s->strings, id);
}

uint64_t stacks_unresolved(const struct stacks *s)
{
	return s->unresolved;
}

uint64_t stacks_malformed(const struct stacks *s)
{
	return s->malformed;
}
