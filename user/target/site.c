/* SPDX-License-Identifier: MIT */
/*
 * Where a probe may sit and what it costs there. Invariant: an alias is never
 * inside a function. What lies before a function is padding only if the unwind
 * tables say that the function before has ended and every byte since is nops;
 * without such tables, if decoding shows the same.
 *
 * Limits: a function is believed to be at fn because the caller says so (it
 * comes from a symbol or an allocator table). A cold part of it that jumps
 * back to the first few instructions is not seen.
 */
#include "target/site.h"

#include <errno.h>
#include <string.h>

#include "target/site_x86.h"

#define ALIGNMENT 16u
#define PADDING_MAX 64u     /* largest gap between functions that counts as padding */
#define ALIAS_MAX 8u        /* longest nop that any kernel emulates */
#define BEFORE 160u         /* bytes looked at when guessing */
#define BODY_MAX 16384u     /* bytes of a function searched for branches */
#define STRAIGHT_MAX 16     /* instructions on the straight path */

const char *site_class_name(enum site_class c)
{
	static const char *const names[] = {
#define X(id, name) [SITE_##id] = name,
		SITE_CLASSES(X)
#undef X
	};

	return (unsigned int)c < SITE_CLASS_COUNT ? names[c] : "unknown";
}

static bool in_mask(site_mask_t mask, enum site_class c)
{
	return mask >> c & 1;
}

static int read_exactly(const struct image *image, uint64_t addr, void *buf, size_t size)
{
	ssize_t n = image_read(image, RADDR(addr), buf, size);

	if (n < 0)
		return (int)n;
	return (size_t)n == size ? 0 : -ENOENT;
}

/* The end of the function before fn, by unwind table or symbol. -ENOENT: fn - 1 belongs to one. -ENOTSUP: nobody knows. */
static int end_before(const struct image *image, uint64_t fn, uint64_t *ret_end)
{
	struct image_symbol symbol;
	const char *name;
	raddr_t start;
	uint64_t size;

	if (image_symbol_at(image, RADDR(fn - 1), &name, &symbol) == 0)
		return -ENOENT;
	if (image_function_before(image, RADDR(fn - 1), &start, &size) < 0)
		return -ENOTSUP;
	if (start.v + size > fn)
		return -ENOENT;
	if (fn - (start.v + size) > PADDING_MAX)
		return -ENOTSUP;
	*ret_end = start.v + size;
	return 0;
}

/* The number of padding bytes that end at fn. -ENOENT if there are none. */
static int padding_before(const struct image *image, uint64_t fn, size_t *ret_len)
{
	uint8_t bytes[BEFORE];
	uint64_t end;
	size_t len;
	int r;

	if (fn < BEFORE)
		return -ENOENT;
	r = end_before(image, fn, &end);
	if (r == -ENOENT)
		return r;
	if (r == 0) {
		len = (size_t)(fn - end);
		if (!len || read_exactly(image, end, bytes, len) < 0 || !site_x86_is_padding(bytes, len))
			return -ENOENT;
		*ret_len = len;
		return 0;
	}
	if (read_exactly(image, fn - BEFORE, bytes, BEFORE) < 0)
		return -ENOENT;
	len = site_x86_guess_padding(bytes, BEFORE);
	if (!len)
		return -ENOENT;
	*ret_len = len < PADDING_MAX ? len : PADDING_MAX;
	return 0;
}

/* The longest tail of the padding that is one nop of a class in mask; of any class if there is none. 0: none at all. */
static size_t choose_tail(const uint8_t *padding, size_t len, site_mask_t mask)
{
	size_t any = 0;

	for (size_t n = len < ALIAS_MAX ? len : ALIAS_MAX; n > 0; n--) {
		enum site_class c = site_x86_nop(padding + len - n, n);

		if (c == SITE_OTHER)
			continue;
		if (in_mask(mask, c))
			return n;
		if (!any)
			any = n;
	}
	return any;
}

int site_alias(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site)
{
	uint8_t padding[PADDING_MAX];
	enum site_class c;
	size_t len, n;
	int r;

	if (fn.v % ALIGNMENT || !image_is_text(image, fn))
		return -ENOENT;
	r = padding_before(image, fn.v, &len);
	if (r < 0)
		return r;
	if (read_exactly(image, fn.v - len, padding, len) < 0)
		return -ENOENT;
	n = choose_tail(padding, len, mask);
	if (!n)
		return -ENOENT;
	c = site_x86_nop(padding + len - n, n);
	*ret_site = (struct site){
		.addr = RADDR(fn.v - n), .len = (uint8_t)n, .class = c, .emulated = in_mask(mask, c),
		.stack_at_return = true, .args_intact = true,
	};
	return 0;
}

int site_alias_target(const struct image *image, raddr_t addr, raddr_t *ret_fn)
{
	uint64_t fn = (addr.v | (ALIGNMENT - 1)) + 1;
	uint8_t bytes[ALIAS_MAX];
	size_t n, len;
	int r;

	if (fn < addr.v || fn - addr.v > ALIAS_MAX || !image_is_text(image, addr) || !image_is_text(image, RADDR(fn)))
		return -ENOENT;
	n = (size_t)(fn - addr.v);
	if (read_exactly(image, addr.v, bytes, n) < 0 || site_x86_nop(bytes, n) == SITE_OTHER)
		return -ENOENT;
	r = padding_before(image, fn, &len);
	if (r < 0)
		return r;
	if (len < n)
		return -ENOENT;
	*ret_fn = RADDR(fn);
	return 0;
}

int site_entry(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site)
{
	struct site_insn insn;
	uint8_t bytes[15];
	ssize_t n;
	int r;

	if (!image_is_text(image, fn))
		return -ENOENT;
	n = image_read(image, fn, bytes, sizeof(bytes));
	if (n <= 0)
		return n < 0 ? (int)n : -ENOENT;
	r = site_x86_decode(bytes, (size_t)n, fn.v, &insn);
	if (r < 0)
		return r;
	*ret_site = (struct site){
		.addr = fn, .len = insn.len, .class = insn.class, .emulated = in_mask(mask, insn.class),
		.stack_at_return = true, .args_intact = true,
	};
	return 0;
}

/* The bytes of the function at fn, as far as anything says, at most size. */
static ssize_t read_function(const struct image *image, raddr_t fn, uint8_t *buf, size_t size)
{
	struct image_symbol symbol;
	const char *name;
	raddr_t start;
	uint64_t known = 0;

	if (image_function_before(image, fn, &start, &known) < 0 || !raddr_eq(start, fn))
		known = 0;
	if (!known && image_symbol_at(image, fn, &name, &symbol) == 0 && raddr_eq(symbol.addr, fn))
		known = symbol.size;
	if (known && known < size)
		size = (size_t)known;
	return image_read(image, fn, buf, size);
}

/* The lowest address behind fn that a jump of the function itself leads to; UINT64_MAX if none does. */
static uint64_t first_target(const uint8_t *bytes, size_t size, uint64_t fn)
{
	uint64_t first = UINT64_MAX;
	struct site_insn insn;

	for (size_t at = 0; at < size; at += insn.len) {
		if (site_x86_decode(bytes + at, size - at, fn + at, &insn) < 0)
			break;
		if (insn.target > fn && insn.target < first)
			first = insn.target;
	}
	return first;
}

int site_body(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site)
{
	uint8_t bytes[BODY_MAX];
	struct site_insn insn;
	bool stack_at_return = true;
	uint64_t barrier;
	ssize_t size;
	size_t at = 0;

	if (!image_is_text(image, fn))
		return -ENOENT;
	size = read_function(image, fn, bytes, sizeof(bytes));
	if (size <= 0)
		return size < 0 ? (int)size : -ENOENT;
	barrier = first_target(bytes, (size_t)size, fn.v);
	for (int i = 0; i < STRAIGHT_MAX && at < (size_t)size && fn.v + at < barrier; i++, at += insn.len) {
		if (site_x86_decode(bytes + at, (size_t)size - at, fn.v + at, &insn) < 0)
			break;
		if (in_mask(mask, insn.class)) {
			*ret_site = (struct site){
				.addr = RADDR(fn.v + at), .len = insn.len, .class = insn.class, .emulated = true,
				.stack_at_return = stack_at_return, .args_intact = true,
			};
			return 0;
		}
		if (insn.ends_straight || insn.clobbers_args)
			break;
		if (insn.moves_stack)
			stack_at_return = false;
	}
	return site_entry(image, fn, mask, ret_site);
}
