/* SPDX-License-Identifier: MIT */
/* Instructions in, rows out; the byte sequences are those that CPython builds contain. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "target/code_x86.h"
#include "tiny_elf.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define AT 0x500000ull

static const struct {
	const char *what;
	uint8_t bytes[16];
	uint8_t len;
	enum code_op op;
	uint8_t size;
	uint64_t target;
} cases[] = {
	{ "mov 0x10(%rip),%rax", { 0x48, 0x8b, 0x05, 0x10, 0, 0, 0 }, 7, CODE_LOAD_ABS, 8, AT + 7 + 0x10 },
	{ "mov -4(%rip),%edi", { 0x8b, 0x3d, 0xfc, 0xff, 0xff, 0xff }, 6, CODE_LOAD_ABS, 4, AT + 6 - 4 },
	{ "mov 0x959f48,%rax", { 0x48, 0x8b, 0x04, 0x25, 0x48, 0x9f, 0x95, 0 }, 8, CODE_LOAD_ABS, 8, 0x959f48 },
	{ "movdqa 0(%rip),%xmm0", { 0x66, 0x0f, 0x6f, 0x05, 0, 0, 0, 0 }, 8, CODE_LOAD_ABS, 16, AT + 8 },
	{ "cmp %rax,0(%rip)", { 0x48, 0x39, 0x05, 0, 0, 0, 0 }, 7, CODE_LOAD_ABS, 8, AT + 7 },
	{ "cmpq $0,0(%rip)", { 0x48, 0x83, 0x3d, 0, 0, 0, 0, 0 }, 8, CODE_LOAD_ABS, 8, AT + 8 },
	{ "mov %fs:-24,%rax", { 0x64, 0x48, 0x8b, 0x04, 0x25, 0xe8, 0xff, 0xff, 0xff }, 9, CODE_LOAD_FS, 8, (uint64_t)-24 },
	{ "mov 0x10(%rax),%rdx", { 0x48, 0x8b, 0x50, 0x10 }, 4, CODE_LOAD_REG, 8, 0x10 },
	{ "mov 0x2a98(%rax),%r8", { 0x4c, 0x8b, 0x80, 0x98, 0x2a, 0, 0 }, 7, CODE_LOAD_REG, 8, 0x2a98 },
	{ "mov (%rax,%rcx,8),%rax", { 0x48, 0x8b, 0x04, 0xc8 }, 4, CODE_OTHER, 0, 0 },
	{ "mov %gs:0x10,%rax", { 0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0 }, 9, CODE_OTHER, 0, 0 },
	{ "mov %rax,0(%rip)", { 0x48, 0x89, 0x05, 0, 0, 0, 0 }, 7, CODE_OTHER, 0, 0 },
	{ "mov %rsi,%rbx", { 0x48, 0x89, 0xf3 }, 3, CODE_OTHER, 0, 0 },
	{ "lea 0x100(%rip),%rdi", { 0x48, 0x8d, 0x3d, 0, 1, 0, 0 }, 7, CODE_LEA_ABS, 0, AT + 7 + 0x100 },
	{ "data16 lea 0x100(%rip),%rdi", { 0x66, 0x48, 0x8d, 0x3d, 0, 1, 0, 0 }, 8, CODE_LEA_ABS, 0, AT + 8 + 0x100 },
	{ "lea -1(%rsi),%rax", { 0x48, 0x8d, 0x46, 0xff }, 4, CODE_OTHER, 0, 0 },
	{ "mov $0x4fb450,%eax", { 0xb8, 0x50, 0xb4, 0x4f, 0 }, 5, CODE_LEA_ABS, 0, 0x4fb450 },
	{ "mov $1,%eax", { 0xb8, 1, 0, 0, 0 }, 5, CODE_OTHER, 0, 0 },
	{ "movabs $0x7fffffffffffffff,%rax", { 0x48, 0xb8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f }, 10, CODE_OTHER, 0, 0 },
	{ "cmp $0x4fb450,%rax", { 0x48, 0x3d, 0x50, 0xb4, 0x4f, 0 }, 6, CODE_CMP_IMM, 0, 0x4fb450 },
	{ "cmp $0x4fb450,%rdx", { 0x48, 0x81, 0xfa, 0x50, 0xb4, 0x4f, 0 }, 7, CODE_CMP_IMM, 0, 0x4fb450 },
	{ "cmp $5,%rax", { 0x48, 0x83, 0xf8, 5 }, 4, CODE_OTHER, 0, 0 },
	{ "call", { 0xe8, 0xfb, 0xff, 0xff, 0xff }, 5, CODE_CALL, 0, AT },
	{ "data16 rex.W call", { 0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0 }, 8, CODE_CALL, 0, AT + 8 },
	{ "call *0(%rip)", { 0xff, 0x15, 0, 0, 0, 0 }, 6, CODE_CALL_SLOT, 8, AT + 6 },
	{ "jmp *0x959f48", { 0xff, 0x24, 0x25, 0x48, 0x9f, 0x95, 0 }, 7, CODE_CALL_SLOT, 8, 0x959f48 },
	{ "call *%rax", { 0xff, 0xd0 }, 2, CODE_CALL_REG, 0, 0 },
	{ "notrack jmp *%rax", { 0x3e, 0xff, 0xe0 }, 3, CODE_CALL_REG, 0, 0 },
	{ "call *0x218(%rdi)", { 0xff, 0x97, 0x18, 2, 0, 0 }, 6, CODE_CALL_REG, 8, 0x218 },
	{ "jmp *(%rax,%rcx,8)", { 0xff, 0x24, 0xc8 }, 3, CODE_OTHER, 0, 0 },
	{ "jmp .", { 0xeb, 0xfe }, 2, CODE_JMP, 0, AT },
	{ "jmp rel32", { 0xe9, 0, 1, 0, 0 }, 5, CODE_JMP, 0, AT + 5 + 0x100 },
	{ "je", { 0x74, 0x10 }, 2, CODE_JCC, 0, AT + 2 + 0x10 },
	{ "ja rel32", { 0x0f, 0x87, 0, 1, 0, 0 }, 6, CODE_JCC, 0, AT + 6 + 0x100 },
	{ "ret", { 0xc3 }, 1, CODE_RET, 0, 0 },
	{ "repz ret", { 0xf3, 0xc3 }, 2, CODE_RET, 0, 0 },
	{ "endbr64", { 0xf3, 0x0f, 0x1e, 0xfa }, 4, CODE_OTHER, 0, 0 },
	{ "nopw", { 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 9, CODE_OTHER, 0, 0 },
	{ "push %rbx", { 0x53 }, 1, CODE_OTHER, 0, 0 },
};

static void test_cases(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(cases); i++) {
		struct code_insn row[2];
		size_t n = code_decode_bytes(cases[i].bytes, cases[i].len, AT, row, 2);

		if (n != 1 || row[0].op != cases[i].op || row[0].target != cases[i].target)
			print_message("%s: %zu rows, op %d, target %#llx\n", cases[i].what, n, (int)row[0].op,
				      (unsigned long long)row[0].target);
		assert_int_equal(n, 1);
		assert_int_equal(row[0].addr.v, AT);
		assert_int_equal(row[0].len, cases[i].len);
		assert_int_equal(row[0].op, cases[i].op);
		assert_int_equal(row[0].size, cases[i].size);
		assert_true(row[0].target == cases[i].target);
	}
}

/* A cut instruction ends the decoding, and nothing behind the end is read. */
static void test_cut(void **state)
{
	struct code_insn row[4];

	(void)state;
	for (size_t i = 0; i < LEN(cases); i++)
		for (size_t len = 0; len < cases[i].len; len++) {
			_cleanup_(freep) uint8_t *copy = malloc(len ? len : 1);

			memcpy(copy, cases[i].bytes, len);
			assert_true(code_decode_bytes(copy, len, AT, row, 4) <= len);
		}
	assert_int_equal(code_decode_bytes(cases[0].bytes, 7, AT, row, 0), 0);
}

/* Longer than what is read at once: no instruction may be lost or cut at the seams. */
static void test_chunks(void **state)
{
	static uint8_t file[TINY_MAX], code[TINY_CODE_MAX];
	static struct code_insn row[TINY_CODE_MAX];
	_cleanup_(image_freep) struct image *image = NULL;
	_cleanup_(closep) int fd = -1;
	size_t count = sizeof(code) / 7;

	(void)state;
	memset(code, 0x90, sizeof(code));
	for (size_t i = 0; i < count; i++)
		memcpy(code + i * 7, cases[0].bytes, 7);
	fd = tiny_elf_fd(file, tiny_elf(file, code, sizeof(code), NULL, 0));
	assert_int_equal(image_open_fd(fd, "tiny", &image, NULL), 0);
	assert_int_equal(code_decode(image, RADDR(TINY_CODE), row, LEN(row)), count + sizeof(code) % 7);
	for (size_t i = 0; i < count; i++)
		assert_true(row[i].op == CODE_LOAD_ABS && row[i].addr.v == TINY_CODE + 7 * i);
	assert_int_equal(code_decode(image, RADDR(TINY_CODE + 7), row, 3), 3);
	assert_int_equal(code_decode(image, RADDR(TINY_CODE + sizeof(code)), row, 3), -ENOENT);
	assert_int_equal(code_decode(image, RADDR(TINY_BASE - 1), row, 3), -ENOENT);
	assert_int_equal(code_decode(image, RADDR(UINT64_MAX), row, 3), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases), cmocka_unit_test(test_cut), cmocka_unit_test(test_chunks),
	};

	return cmocka_run_group_tests_name("code_x86", tests, NULL, NULL);
}
