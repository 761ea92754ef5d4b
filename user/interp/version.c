/* SPDX-License-Identifier: MIT */
/*
 * Which Python exactly: debug offsets (3.13+), the exported Py_Version (3.11+),
 * the string that Py_GetVersion() formats (all), or a version string in .rodata.
 * Limits: the last is a guess, taken only if it is the only one that fits.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "interp/python_impl.h"
#include "target/code_x86.h"

#define VERSION_INSNS 48
#define RODATA_MAX (64u << 20)
#define CHUNK 65536u
#define VERSION_TEXT_MAX 16   /* "3.15.0alpha10" is never longer */

static bool read_number(const char **text, uint32_t max, uint32_t *ret)
{
	uint32_t value = 0;
	int digits = 0;

	while (isdigit((unsigned char)**text) && digits < 3) {
		value = value * 10 + (uint32_t)(**text - '0');
		(*text)++;
		digits++;
	}
	if (digits == 0 || value > max)
		return false;
	*ret = value;
	return true;
}

int version_parse(const char *text, uint32_t *ret_hex)
{
	uint32_t major, minor, micro, level = 0xf, serial = 0;

	if (!read_number(&text, 9, &major) || *text++ != '.' || !read_number(&text, 99, &minor) || *text++ != '.' ||
	    !read_number(&text, 255, &micro))
		return -EINVAL;
	if (*text == 'a' || *text == 'b') {
		level = *text == 'a' ? 0xa : 0xb;
		text++;
	} else if (text[0] == 'r' && text[1] == 'c') {
		level = 0xc;
		text += 2;
	}
	if (level != 0xf && !read_number(&text, 15, &serial))
		return -EINVAL;
	if (*text == '+')
		text++;
	if (*text)
		return -EINVAL;
	*ret_hex = (major << 24) | (minor << 16) | (micro << 8) | (level << 4) | serial;
	return 0;
}

void version_format(uint32_t hex, char *buf, size_t size)
{
	static const char *const levels[16] = { [0xa] = "a", [0xb] = "b", [0xc] = "rc" };
	const char *level = levels[(hex >> 4) & 15];
	int n = snprintf(buf, size, "%u.%u.%u", PY_HEX_MAJOR(hex), PY_HEX_MINOR(hex), PY_HEX_MICRO(hex));

	if (level && n > 0 && (size_t)n < size)
		snprintf(buf + n, size - (size_t)n, "%s%u", level, hex & 15);
}

static int from_debug_offsets(struct rmem *mem, raddr_t runtime, uint32_t *ret_hex)
{
	struct debug_offsets head;
	uint8_t bytes[24];
	int r = rmem_read(mem, runtime, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	r = debug_offsets_head(bytes, sizeof(bytes), &head);
	if (r == 0)
		*ret_hex = head.version_hex;
	return r;
}

static int from_symbol(const struct image *image, struct rmem *mem, uint32_t *ret_hex)
{
	struct image_symbol symbol;
	uint64_t value;
	int r = image_symbol(image, "Py_Version", &symbol);

	if (r == 0)
		r = rmem_u64(mem, symbol.addr, &value);
	if (r < 0)
		return r;
	if (value == 0 || value > UINT32_MAX)
		return -ENOENT;
	*ret_hex = (uint32_t)value;
	return 0;
}

/* Py_GetVersion() passes PY_VERSION to PyOS_snprintf. */
static int from_code(const struct image *image, struct rmem *mem, uint32_t *ret_hex)
{
	struct code_insn insns[VERSION_INSNS];
	struct image_symbol symbol;
	ssize_t n;
	int r = image_symbol(image, "Py_GetVersion", &symbol);

	if (r < 0)
		return r;
	n = code_decode(image, symbol.addr, insns, VERSION_INSNS);
	for (ssize_t i = 0; i < n; i++) {
		char text[VERSION_TEXT_MAX + 1];

		if (insns[i].op != CODE_LEA_ABS || rmem_cstr(mem, RADDR(insns[i].target), text, sizeof(text)) < 0)
			continue;
		if (version_parse(text, ret_hex) == 0)
			return 0;
	}
	return -ENOENT;
}

/* The one version in bytes (a string of its own, between two NULs); *found is 0 while none is known. False if two differ. */
static bool scan_chunk(const uint8_t *bytes, size_t size, uint32_t *found)
{
	for (size_t i = 1; i + VERSION_TEXT_MAX < size; i++) {
		char text[VERSION_TEXT_MAX + 1];
		uint32_t hex;

		if (bytes[i - 1] != 0 || bytes[i] != '3' || bytes[i + 1] != '.')
			continue;
		memcpy(text, bytes + i, VERSION_TEXT_MAX);
		text[VERSION_TEXT_MAX] = '\0';
		if (version_parse(text, &hex) < 0 || PY_HEX_MINOR(hex) < 7 || PY_HEX_MINOR(hex) > 20)
			continue;
		if (*found && *found != hex)
			return false;
		*found = hex;
	}
	return true;
}

static int from_rodata(const struct image *image, uint32_t *ret_hex)
{
	static const size_t step = CHUNK - 2 * VERSION_TEXT_MAX;
	_cleanup_(freep) uint8_t *bytes = malloc(CHUNK);
	uint32_t found = 0;
	raddr_t start;
	uint64_t size;
	int r = image_section(image, ".rodata", &start, &size);

	if (r < 0)
		return r;
	if (!bytes)
		return -ENOMEM;
	for (uint64_t at = 0; at < size && at < RODATA_MAX; at += step) {
		size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
		ssize_t n = image_read(image, raddr_add(start, (int64_t)at), bytes, want);

		if (n <= 0 || !scan_chunk(bytes, (size_t)n, &found))
			return -ENOENT;
	}
	if (!found)
		return -ENOENT;
	*ret_hex = found;
	return 0;
}

int version_find(const struct image *image, struct rmem *mem, raddr_t runtime, uint32_t *ret_hex)
{
	int r = from_debug_offsets(mem, runtime, ret_hex);

	if (r == 0 || r == -ESRCH || r == -EPERM)
		return r;
	if (from_symbol(image, mem, ret_hex) == 0 || from_code(image, mem, ret_hex) == 0)
		return 0;
	return from_rodata(image, ret_hex) == 0 ? 0 : -ENOENT;
}
