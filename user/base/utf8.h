/* SPDX-License-Identifier: MIT */
/* UTF-8 that nobody vouches for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strbuf;

#define UTF8_INVALID UINT32_MAX

/*
 * The character at s, of at most len bytes (len > 0). Returns the bytes it takes, always >= 1; *ret_char is UTF8_INVALID for a byte
 * that starts no character: overlong forms, surrogates, values over 0x10ffff and cut sequences are taken one byte at a time.
 */
size_t utf8_decode(const char *s, size_t len, uint32_t *ret_char);
/* Columns on a terminal, at most: 2 for East Asian wide characters and emoji (by block), else 1. Combining marks count too, so that no
 * number of them gets past a cut. */
unsigned utf8_width(uint32_t c);
/* Control characters (C0, DEL, C1), line and paragraph separators, bidirectional controls, and characters that cannot be seen. */
bool utf8_is_unsafe(uint32_t c);
/* Appends s with each invalid byte replaced by U+FFFD. */
void utf8_append_valid(struct strbuf *buf, const char *s, size_t len);
