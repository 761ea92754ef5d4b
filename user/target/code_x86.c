/* SPDX-License-Identifier: MIT */
/*
 * x86-64 instructions as rows of a table. Decoding is linear: after a jump
 * table or data in the text the rows may be nonsense, so whoever concludes
 * something from them checks it against something else.
 */
#include "target/code_x86.h"

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#define CHUNK 4096u
/* Immediates outside are numbers: vm.mmap_min_addr, and the end of user space with 4-level page tables. */
#define ADDRESS_MIN 0x10000
#define ADDRESS_END (1ull << 47)

/* What a decoder says of one instruction. */
struct decoded {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t at;
};

/* [rip+disp] or [disp32], in no other segment than the usual: the absolute address. */
static bool absolute(const struct decoded *d, const ZydisDecodedOperand *op, uint64_t *ret)
{
	ZyanU64 addr;

	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || op->mem.index != ZYDIS_REGISTER_NONE ||
	    op->mem.segment == ZYDIS_REGISTER_FS || op->mem.segment == ZYDIS_REGISTER_GS)
		return false;
	if (op->mem.base != ZYDIS_REGISTER_RIP && (op->mem.base != ZYDIS_REGISTER_NONE || !op->mem.disp.has_displacement))
		return false;
	if (ZYAN_FAILED(ZydisCalcAbsoluteAddress(&d->insn, op, d->at, &addr)))
		return false;
	*ret = addr;
	return true;
}

static bool is_register(const ZydisDecodedOperand *op)
{
	return op->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

/* Instructions that put memory into a register as it is: integers and, for whole tables copied at once, vectors. */
static bool is_load(ZydisMnemonic mnemonic)
{
	switch (mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_MOVQ:
	case ZYDIS_MNEMONIC_MOVDQA:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_MOVAPS:
	case ZYDIS_MNEMONIC_MOVUPS:
		return true;
	default:
		return false;
	}
}

/* A load into a register, of whatever form. False: some other use of memory. */
static bool decode_load(const struct decoded *d, struct code_insn *row)
{
	const ZydisDecodedOperand *memory = &d->op[1];

	if (!is_register(&d->op[0]) || memory->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	row->reg = (uint16_t)d->op[0].reg.value;
	row->size = (uint8_t)(memory->size / 8);
	if (absolute(d, memory, &row->target)) {
		row->op = CODE_LOAD_ABS;
		return true;
	}
	if (memory->mem.index != ZYDIS_REGISTER_NONE || memory->mem.segment == ZYDIS_REGISTER_GS)
		return false;
	row->target = (uint64_t)memory->mem.disp.value;
	if (memory->mem.segment == ZYDIS_REGISTER_FS) {
		row->op = memory->mem.base == ZYDIS_REGISTER_NONE ? CODE_LOAD_FS : CODE_OTHER;
		return row->op == CODE_LOAD_FS;
	}
	row->base = (uint16_t)memory->mem.base;
	row->op = CODE_LOAD_REG;
	return true;
}

/* cmp and test: with absolute memory on either side, or a register with a 32-bit immediate. */
static bool decode_compare(const struct decoded *d, struct code_insn *row)
{
	for (int i = 0; i < 2; i++)
		if (absolute(d, &d->op[i], &row->target)) {
			row->op = CODE_LOAD_ABS;
			row->size = (uint8_t)(d->op[i].size / 8);
			row->reg = is_register(&d->op[1 - i]) ? (uint16_t)d->op[1 - i].reg.value : 0;
			return true;
		}
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_CMP && is_register(&d->op[0]) &&
	    d->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && d->insn.raw.imm[0].size == 32) {
		row->op = CODE_CMP_IMM;
		row->reg = (uint16_t)d->op[0].reg.value;
		row->target = d->op[1].imm.value.u;
		return true;
	}
	return false;
}

static bool decode_address(const struct decoded *d, struct code_insn *row)
{
	row->reg = (uint16_t)d->op[0].reg.value;
	row->op = CODE_LEA_ABS;
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_LEA)
		return absolute(d, &d->op[1], &row->target);
	if (!is_register(&d->op[0]) || d->op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || d->op[0].size < 32)
		return false;
	row->target = d->op[1].imm.value.u;
	return row->target >= ADDRESS_MIN && row->target < ADDRESS_END;
}

/* Jumps and calls. */
static bool decode_branch(const struct decoded *d, struct code_insn *row)
{
	bool call = d->insn.mnemonic == ZYDIS_MNEMONIC_CALL;
	const ZydisDecodedOperand *op = &d->op[0];
	ZyanU64 target;

	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		if (!op->imm.is_relative || ZYAN_FAILED(ZydisCalcAbsoluteAddress(&d->insn, op, d->at, &target)))
			return false;
		row->target = target;
		if (call)
			row->op = CODE_CALL;
		else
			row->op = d->insn.mnemonic == ZYDIS_MNEMONIC_JMP ? CODE_JMP : CODE_JCC;
		return true;
	}
	if (is_register(op)) {
		row->op = CODE_CALL_REG;
		row->reg = (uint16_t)op->reg.value;
		return true;
	}
	if (op->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return false;
	row->size = 8;
	if (absolute(d, op, &row->target)) {
		row->op = CODE_CALL_SLOT;
		return true;
	}
	if (op->mem.index != ZYDIS_REGISTER_NONE || op->mem.segment == ZYDIS_REGISTER_FS ||
	    op->mem.segment == ZYDIS_REGISTER_GS)
		return false;
	row->op = CODE_CALL_REG;
	row->base = (uint16_t)op->mem.base;
	row->target = (uint64_t)op->mem.disp.value;
	return true;
}

static bool classify(const struct decoded *d, struct code_insn *row)
{
	switch (d->insn.meta.category) {
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_COND_BR:
		return decode_branch(d, row);
	case ZYDIS_CATEGORY_RET:
		row->op = CODE_RET;
		return true;
	default:
		break;
	}
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
		return decode_compare(d, row);
	case ZYDIS_MNEMONIC_LEA:
		return decode_address(d, row);
	default:
		break;
	}
	if (!is_load(d->insn.mnemonic))
		return false;
	if (d->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		return decode_address(d, row);
	return decode_load(d, row);
}

size_t code_decode_bytes(const uint8_t *bytes, size_t size, uint64_t at, struct code_insn *ret_insns, size_t max)
{
	ZydisDecoder decoder;
	struct decoded d;
	size_t n = 0;

	if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
		return 0;
	for (size_t i = 0; n < max && i < size; i += d.insn.length) {
		/* Operands that an instruction does not have read as unused. */
		memset(d.op, 0, sizeof(d.op));
		if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, bytes + i, size - i, &d.insn, d.op)))
			break;
		d.at = at + i;
		struct code_insn row = { .addr = RADDR(d.at), .len = d.insn.length };

		if (!classify(&d, &row))
			row = (struct code_insn){ .addr = row.addr, .len = row.len, .op = CODE_OTHER };
		ret_insns[n++] = row;
	}
	return n;
}

ssize_t code_decode(const struct image *image, raddr_t addr, struct code_insn *ret_insns, size_t max)
{
	uint8_t bytes[CHUNK];
	size_t n = 0;

	if (!image_is_text(image, addr))
		return -ENOENT;
	while (n < max) {
		const struct code_insn *last;
		ssize_t size = image_read(image, addr, bytes, sizeof(bytes));
		size_t more;

		if (size <= 0)
			return n ? (ssize_t)n : size;
		more = code_decode_bytes(bytes, (size_t)size, addr.v, ret_insns + n, max - n);
		n += more;
		if (!more || (size_t)size < sizeof(bytes))
			break;
		/* The last one may be cut by the end of the chunk: what follows is decoded from there again. */
		last = &ret_insns[n - 1];
		addr = raddr_add(last->addr, last->len);
	}
	return (ssize_t)n;
}
