/* SPDX-License-Identifier: MIT */
/* Line tables: co_lnotab (3.8, 3.9), co_linetable (3.10), PEP 657 co_linetable (3.11+). The bytes are untrusted. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum linetable_kind {
	LINETABLE_LNOTAB = 1,   /* 3.8, 3.9 */
	LINETABLE_310 = 2,
	LINETABLE_PEP657 = 3,   /* 3.11+ */
};

enum linetable_kind linetable_kind_of(uint32_t version_hex);

/* The line of the instruction at byte offset (< 0: not started: firstlineno). Returns a line > 0, or 0 if the table says the
 * instruction has none, or -1 if the table is broken or too short for the offset. */
int linetable_line(enum linetable_kind kind, const uint8_t *table, size_t size, int firstlineno, int offset);
