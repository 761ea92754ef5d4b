/* SPDX-License-Identifier: MIT */
/* Aliases and probe sites: chosen bytes first, then every exported function of real interpreters. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <gelf.h>
#include <cmocka.h>

#include "target/site.h"
#include "target/site_x86.h"
#include "target_process.h"
#include "tiny_elf.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MASK SITE_MASK_LINUX_6_18
#define ONLY_NOP1 (1u << SITE_NOP1)
#define FN 0x100u   /* offset of the function under test in the code */

/* Code with a function of ret at 0, these bytes right before FN, filler before them, and a function of body at FN. */
static struct image *make(const uint8_t *before, size_t before_size, const uint8_t *body, size_t body_size, uint32_t first_end)
{
	static uint8_t file[TINY_MAX], code[FN + 256];
	const struct tiny_function functions[] = { { "first", 0, first_end }, { "fn", FN, (uint32_t)body_size } };
	_cleanup_(closep) int fd = -1;
	struct image *image = NULL;

	memset(code, 0xcc, sizeof(code));
	/* Filler that decodes the same from wherever one starts. */
	for (size_t i = 0; i + before_size < FN; i++)
		code[i] = 0x50;
	memcpy(code + FN - before_size, before, before_size);
	memcpy(code + FN, body, body_size);
	fd = tiny_elf_fd(file, tiny_elf(file, code, sizeof(code), functions, first_end ? 2 : 0));
	assert_int_equal(image_open_fd(fd, "tiny", &image, NULL), 0);
	return image;
}

struct alias_case {
	const char *what;
	uint8_t before[32];
	uint8_t size;        /* of before; the padding starts after the first byte (ret) */
	uint8_t len, old_len;  /* of the alias with all nops emulated, and on a kernel that knows only 90 */
	bool old_emulated;
};

static const struct alias_case alias_cases[] = {
	{ "nop", { 0xc3, 0x90 }, 2, 1, 1, true },
	{ "66 90", { 0xc3, 0x66, 0x90 }, 3, 2, 1, true },
	{ "nop3", { 0xc3, 0x0f, 0x1f, 0 }, 4, 3, 3, false },
	{ "nop5", { 0xc3, 0x0f, 0x1f, 0x44, 0, 0 }, 6, 5, 5, false },
	{ "nop6", { 0xc3, 0x66, 0x0f, 0x1f, 0x44, 0, 0 }, 7, 6, 6, false },
	{ "nop7", { 0xc3, 0x0f, 0x1f, 0x80, 0, 0, 0, 0 }, 8, 7, 7, false },
	{ "nop8", { 0xc3, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 9, 8, 8, false },
	{ "nop9", { 0xc3, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 10, 8, 8, false },
	{ "nop10", { 0xc3, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 11, 8, 8, false },
	{ "nop11", { 0xc3, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 12, 8, 8, false },
	{ "nop11, nop2", { 0xc3, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x66, 0x90 }, 14, 2, 1, true },
	{ "nop11, nop4", { 0xc3, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x40, 0 }, 16, 4, 4, false },
	{ "nop4, nop11", { 0xc3, 0x0f, 0x1f, 0x40, 0, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 16, 8, 8, false },
	{ "15 times nop", { 0xc3, [1 ... 15] = 0x90 }, 16, 1, 1, true },
	{ "int3", { 0xc3, 0xcc, 0xcc, 0xcc }, 4, 0, 0, false },
	{ "nothing", { 0xc3 }, 1, 0, 0, false },
};

static void check_alias(const struct alias_case *c, uint32_t first_end)
{
	static const uint8_t body[] = { 0x31, 0xc0, 0xc3 };
	_cleanup_(image_freep) struct image *image = make(c->before, c->size, body, sizeof(body), first_end);
	raddr_t fn = RADDR(TINY_CODE + FN), target;
	struct site site;
	int r;

	r = site_alias(image, fn, MASK, &site);
	if (r != (c->len ? 0 : -ENOENT) || (r == 0 && site.len != c->len))
		print_message("%s (%s tables): %d, length %d\n", c->what, first_end ? "with" : "without", r, site.len);
	assert_int_equal(r, c->len ? 0 : -ENOENT);
	if (r < 0) {
		assert_int_equal(site_alias(image, fn, ONLY_NOP1, &site), -ENOENT);
		assert_int_equal(site_alias_target(image, raddr_add(fn, -1), &target), -ENOENT);
		return;
	}
	assert_int_equal(site.len, c->len);
	assert_int_equal(site.addr.v + site.len, fn.v);
	assert_int_equal(site.class, SITE_NOP1 + c->len - 1);
	assert_true(site.emulated && site.stack_at_return && site.args_intact);
	assert_int_equal(site_alias_target(image, site.addr, &target), 0);
	assert_true(raddr_eq(target, fn));
	assert_int_equal(site_alias(image, fn, ONLY_NOP1, &site), 0);
	assert_int_equal(site.len, c->old_len);
	assert_int_equal(site.emulated, c->old_emulated);
	assert_int_equal(site_alias_target(image, site.addr, &target), 0);
	assert_true(raddr_eq(target, fn));
	assert_int_equal(site_alias_target(image, fn, &target), -ENOENT);
}

static void test_aliases(void **state)
{
	(void)state;
	for (size_t i = 0; i < LEN(alias_cases); i++) {
		check_alias(&alias_cases[i], FN - alias_cases[i].size + 1);
		check_alias(&alias_cases[i], 0);
	}
}

/* What looks like a nop but belongs to the function before. */
static void test_no_padding(void **state)
{
	static const uint8_t body[] = { 0xc3 };
	static const struct {
		uint8_t before[8];
		uint8_t size;
		bool tables;
	} cases[] = {
		{ { 0xe9, 0, 0, 0, 0x90 }, 5, true }, { { 0xe9, 0, 0, 0, 0x90 }, 5, false },       /* jmp with 90 at its end */
		{ { 0xe9, 0, 0, 0xc3, 0x90 }, 5, true }, { { 0xe9, 0, 0, 0xc3, 0x90 }, 5, false }, /* and something like ret */
		{ { 0xb8, 0, 0, 0, 0x66, 0x90 }, 6, true },                                       /* code runs into the nop */
		{ { 0x31, 0xc0, 0x90 }, 3, false },
	};

	(void)state;
	for (size_t i = 0; i < LEN(cases); i++) {
		_cleanup_(image_freep) struct image *image = make(cases[i].before, cases[i].size, body, 1, cases[i].tables ? FN : 0);
		struct site site;
		raddr_t target;

		assert_int_equal(site_alias(image, RADDR(TINY_CODE + FN), MASK, &site), -ENOENT);
		assert_int_equal(site_alias_target(image, RADDR(TINY_CODE + FN - 1), &target), -ENOENT);
	}
}

static void test_bad_addresses(void **state)
{
	static const uint8_t before[] = { 0xc3, 0x90 }, body[] = { 0xc3 };
	static const uint64_t bad[] = { 0, 1, 15, 16, TINY_BASE, TINY_CODE, TINY_CODE + 0x10000, UINT64_MAX, UINT64_MAX - 15 };
	_cleanup_(image_freep) struct image *image = make(before, 2, body, 1, FN - 1);
	struct site site;
	raddr_t target;

	(void)state;
	for (size_t i = 0; i < LEN(bad); i++) {
		assert_int_equal(site_alias(image, RADDR(bad[i]), MASK, &site), -ENOENT);
		assert_int_equal(site_alias_target(image, RADDR(bad[i]), &target), -ENOENT);
	}
	assert_int_equal(site_alias(image, RADDR(TINY_CODE + FN + 1), MASK, &site), -ENOENT);
	assert_int_equal(site_entry(image, RADDR(0), MASK, &site), -ENOENT);
	assert_int_equal(site_body(image, RADDR(0), MASK, &site), -ENOENT);
}

static void test_body(void **state)
{
	static const uint8_t before[] = { 0xc3, 0x90 };
	static const struct {
		const char *what;
		uint8_t body[24];
		uint8_t size, offset;
		enum site_class class;
		bool emulated, stack;
	} cases[] = {
		{ "push first", { 0x53, 0xc3 }, 2, 0, SITE_PUSH, true, true },
		{ "push r12", { 0x41, 0x54, 0xc3 }, 3, 0, SITE_PUSH, true, true },
		{ "test; je", { 0x48, 0x85, 0xf6, 0x74, 0x01, 0x53, 0xc3 }, 7, 3, SITE_JCC, true, true },
		{ "endbr64; test; je near", { 0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x85, 0xf6, 0x0f, 0x84, 1, 0, 0, 0, 0x53, 0xc3 }, 15, 7,
		  SITE_JCC, true, true },
		{ "lea; push", { 0x48, 0x8d, 0x46, 0xff, 0x53, 0xc3 }, 6, 4, SITE_PUSH, true, true },
		{ "lea; sub rsp; cmp; ja", { 0x48, 0x8d, 0x46, 0xff, 0x48, 0x83, 0xec, 0x18, 0x48, 0x3d, 0xff, 1, 0, 0, 0x77, 1, 0x90,
					     0xc3 }, 18, 14, SITE_JCC, true, false },
		{ "argument overwritten", { 0x48, 0x89, 0xf7, 0x53, 0xc3 }, 5, 0, SITE_OTHER, false, true },
		{ "half an argument overwritten", { 0x31, 0xff, 0x53, 0xc3 }, 4, 0, SITE_OTHER, false, true },
		{ "argument overwritten unseen", { 0x48, 0xf7, 0xe0, 0x53, 0xc3 }, 5, 0, SITE_OTHER, false, true },  /* mul: rdx */
		{ "call", { 0x48, 0x89, 0xf3, 0xe8, 0, 0, 0, 0, 0x53, 0xc3 }, 10, 3, SITE_CALL, true, true },
		{ "call through a register", { 0xff, 0xd0, 0x53, 0xc3 }, 4, 0, SITE_OTHER, false, true },
		{ "ret", { 0xc3, 0x53 }, 2, 0, SITE_OTHER, false, true },
		{ "loop back to the push", { 0x48, 0x89, 0xf0, 0x53, 0xff, 0xc9, 0x75, 0xfb, 0xc3 }, 9, 0, SITE_OTHER, false, true },
		{ "loop back to before it", { 0x48, 0x89, 0xf0, 0x48, 0x89, 0xc3, 0x53, 0xff, 0xc9, 0x75, 0xf8, 0xc3 }, 12, 0,
		  SITE_OTHER, false, true },
		{ "loop further on", { 0x53, 0x48, 0x89, 0xf0, 0xff, 0xc9, 0x75, 0xfc, 0xc3 }, 9, 0, SITE_PUSH, true, true },
		{ "broken", { 0x06, 0x53 }, 2, 255, SITE_OTHER, false, false },
	};

	(void)state;
	for (size_t i = 0; i < LEN(cases); i++) {
		_cleanup_(image_freep) struct image *image = make(before, 2, cases[i].body, cases[i].size, FN - 1);
		raddr_t fn = RADDR(TINY_CODE + FN);
		struct site site = { 0 };
		int r = site_body(image, fn, MASK, &site);

		if (r == 0 && (site.addr.v - fn.v != cases[i].offset || site.class != cases[i].class))
			print_message("%s: +%d %s\n", cases[i].what, (int)(site.addr.v - fn.v), site_class_name(site.class));
		assert_int_equal(r, cases[i].offset == 255 ? -EINVAL : 0);
		if (r < 0)
			continue;
		assert_int_equal(site.addr.v - fn.v, cases[i].offset);
		assert_int_equal(site.class, cases[i].class);
		assert_int_equal(site.emulated, cases[i].emulated);
		assert_int_equal(site.stack_at_return, cases[i].stack);
		assert_true(site.args_intact);
	}
}

static void test_entry_classes(void **state)
{
	static const struct {
		uint8_t bytes[12];
		uint8_t len;
		enum site_class class;
	} cases[] = {
		{ { 0x90 }, 1, SITE_NOP1 }, { { 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0 }, 9, SITE_NOP9 },
		{ { 0x0f, 0x1f, 0xc0 }, 3, SITE_OTHER },              /* a nop that the kernel does not know */
		{ { 0x57 }, 1, SITE_PUSH }, { { 0x66, 0x57 }, 2, SITE_OTHER }, { { 0x6a, 0x01 }, 2, SITE_OTHER },
		{ { 0xe8, 0, 0, 0, 0 }, 5, SITE_CALL }, { { 0x66, 0x48, 0xe8, 0, 0, 0, 0 }, 7, SITE_OTHER },
		{ { 0xeb, 0 }, 2, SITE_JMP }, { { 0xe9, 0, 0, 0, 0 }, 5, SITE_JMP }, { { 0xff, 0xe0 }, 2, SITE_OTHER },
		{ { 0x7f, 0 }, 2, SITE_JCC }, { { 0x0f, 0x8f, 0, 0, 0, 0 }, 6, SITE_JCC }, { { 0xe3, 0 }, 2, SITE_OTHER },
		{ { 0xf3, 0x0f, 0x1e, 0xfa }, 4, SITE_OTHER }, { { 0xc3 }, 1, SITE_OTHER },
	};

	(void)state;
	for (size_t i = 0; i < LEN(cases); i++) {
		_cleanup_(image_freep) struct image *image = make((const uint8_t[]){ 0xc3 }, 1, cases[i].bytes, cases[i].len, FN);
		struct site site;

		assert_int_equal(site_entry(image, RADDR(TINY_CODE + FN), MASK, &site), 0);
		assert_int_equal(site.class, cases[i].class);
		assert_int_equal(site.len, cases[i].len);
		assert_int_equal(site.emulated, MASK >> cases[i].class & 1);
		assert_true(site.stack_at_return && site.args_intact);
	}
	assert_string_equal(site_class_name(SITE_JCC), "jcc");
	assert_string_equal(site_class_name(SITE_CLASS_COUNT), "unknown");
}

/* For one function of a real interpreter: the alias leads back, lies outside every function, and guessing without the unwind tables
 * finds the same padding or none. 1 if it has an alias. */
static int check_real(const struct image *image, raddr_t fn)
{
	struct image_symbol symbol;
	uint8_t before[160];
	struct site site;
	raddr_t target, start;
	const char *name;
	uint64_t size;
	size_t guess;

	assert_int_equal(site_body(image, fn, MASK, &site), 0);
	assert_true(site.addr.v >= fn.v && site.addr.v - fn.v < 256);
	if (site_alias(image, fn, MASK, &site) < 0)
		return 0;
	assert_true(fn.v - site.addr.v == site.len && site.len <= 8);
	assert_int_equal(site_alias_target(image, site.addr, &target), 0);
	assert_true(raddr_eq(target, fn));
	assert_int_equal(image_symbol_at(image, site.addr, &name, &symbol), -ENOENT);
	if (image_function_before(image, raddr_add(fn, -1), &start, &size) < 0 || fn.v - (start.v + size) > 64)
		return 1;
	assert_true(start.v + size <= site.addr.v);
	assert_int_equal(image_read(image, raddr_add(fn, -160), before, 160), 160);
	guess = site_x86_guess_padding(before, 160);
	if (guess && guess != fn.v - (start.v + size))
		print_message("%#llx: guess %zu, unwind tables say %llu\n", (unsigned long long)fn.v, guess,
			      (unsigned long long)(fn.v - (start.v + size)));
	assert_true(!guess || guess == fn.v - (start.v + size));
	return 1;
}

/* All exported functions of an image, by its own .dynsym. */
static void check_all_functions(const struct image *image)
{
	_cleanup_(closep) int fd = open(image_open_path(image), O_RDONLY | O_CLOEXEC);
	unsigned int functions = 0, aliases = 0;
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	GElf_Sym symbol;
	Elf *elf;

	elf = elf_begin(fd, ELF_C_READ, NULL);
	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data;

		gelf_getshdr(section, &header);
		if (header.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (int i = 0; gelf_getsym(data, i, &symbol); i++) {
			raddr_t fn = RADDR(symbol.st_value + (uint64_t)image_bias(image));

			if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || !symbol.st_size || fn.v % 16 || !image_is_text(image, fn))
				continue;
			functions++;
			aliases += (unsigned int)check_real(image, fn);
		}
	}
	elf_end(elf);
	print_message("  %u functions, %u with an alias\n", functions, aliases);
	assert_true(functions > 1000 && aliases > functions / 2);
}

static void test_real_interpreters(void **state)
{
	struct target_python list[TARGET_PYTHONS_MAX];
	size_t n = target_pythons(list);

	(void)state;
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		_cleanup_(target_stopp) pid_t pid = target_start_python(list[i].command);
		_cleanup_(maps_freep) struct maps *maps = NULL;
		_cleanup_(image_freep) struct image *image = NULL;

		print_message("%s\n", list[i].label);
		assert_int_equal(maps_load(pid, &maps), 0);
		assert_int_equal(image_open_python(pid, maps, &image, NULL), 0);
		check_all_functions(image);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aliases), cmocka_unit_test(test_no_padding), cmocka_unit_test(test_bad_addresses),
		cmocka_unit_test(test_body), cmocka_unit_test(test_entry_classes), cmocka_unit_test(test_real_interpreters),
	};

	return cmocka_run_group_tests_name("site", tests, NULL, NULL);
}
