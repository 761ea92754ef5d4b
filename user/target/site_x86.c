/* SPDX-License-Identifier: MIT */
/*
 * Instructions as the kernel's uprobes see them. The classes follow
 * arch/x86/kernel/uprobes.c: push of a 64-bit register, call rel32, jmp and
 * jcc, none of them with an operand size prefix, and the standard nops, which
 * the kernel compares byte by byte.
 */
#include "target/site_x86.h"

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#define STARTS 48u       /* where guessing begins to decode, before the padding */
#define AGREE_MIN 8u

static const uint8_t nops[][9] = {
	{ 0x90 },
	{ 0x66, 0x90 },
	{ 0x0f, 0x1f, 0x00 },
	{ 0x0f, 0x1f, 0x40, 0x00 },
	{ 0x0f, 0x1f, 0x44, 0x00, 0x00 },
	{ 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
	{ 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
	{ 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
	{ 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
};
_Static_assert(SITE_NOP9 - SITE_NOP1 == 8 && sizeof(nops) / sizeof(nops[0]) == 9, "class of n bytes: SITE_NOP1 + n - 1");

enum site_class site_x86_nop(const uint8_t *bytes, size_t len)
{
	if (len < 1 || len > 9 || memcmp(bytes, nops[len - 1], len))
		return SITE_OTHER;
	return (enum site_class)(SITE_NOP1 + len - 1);
}

static enum site_class classify(const uint8_t *bytes, size_t len)
{
	uint8_t first = bytes[0];

	if (site_x86_nop(bytes, len) != SITE_OTHER)
		return site_x86_nop(bytes, len);
	if (len == 1 && (first & 0xf8) == 0x50)
		return SITE_PUSH;
	if (len == 2 && first == 0x41 && (bytes[1] & 0xf8) == 0x50)
		return SITE_PUSH;
	if (first == 0xe8 && len == 5)
		return SITE_CALL;
	if ((first == 0xe9 && len == 5) || first == 0xeb)
		return SITE_JMP;
	if ((first & 0xf0) == 0x70 || (first == 0x0f && len == 6 && (bytes[1] & 0xf0) == 0x80))
		return SITE_JCC;
	return SITE_OTHER;
}

static void note_writes(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *op, struct site_insn *ret)
{
	for (int i = 0; i < insn->operand_count; i++) {
		ZydisRegister reg;

		if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER || !(op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			continue;
		reg = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op[i].reg.value);
		if (reg == ZYDIS_REGISTER_RSP)
			ret->moves_stack = true;
		if (reg == ZYDIS_REGISTER_RDI || reg == ZYDIS_REGISTER_RSI || reg == ZYDIS_REGISTER_RDX)
			ret->clobbers_args = true;
	}
}

static int decode(const uint8_t *bytes, size_t size, ZydisDecodedInstruction *ret_insn,
		  ZydisDecodedOperand ret_op[static ZYDIS_MAX_OPERAND_COUNT])
{
	ZydisDecoder decoder;

	if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return -ENOTSUP;
	memset(ret_op, 0, sizeof(*ret_op) * ZYDIS_MAX_OPERAND_COUNT);
	return ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes, size, ret_insn, ret_op)) ? -EINVAL : 0;
}

int site_x86_decode(const uint8_t *bytes, size_t size, uint64_t at, struct site_insn *ret_insn)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	struct site_insn out = { 0 };
	ZyanU64 target;
	int r;

	r = decode(bytes, size, &insn, op);
	if (r < 0)
		return r;
	out.len = insn.length;
	out.class = classify(bytes, insn.length);
	note_writes(&insn, op, &out);
	switch (insn.meta.category) {
	case ZYDIS_CATEGORY_CALL:
		out.clobbers_args = true;
		out.ends_straight = true;
		break;
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
		out.ends_straight = true;
		if (op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op[0].imm.is_relative &&
		    ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&insn, &op[0], at, &target)))
			out.target = target;
		break;
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_INTERRUPT:
		out.ends_straight = true;
		break;
	default:
		out.ends_straight = insn.mnemonic == ZYDIS_MNEMONIC_UD2 || insn.mnemonic == ZYDIS_MNEMONIC_HLT;
	}
	*ret_insn = out;
	return 0;
}

/* The length of the nop at the start of bytes, 0 if there is none. */
static size_t any_nop(const uint8_t *bytes, size_t size)
{
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;

	if (decode(bytes, size, &insn, op) < 0 || insn.mnemonic != ZYDIS_MNEMONIC_NOP)
		return 0;
	return insn.length;
}

bool site_x86_is_padding(const uint8_t *bytes, size_t len)
{
	size_t at = 0, n;

	while (at < len) {
		n = any_nop(bytes + at, len - at);
		if (!n)
			return false;
		at += n;
	}
	return true;
}

/* May the code stop here for good? After a call it may: that one may not return. */
static bool may_end_function(const uint8_t *bytes, const struct site_insn *insn)
{
	bool conditional = insn->class == SITE_JCC || (bytes[0] >= 0xe0 && bytes[0] <= 0xe3);

	return insn->ends_straight && !conditional;
}

/* Decodes from start on. The bytes of padding at the end, or -1 if no instruction ends where the bytes do. */
static int padding_from(const uint8_t *bytes, size_t len, size_t start)
{
	size_t at = start, n, end_of_code = len;
	struct site_insn insn;

	while (at < len) {
		n = any_nop(bytes + at, len - at);
		if (!n) {
			if (site_x86_decode(bytes + at, len - at, 0, &insn) < 0)
				return -1;
			n = insn.len;
			end_of_code = may_end_function(bytes + at, &insn) ? at + n : len;
		}
		at += n;
	}
	return (int)(len - end_of_code);
}

size_t site_x86_guess_padding(const uint8_t *bytes, size_t len)
{
	unsigned int votes[STARTS] = { 0 }, agree, reached = 0;
	int found[STARTS];
	size_t best = 0;

	for (size_t i = 0; i < STARTS; i++) {
		found[i] = i < len ? padding_from(bytes, len, i) : -1;
		reached += found[i] >= 0;
	}
	for (size_t i = 0; i < STARTS; i++) {
		for (size_t k = 0; k < STARTS && found[i] >= 0; k++)
			votes[i] += found[k] == found[i];
		if (votes[i] > votes[best])
			best = i;
	}
	agree = votes[best];
	if (agree < AGREE_MIN || agree * 4 < reached * 3 || found[best] <= 0)
		return 0;
	return (size_t)found[best];
}
