/* SPDX-License-Identifier: MIT */
/* Decoding by the table of well-formed byte sequences of the Unicode standard (chapter 3.9). */
#include "base/utf8.h"

#include "base/strbuf.h"

struct range {
	uint32_t first, last;
};

static const struct range wide[] = {
	{ 0x1100, 0x115f }, { 0x2e80, 0x303e }, { 0x3041, 0x33ff }, { 0x3400, 0x4dbf }, { 0x4e00, 0x9fff },
	{ 0xa000, 0xa4cf }, { 0xac00, 0xd7a3 }, { 0xf900, 0xfaff }, { 0xfe30, 0xfe6f }, { 0xff00, 0xff60 },
	{ 0xffe0, 0xffe6 }, { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff }, { 0x1f900, 0x1f9ff }, { 0x20000, 0x3fffd },
};

/* Zero-width joiner and non-joiner (200c, 200d) are left: scripts and emoji need them. */
static const struct range unsafe[] = {
	{ 0x00, 0x1f }, { 0x7f, 0x9f }, { 0xad, 0xad }, { 0x061c, 0x061c }, { 0x115f, 0x1160 }, { 0x180e, 0x180e },
	{ 0x200b, 0x200b }, { 0x200e, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f }, { 0x3164, 0x3164 },
	{ 0xfeff, 0xfeff }, { 0xfff0, 0xfffb }, { 0xe0000, 0xe0fff },
};

static bool in_ranges(uint32_t c, const struct range *ranges, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (c >= ranges[i].first && c <= ranges[i].last)
			return true;
	return false;
}

#define IN(c, table) in_ranges(c, table, sizeof(table) / sizeof((table)[0]))

bool utf8_is_unsafe(uint32_t c)
{
	return (c < 0x20 || c >= 0x7f) && IN(c, unsafe);
}

unsigned utf8_width(uint32_t c)
{
	return c >= 0x1100 && IN(c, wide) ? 2 : 1;
}

size_t utf8_decode(const char *s, size_t len, uint32_t *ret_char)
{
	static const uint32_t smallest[] = { 0, 0x80, 0x800, 0x10000 };
	const unsigned char *b = (const unsigned char *)s;
	unsigned more = b[0] < 0x80 ? 0 : b[0] < 0xc2 ? 4 : b[0] < 0xe0 ? 1 : b[0] < 0xf0 ? 2 : b[0] < 0xf5 ? 3 : 4;
	uint32_t c;

	*ret_char = UTF8_INVALID;
	if (more == 4 || more >= len)
		return 1;
	c = more ? b[0] & (0x3fu >> more) : b[0];
	for (unsigned i = 1; i <= more; i++) {
		if ((b[i] & 0xc0) != 0x80)
			return 1;
		c = (c << 6) | (b[i] & 0x3f);
	}
	if (c < smallest[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 1;
	*ret_char = c;
	return more + 1;
}

void utf8_append_valid(struct strbuf *buf, const char *s, size_t len)
{
	size_t n;

	for (size_t i = 0; i < len; i += n) {
		uint32_t c;

		n = utf8_decode(s + i, len - i, &c);
		if (c == UTF8_INVALID)
			strbuf_append(buf, "\xef\xbf\xbd");
		else
			strbuf_append_n(buf, s + i, n);
	}
}
