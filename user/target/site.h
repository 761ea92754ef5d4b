/* SPDX-License-Identifier: MIT */
/*
 * Probe sites: where in a function a uprobe is cheap. Architecture neutral;
 * what x86 instructions say is in code_x86.c.
 *
 * The kernel emulates some instructions under a uprobe and single-steps the
 * rest, which costs 13 times as much; which ones depends on the kernel and is
 * measured at start (trace/kernel.h), not assumed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/raddr.h"
#include "target/image.h"

/* Instruction kinds that decide the cost of a uprobe. X-macro: enum, names in reports, measurement table. */
#define SITE_CLASSES(X)           \
	X(NOP1, "nop1")           \
	X(NOP2, "nop2")           \
	X(NOP3, "nop3")           \
	X(NOP4, "nop4")           \
	X(NOP5, "nop5")           \
	X(NOP6, "nop6")           \
	X(NOP7, "nop7")           \
	X(NOP8, "nop8")           \
	X(NOP9, "nop9")           \
	X(PUSH, "push")           \
	X(CALL, "call")           \
	X(JMP, "jmp")             \
	X(JCC, "jcc")             \
	X(OTHER, "other")

enum site_class {
#define X(id, name) SITE_##id,
	SITE_CLASSES(X)
#undef X
	SITE_CLASS_COUNT
};

const char *site_class_name(enum site_class c);

/* Which classes this kernel emulates: bit (1 << enum site_class). */
typedef uint32_t site_mask_t;
#define SITE_MASK_LINUX_6_18 \
	((1u << SITE_NOP1) | (1u << SITE_NOP2) | (1u << SITE_NOP3) | (1u << SITE_NOP4) | (1u << SITE_NOP5) | \
	 (1u << SITE_NOP6) | (1u << SITE_NOP7) | (1u << SITE_NOP8) | (1u << SITE_PUSH) | (1u << SITE_CALL) | \
	 (1u << SITE_JMP) | (1u << SITE_JCC))

struct site {
	raddr_t addr;
	uint8_t len;            /* bytes of the instruction at addr */
	enum site_class class;
	bool emulated;          /* by the mask given */
	bool stack_at_return;   /* the stack pointer still points at the return address: a return probe may sit here */
	bool args_intact;       /* rdi rsi rdx still hold the arguments */
};

/* The alias of the function at fn: the start of the last padding nop before it, of at most 8 bytes, that ends exactly at fn. Of a
 * longer nop, or several, the longest tail that decodes as ONE nop of a class in mask (any class if none is in mask); never an
 * address that a direct jump or call of the surrounding code targets is needed: padding is unreachable. fn must be 16-aligned
 * and the byte run before the padding must end a function (ret, jmp, call to noreturn, ud2, int3, or the image's end of symbol).
 * -ENOENT if there is no padding that serves. */
int site_alias(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site);
/* If addr lies in padding and is an alias in the sense above, the function it stands for. -ENOENT otherwise. Stateless: this is how
 * slots left armed by a killed tracer are recognised. */
int site_alias_target(const struct image *image, raddr_t addr, raddr_t *ret_fn);
/* The entry itself, whatever instruction stands there. */
int site_entry(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site);
/* The first instruction at or after fn, on the straight path every call takes (before the first branch target or branch taken
 * decision other than the site itself), that mask emulates, with arguments intact. Falls back to site_entry(). */
int site_body(const struct image *image, raddr_t fn, site_mask_t mask, struct site *ret_site);
