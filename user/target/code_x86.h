/* SPDX-License-Identifier: MIT */
/*
 * Reading x86-64 machine code (with Zydis): the questions that interp/ and
 * site.c ask of it, answered as tables, never by executing anything.
 * Bounded: at most max_insns instructions are decoded, straight on.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/raddr.h"
#include "target/image.h"

enum code_op {
	CODE_LOAD_ABS,    /* mov reg, [rip+disp] or [disp32]; cmp/test with such memory too: target = absolute address, size = bytes */
	CODE_LOAD_FS,     /* mov reg, fs:[disp]: target = sign-extended displacement */
	CODE_LOAD_REG,    /* mov reg, [base+disp], no index: target = sign-extended displacement, base and reg are Zydis register ids */
	CODE_LEA_ABS,     /* lea reg, [rip+disp], or mov reg, imm that could be an address (0x10000 or more): target */
	CODE_CMP_IMM,     /* cmp reg, imm32: target = immediate (a guard compares with a function in non-PIE builds) */
	CODE_CALL,        /* call rel32: target */
	CODE_CALL_SLOT,   /* call/jmp [rip+disp] or [disp32]: target = address of the slot */
	CODE_CALL_REG,    /* call/jmp through a register (reg), or through [base+disp] (base, target = displacement, size = 8) */
	CODE_JMP,         /* jmp rel: target */
	CODE_JCC,         /* conditional jump: target */
	CODE_RET,
	CODE_OTHER,
};

struct code_insn {
	raddr_t addr;
	uint8_t len;
	enum code_op op;
	uint8_t size;        /* bytes of the memory operand, 0 if none */
	uint16_t reg, base;  /* Zydis register numbers: destination and memory base; 0 if none */
	uint64_t target;
};

/* Decodes up to max instructions from addr on. Stops early at bytes that do not decode or at the end of the text. Does not follow
 * jumps. Returns the number decoded or a negative errno. */
ssize_t code_decode(const struct image *image, raddr_t addr, struct code_insn *ret_insns, size_t max);
/* Same on bytes in hand; at is their run-time address. */
size_t code_decode_bytes(const uint8_t *bytes, size_t size, uint64_t at, struct code_insn *ret_insns, size_t max);
