/* SPDX-License-Identifier: MIT */
#include "trace/kernel_x86.h"

/* Intel's recommended nops of each length, then one of each other class. All return at once. */
#define NOP(n, bytes) \
	".type specimen_nop" #n ", @function\nspecimen_nop" #n ": .byte " bytes "\n ret\n"

__asm__(".pushsection .text\n"
	NOP(1, "0x90")
	NOP(2, "0x66,0x90")
	NOP(3, "0x0f,0x1f,0x00")
	NOP(4, "0x0f,0x1f,0x40,0x00")
	NOP(5, "0x0f,0x1f,0x44,0x00,0x00")
	NOP(6, "0x66,0x0f,0x1f,0x44,0x00,0x00")
	NOP(7, "0x0f,0x1f,0x80,0,0,0,0")
	NOP(8, "0x0f,0x1f,0x84,0,0,0,0,0")
	NOP(9, "0x66,0x0f,0x1f,0x84,0,0,0,0,0")
	".type specimen_push, @function\nspecimen_push: push %rbp\n pop %rbp\n ret\n"
	".type specimen_call, @function\nspecimen_call: call 1f\n ret\n1: ret\n"
	".type specimen_jmp, @function\nspecimen_jmp: jmp 1f\n1: ret\n"
	".type specimen_jcc, @function\nspecimen_jcc: xor %eax,%eax\nspecimen_jcc_insn: jz 1f\n1: ret\n"
	".type specimen_other, @function\nspecimen_other: lea (%rdi),%rax\n ret\n"
	".popsection\n");

#define DECLARE(name) void specimen_##name(void);
#define DECLARE_ALL(X) X(nop1) X(nop2) X(nop3) X(nop4) X(nop5) X(nop6) X(nop7) X(nop8) X(nop9) \
	X(push) X(call) X(jmp) X(jcc) X(jcc_insn) X(other)
DECLARE_ALL(DECLARE)

#define SPECIMEN(name) { specimen_##name, (const void *)specimen_##name }

const struct kernel_specimen kernel_specimens[SITE_CLASS_COUNT] = {
	[SITE_NOP1] = SPECIMEN(nop1),
	[SITE_NOP2] = SPECIMEN(nop2),
	[SITE_NOP3] = SPECIMEN(nop3),
	[SITE_NOP4] = SPECIMEN(nop4),
	[SITE_NOP5] = SPECIMEN(nop5),
	[SITE_NOP6] = SPECIMEN(nop6),
	[SITE_NOP7] = SPECIMEN(nop7),
	[SITE_NOP8] = SPECIMEN(nop8),
	[SITE_NOP9] = SPECIMEN(nop9),
	[SITE_PUSH] = SPECIMEN(push),
	[SITE_CALL] = SPECIMEN(call),
	[SITE_JMP] = SPECIMEN(jmp),
	[SITE_JCC] = { specimen_jcc, (const void *)specimen_jcc_insn },
	[SITE_OTHER] = SPECIMEN(other),
};
