/* SPDX-License-Identifier: MIT */
/* CODE and STACK records as the kernel makes them, for tests of what takes them. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "../bpf/event.h"

#define RECORD_FRAMES 8

/* Unions, since C has no member after a flexible array; the second half lies where the array begins. */
struct code_record {
	union {
		struct event_code e;
		struct {
			uint8_t head[sizeof(struct event_code)];
			uint8_t table[64];
		};
	};
};

struct stack_record {
	union {
		struct event_stack e;
		struct {
			uint8_t stack_head[sizeof(struct event_stack)];
			struct frame_rec frames[RECORD_FRAMES];
		};
	};
};

/* A PEP 657 table whose instructions, one unit each, stand on lines first, first + 1, ... */
static inline size_t record_lines(uint8_t *table, size_t size, unsigned int lines)
{
	size_t n = 0;

	for (unsigned int i = 0; i < lines && n + 2 <= size; i++) {
		table[n++] = 0x80 | 13 << 3;        /* no columns, one unit */
		table[n++] = i ? 1 << 1 : 0;        /* signed varint: +1 */
	}
	return n;
}

/* A code object of lines lines from firstlineno on. Returns the size of the record. */
static inline size_t record_code(struct code_record *r, uint32_t target, uint64_t code, const char *name, const char *file,
				 int firstlineno, unsigned int lines)
{
	memset(r, 0, sizeof(*r));
	r->e.hdr.kind = EVENT_CODE;
	r->e.hdr.target = target;
	r->e.code = code;
	r->e.firstlineno = firstlineno;
	r->e.name_kind = r->e.file_kind = 1;
	r->e.name_size = (uint16_t)strlen(name);
	r->e.file_size = (uint16_t)strlen(file);
	memcpy(r->e.name, name, r->e.name_size);
	memcpy(r->e.file, file, r->e.file_size);
	r->e.table_size = (uint16_t)record_lines(r->table, sizeof(r->table), lines);
	r->e.linetable_size = r->e.table_size;
	r->e.linetable = code + 0x1000;
	return sizeof(r->e) + r->e.table_size;
}

static inline void record_frame(struct stack_record *r, uint64_t code, int offset)
{
	r->frames[r->e.count++] = (struct frame_rec){ .code = code, .offset = offset };
}

static inline void record_stack(struct stack_record *r, uint32_t target, uint64_t id, uint16_t flags)
{
	memset(r, 0, sizeof(*r));
	r->e.hdr.kind = EVENT_STACK;
	r->e.hdr.flags = flags;
	r->e.hdr.target = target;
	r->e.stack = id;
}

static inline size_t record_stack_size(const struct stack_record *r)
{
	return sizeof(r->e) + r->e.count * sizeof(r->frames[0]);
}
