/* SPDX-License-Identifier: MIT */
/*
 * Where functions begin and end, from the unwind tables: every compiled
 * function of an x86-64 program has its entry in .eh_frame, stripped or not,
 * static or not, with its cold part in an entry of its own. Only the encodings
 * that GNU ld, gold and lld write are read (binary search table of 32-bit
 * offsets, "zR" augmentations with 4- or 8-byte pointers); others are
 * -ENOTSUP. Hand-written assembly may lack entries.
 *
 * Tables are read from the file at each question (some 15 small reads).
 */
#include <errno.h>
#include <string.h>

#include "target/image_private.h"

/* DW_EH_PE_*: the pointer encodings. */
#define FORMAT_MASK 0x0f
#define FORMAT_ABSPTR 0x00
#define FORMAT_UDATA4 0x03
#define FORMAT_UDATA8 0x04
#define FORMAT_SDATA4 0x0b
#define FORMAT_SDATA8 0x0c
#define DATAREL_SDATA4 0x3b

#define CIE_READ 256   /* bytes of a CIE looked at; they have some 20 */

struct eh_frame_hdr {
	uint8_t version, frame_encoding, count_encoding, table_encoding;
	uint32_t frame, count;
};
_Static_assert(sizeof(struct eh_frame_hdr) == 12, "as in the file");

static int read_exactly(const struct image *image, uint64_t addr, void *buf, size_t size)
{
	ssize_t n = image_read(image, RADDR(addr), buf, size);

	if (n < 0)
		return (int)n;
	return (size_t)n == size ? 0 : -ENOENT;
}

static size_t format_size(uint8_t encoding)
{
	switch (encoding & FORMAT_MASK) {
	case FORMAT_UDATA4:
	case FORMAT_SDATA4:
		return 4;
	case FORMAT_ABSPTR:
	case FORMAT_UDATA8:
	case FORMAT_SDATA8:
		return 8;
	default:
		return 0;
	}
}

struct cursor {
	const uint8_t *p, *end;
};

static int take(struct cursor *c, uint8_t *ret)
{
	if (c->p == c->end)
		return -ENOENT;
	*ret = *c->p++;
	return 0;
}

/* Any LEB128: the value is of no interest. */
static int skip_leb(struct cursor *c)
{
	uint8_t byte;

	do
		if (take(c, &byte) < 0)
			return -ENOENT;
	while (byte & 0x80);
	return 0;
}

/* The data of the augmentation "zPLR" up to the pointer encoding. */
static int take_encoding(struct cursor *c, const char *letters, uint8_t *ret_encoding)
{
	uint8_t byte;
	size_t size;

	for (; *letters; letters++) {
		if (*letters == 'S' || *letters == 'B')
			continue;
		if (take(c, &byte) < 0)
			return -ENOENT;
		if (*letters == 'R') {
			*ret_encoding = byte;
			return 0;
		}
		if (*letters == 'L')
			continue;
		size = format_size(byte);
		if (*letters != 'P' || !size || (size_t)(c->end - c->p) < size)
			return -ENOTSUP;
		c->p += size;
	}
	*ret_encoding = FORMAT_ABSPTR;
	return 0;
}

/* How the CIE at addr says that its FDEs write addresses. */
static int cie_encoding(const struct image *image, uint64_t addr, uint8_t *ret_encoding)
{
	uint8_t bytes[CIE_READ], version, byte;
	const char *letters;
	struct cursor c;
	uint32_t head[2];
	ssize_t n;

	n = image_read(image, RADDR(addr), bytes, sizeof(bytes));
	if (n < (ssize_t)sizeof(head))
		return -ENOENT;
	memcpy(head, bytes, sizeof(head));
	if (head[0] >= 0xfffffff0u || head[1] != 0)
		return -ENOTSUP;
	c = (struct cursor){ bytes + sizeof(head), bytes + n };
	if (head[0] < (size_t)n - 4)
		c.end = bytes + 4 + head[0];
	if (c.end < c.p || take(&c, &version) < 0 || (version != 1 && version != 3))
		return -ENOTSUP;
	letters = (const char *)c.p;
	do
		if (take(&c, &byte) < 0)
			return -ENOENT;
	while (byte);
	if (letters[0] != 'z')
		return -ENOTSUP;
	/* Code and data alignment, return address column, length of the augmentation's data. */
	for (int i = 0; i < 4; i++)
		if (skip_leb(&c) < 0)
			return -ENOENT;
	return take_encoding(&c, letters + 1, ret_encoding);
}

/* The bytes of code that the FDE at addr describes. */
static int fde_size(const struct image *image, uint64_t addr, uint64_t *ret_size)
{
	uint32_t head[2], small;
	uint8_t encoding;
	uint64_t size;
	int r;

	r = read_exactly(image, addr, head, sizeof(head));
	if (r < 0)
		return r;
	if (head[0] >= 0xfffffff0u || head[1] == 0)
		return -ENOTSUP;
	r = cie_encoding(image, addr + 4 - head[1], &encoding);
	if (r < 0)
		return r;
	/* The start, which the search table has told already, then the size in the same format. */
	switch (format_size(encoding)) {
	case 4:
		r = read_exactly(image, addr + 12, &small, sizeof(small));
		size = small;
		break;
	case 8:
		r = read_exactly(image, addr + 16, &size, sizeof(size));
		break;
	default:
		r = -ENOTSUP;
	}
	if (r < 0)
		return r;
	*ret_size = size;
	return 0;
}

/* The run-time address that the i-th row of the search table speaks of, and its FDE. */
static int table_row(const struct image *image, uint64_t hdr, uint32_t i, uint64_t *ret_start, uint64_t *ret_fde)
{
	int32_t row[2];
	int r;

	r = read_exactly(image, hdr + sizeof(struct eh_frame_hdr) + 8ull * i, row, sizeof(row));
	if (r < 0)
		return r;
	*ret_start = hdr + (uint64_t)(int64_t)row[0];
	*ret_fde = hdr + (uint64_t)(int64_t)row[1];
	return 0;
}

int image_function_before(const struct image *image, raddr_t addr, raddr_t *ret_start, uint64_t *ret_size)
{
	uint64_t hdr = image->eh_frame_hdr + image->bias, start, fde, size, best_start = 0, best_fde = 0;
	struct eh_frame_hdr header;
	uint32_t low = 0, high;
	int r;

	if (!image->has_eh_frame_hdr)
		return -ENOENT;
	r = read_exactly(image, hdr, &header, sizeof(header));
	if (r < 0)
		return r;
	if (header.version != 1 || format_size(header.frame_encoding) != 4 || header.count_encoding != FORMAT_UDATA4 ||
	    header.table_encoding != DATAREL_SDATA4)
		return -ENOTSUP;
	for (high = header.count; low < high;) {
		uint32_t mid = low + (high - low) / 2;

		r = table_row(image, hdr, mid, &start, &fde);
		if (r < 0)
			return r;
		if (start <= addr.v) {
			best_start = start;
			best_fde = fde;
			low = mid + 1;
		} else {
			high = mid;
		}
	}
	if (!best_fde)
		return -ENOENT;
	r = fde_size(image, best_fde, &size);
	if (r < 0)
		return r;
	if (!image_is_text(image, RADDR(best_start)) || size > UINT64_MAX - best_start)
		return -ENOENT;
	*ret_start = RADDR(best_start);
	*ret_size = size;
	return 0;
}
