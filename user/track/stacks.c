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

struct code {
	uint32_t file, function;
	int firstlineno;
	uint32_t table_size;
	uint8_t *table;
};

struct stacks {
	stacks_fetch_fn fetch;
	void *ctx;
	struct intern *strings;
	struct map64 *codes;        /* target and address -> struct code */
	struct map64 *frame_ids;    /* file, function, line -> index + 1 */
	struct map64 *stack_ids;    /* the kernel's id -> index */
	struct map64 *stack_index;  /* hash of the frames -> index */
	struct frame *frames;
	size_t n_frames, cap_frames;
	struct stack *stacks;
	size_t n_stacks, cap_stacks;
	uint8_t kinds[TARGETS_MAX];
	uint64_t unresolved, malformed;
};

static uint64_t code_key(uint32_t target, uint64_t addr)
{
	return ((uint64_t)target << 48) | (addr & 0xffffffffffffull);
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
		r = map64_new(sizeof(uint32_t), &s->stack_index);
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

	if (!kind)
		return intern_add(s->strings, "?", 1, ret_id);
	n = text_utf8(kind, bytes, size, utf8, sizeof(utf8));
	return intern_add(s->strings, utf8, n, ret_id);
}

/* The whole line table: what the record has, or the target's memory where that is cut; then the two must agree. */
static int code_table(struct stacks *s, const struct event_code *e, struct code *code)
{
	uint8_t *table = NULL;
	uint32_t size = e->table_size;

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
	bool fresh;
	int r;

	if (size < sizeof(*e) || size - sizeof(*e) < e->table_size || e->name_size > CODE_NAME_MAX ||
	    e->file_size > CODE_FILE_MAX || e->hdr.target >= TARGETS_MAX)
		return malformed(s);
	r = code_string(s, e->name_kind, e->name, e->name_size, &code.function);
	if (!r)
		r = code_string(s, e->file_kind, e->file, e->file_size, &code.file);
	if (!r)
		r = code_table(s, e, &code);
	if (r)
		return r;
	code.firstlineno = e->firstlineno;
	known = map64_put(s->codes, code_key(e->hdr.target, e->code), &fresh);
	if (!known) {
		free(code.table);
		return -ENOMEM;
	}
	if (!fresh)
		free(known->table);
	*known = code;
	return 0;
}

int stacks_on_code_free(struct stacks *s, uint32_t target, uint64_t addr)
{
	struct code code;

	if (map64_remove(s->codes, code_key(target, addr), &code))
		free(code.table);
	return 0;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0xff51afd7ed558ccdull;
	return hash ^ (hash >> 32);
}

static int frame_intern(struct stacks *s, uint32_t file, uint32_t function, int line, uint32_t *ret_index)
{
	uint64_t key = mix(mix(mix(1, file), function), (uint32_t)line);
	uint32_t *index;
	bool fresh;
	int r;

	r = grow((void **)&s->frames, s->n_frames, &s->cap_frames, sizeof(*s->frames));
	if (r)
		return r;
	index = map64_put(s->frame_ids, key, &fresh);
	if (!index)
		return -ENOMEM;
	if (fresh) {
		*index = (uint32_t)s->n_frames;
		s->frames[s->n_frames++] = (struct frame){ .file = file, .function = function, .line = line };
	}
	*ret_index = *index;
	return 0;
}

static int frame_resolve(struct stacks *s, uint32_t target, const struct frame_rec *rec, uint32_t *ret_index)
{
	const struct code *code = map64_get(s->codes, code_key(target, rec->code));
	uint32_t unknown = 0;
	int line, r;

	if (!code) {
		s->unresolved++;
		r = intern_add(s->strings, "?", 1, &unknown);
		return r ? r : frame_intern(s, unknown, unknown, -1, ret_index);
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
	bool fresh;
	int r;

	r = grow((void **)&s->stacks, s->n_stacks, &s->cap_stacks, sizeof(*s->stacks));
	if (r)
		return r;
	index = map64_put(s->stack_index, hash, &fresh);
	if (!index)
		return -ENOMEM;
	if (fresh) {
		copy = malloc((count + 1u) * sizeof(*copy));
		if (!copy) {
			map64_remove(s->stack_index, hash, NULL);
			return -ENOMEM;
		}
		if (count)
			memcpy(copy, frames, count * sizeof(*copy));
		*index = (uint32_t)s->n_stacks;
		s->stacks[s->n_stacks++] = (struct stack){ .count = count, .truncated = truncated, .frames = copy };
	}
	*ret_index = *index;
	return 0;
}

int stacks_on_stack(struct stacks *s, const struct event_stack *e, size_t size)
{
	uint32_t frames[MAX_FRAMES], index = 0, *known;
	bool truncated;
	uint64_t hash = 2;

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
	known = map64_put(s->stack_ids, e->stack, NULL);
	if (!known)
		return -ENOMEM;
	*known = index;
	return 0;
}

uint32_t stacks_find(struct stacks *s, uint64_t id)
{
	const uint32_t *index;

	if (!id)
		return 0;
	index = map64_get(s->stack_ids, id);
	if (!index) {
		s->unresolved++;
		return 0;
	}
	return *index;
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
