/* SPDX-License-Identifier: MIT */
/*
 * From the offset of an instruction to its line, in the three encodings CPython
 * has had (Objects/lnotab_notes.txt of 3.8 and 3.10, Objects/locations.md or
 * InternalDocs/code_objects.md from 3.11, PEP 626, PEP 657). One pass, no
 * allocation; a table can be cut or hostile: every entry is bounded by size and
 * line arithmetic wraps in unsigned numbers, then is checked.
 */
#include "interp/linetable.h"

#include <stdbool.h>

#define UNIT 2   /* bytes of a code unit */

enum linetable_kind linetable_kind_of(uint32_t version_hex)
{
	uint32_t minor = (version_hex >> 16) & 0xff;

	if (minor <= 9)
		return LINETABLE_LNOTAB;
	return minor == 10 ? LINETABLE_310 : LINETABLE_PEP657;
}

/* Line 0 is what a module's first instruction has from 3.11: no line of the source. */
static int checked_line(uint32_t line)
{
	return line <= INT32_MAX ? (int)line : -1;
}

/* Pairs (bytes of code, signed lines); the line of an offset is the sum of all pairs that begin at or before it. */
static int lnotab_line(const uint8_t *table, size_t size, uint32_t line, size_t offset)
{
	size_t at = 0;

	if (size % 2)
		return -1;
	for (size_t i = 0; i < size; i += 2) {
		at += table[i];
		if (at > offset)
			break;
		line += (uint32_t)(int8_t)table[i + 1];
	}
	return checked_line(line);
}

/* Pairs (bytes of code, signed lines), each a range with its line; -128: the range has none. */
static int line_310(const uint8_t *table, size_t size, uint32_t line, size_t offset)
{
	size_t end = 0;

	if (size % 2)
		return -1;
	for (size_t i = 0; i < size; i += 2) {
		int8_t delta = (int8_t)table[i + 1];

		if (delta != -128)
			line += (uint32_t)delta;
		end += table[i];
		if (offset < end)
			return delta == -128 ? 0 : checked_line(line);
	}
	return -1;
}

/* Six bits a byte, least first; bit 6: more follow. False if cut or longer than 32 bits. */
static bool read_varint(const uint8_t *table, size_t size, size_t *at, uint32_t *ret)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 36; shift += 6) {
		uint8_t byte;

		if (*at >= size)
			return false;
		byte = table[(*at)++];
		if (byte & 0x80)
			return false;
		value |= (uint64_t)(byte & 0x3f) << shift;
		if (byte & 0x40)
			continue;
		if (value > UINT32_MAX)
			return false;
		*ret = (uint32_t)value;
		return true;
	}
	return false;
}

enum { CODE_NO_COLUMNS = 13, CODE_LONG = 14, CODE_NONE = 15 };

/* How far the entry with this code moves the line; *at is just behind its first byte. */
static bool line_delta(unsigned int code, const uint8_t *table, size_t size, size_t at, uint32_t *ret)
{
	uint32_t u;

	if (code >= 10 && code <= 12) {
		*ret = code - 10;
		return true;
	}
	if (code != CODE_NO_COLUMNS && code != CODE_LONG) {
		*ret = 0;
		return true;
	}
	if (!read_varint(table, size, &at, &u))
		return false;
	*ret = (u & 1) ? 0u - (u >> 1) : u >> 1;
	return true;
}

static int pep657_line(const uint8_t *table, size_t size, uint32_t line, size_t offset)
{
	size_t at = 0, end = 0;

	while (at < size) {
		uint8_t first = table[at++];
		unsigned int code = (first >> 3) & 15;
		uint32_t delta;

		if (!(first & 0x80) || !line_delta(code, table, size, at, &delta))
			return -1;
		line += delta;
		end += ((size_t)(first & 7) + 1) * UNIT;
		if (offset < end)
			return code == CODE_NONE ? 0 : checked_line(line);
		/* the rest of an entry has bit 7 clear: columns and end line */
		while (at < size && !(table[at] & 0x80))
			at++;
	}
	return -1;
}

int linetable_line(enum linetable_kind kind, const uint8_t *table, size_t size, int firstlineno, int offset)
{
	if (offset < 0)
		return checked_line((uint32_t)firstlineno);
	switch (kind) {
	case LINETABLE_LNOTAB:
		return lnotab_line(table, size, (uint32_t)firstlineno, (size_t)offset);
	case LINETABLE_310:
		return line_310(table, size, (uint32_t)firstlineno, (size_t)offset);
	case LINETABLE_PEP657:
		return pep657_line(table, size, (uint32_t)firstlineno, (size_t)offset);
	}
	return -1;
}
