/* SPDX-License-Identifier: MIT */
/*
 * The three storage kinds of a str to UTF-8. Never fails: what is no character
 * becomes U+FFFD. Control characters pass; the writers escape them.
 */
#include "interp/text.h"

#include <stdbool.h>
#include <string.h>

#define REPLACEMENT 0xfffdu

static uint32_t char_at(int kind, const uint8_t *src)
{
	uint16_t u16;
	uint32_t u32;

	switch (kind) {
	case 1:
		return *src;
	case 2:
		memcpy(&u16, src, sizeof(u16));
		return u16;
	default:
		memcpy(&u32, src, sizeof(u32));
		return u32;
	}
}

static size_t encode(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | (c >> 6));
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | (c >> 12));
		out[1] = (char)(0x80 | ((c >> 6) & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | (c >> 18));
	out[1] = (char)(0x80 | ((c >> 12) & 0x3f));
	out[2] = (char)(0x80 | ((c >> 6) & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

static bool is_character(uint32_t c)
{
	return c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

size_t text_utf8(int kind, const uint8_t *src, size_t src_bytes, char *dst, size_t dst_size)
{
	size_t done = 0;

	if (dst_size == 0)
		return 0;
	dst[0] = '\0';
	if (kind != 1 && kind != 2 && kind != 4)
		return 0;
	for (size_t i = 0; i + (size_t)kind <= src_bytes; i += (size_t)kind) {
		uint32_t c = char_at(kind, src + i);
		char out[4];
		size_t n;

		/* a NUL inside a name would cut it for every reader that takes C strings */
		n = encode(is_character(c) && c != 0 ? c : REPLACEMENT, out);
		if (n > dst_size - 1 - done)
			break;
		memcpy(dst + done, out, n);
		done += n;
	}
	dst[done] = '\0';
	return done;
}
