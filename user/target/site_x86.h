/* SPDX-License-Identifier: MIT */
/* What site.c asks of x86 instructions. Bytes in, facts out; inside target/ only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/site.h"

struct site_insn {
	uint8_t len;
	enum site_class class;
	bool moves_stack;      /* the stack pointer differs afterwards */
	bool clobbers_args;    /* rdi, rsi or rdx may differ afterwards */
	bool ends_straight;    /* a jump, a call, a return or a trap: what follows is not run by every caller */
	uint64_t target;       /* of a direct jump, 0 if it is none */
};

/* One instruction at run-time address at. -EINVAL if the bytes are none. */
int site_x86_decode(const uint8_t *bytes, size_t size, uint64_t at, struct site_insn *ret_insn);
/* One standard nop of exactly len bytes (those the kernel knows by heart): its class, or SITE_OTHER. */
enum site_class site_x86_nop(const uint8_t *bytes, size_t len);
/* Nothing but nops, of whatever form, that end exactly at the end of the bytes. */
bool site_x86_is_padding(const uint8_t *bytes, size_t len);
/* How many bytes at the end are padding, when nothing says where the function before ends: decodes from many starts, which soon
 * fall into step, and believes what three quarters of them agree on. 0: none, or they do not agree. */
size_t site_x86_guess_padding(const uint8_t *bytes, size_t len);
