/* SPDX-License-Identifier: MIT */
/* CPython's str bytes to UTF-8. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* kind: bytes a character (1 Latin-1, 2 UCS-2, 4 UCS-4). Lone surrogates, values over 0x10ffff and NUL become U+FFFD. Always
 * terminates dst; returns the bytes written without the NUL. Cuts at a character's edge when dst is full. */
size_t text_utf8(int kind, const uint8_t *src, size_t src_bytes, char *dst, size_t dst_size);
