/* SPDX-License-Identifier: MIT */
/*
 * Hostile ELF files: every question that can be asked of an image, its code
 * and its probe sites. Inputs grow from a small valid file, since random bytes
 * hardly ever get past the header.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target/code_x86.h"
#include "target/image.h"
#include "target/site.h"
#include "tests/unit/tiny_elf.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Padding of several kinds, a branch, a loop and a load before the functions that the tables name. */
static const uint8_t code[128] = {
	0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0xc3, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0,
	0x48, 0x85, 0xf6, 0x74, 0x02, 0x53, 0xc3, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0,
	0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0xff, 0xc9, 0x75, 0xfb, 0xc3, 0x66, 0x0f, 0x1f, 0x44, 0, 0,
	0xe8, 0xcb, 0xff, 0xff, 0xff, 0xc3, [0x36 ... 0x3f] = 0x90, [0x40 ... 0x7f] = 0xc3,
};
static const struct tiny_function functions[] = {
	{ "_PyRuntime", 0, 8 }, { "PyObject_Malloc", 16, 7 }, { "loop", 32, 10 }, { "call", 48, 6 },
};

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
	static uint8_t file[TINY_MAX];

	/* Every now and then from the beginning, and where nothing is left of the file. */
	if (max_size >= 0x1000 + sizeof(code) && (size < 64 || seed % 61 == 0)) {
		size = tiny_elf(file, code, sizeof(code), functions, seed % 5);
		memcpy(data, file, size);
	}
	/* Libfuzzer prefers places anywhere; the tables lie in the first 3 KiB. */
	if (seed & 1 && size > 0xc00 + 16) {
		LLVMFuzzerMutate(data + seed / 2 % 0xc00, 16, 16);
		return size;
	}
	return LLVMFuzzerMutate(data, size, max_size);
}

static void ask_symbols(const struct image *image, uint64_t addr)
{
	struct image_symbol symbol;
	const char *name;
	uint64_t size, align;
	raddr_t start;

	image_symbol(image, "_PyRuntime", &symbol);
	image_symbol(image, "absent", &symbol);
	if (image_symbol_at(image, RADDR(addr), &name, &symbol) == 0 &&
	    (strlen(name) == 0 || addr < symbol.addr.v || addr - symbol.addr.v >= symbol.size))
		abort();
	image_section(image, ".text", &start, &size);
	image_section(image, ".PyRuntime", &start, &size);
	image_tls(image, &size, &align);
	if (image_function_before(image, RADDR(addr), &start, &size) == 0 && start.v > addr)
		abort();
}

static void ask_code(const struct image *image, uint64_t addr)
{
	struct code_insn insn[32];
	struct site site;
	uint8_t buf[100];
	uint64_t offset;
	raddr_t fn;
	ssize_t n;

	n = image_read(image, RADDR(addr), buf, sizeof(buf));
	if (n > (ssize_t)sizeof(buf))
		abort();
	image_file_offset(image, RADDR(addr), &offset);
	if (code_decode(image, RADDR(addr), insn, 32) > 32)
		abort();
	site_entry(image, RADDR(addr), SITE_MASK_LINUX_6_18, &site);
	site_body(image, RADDR(addr), SITE_MASK_LINUX_6_18, &site);
	if (site_alias(image, RADDR(addr), SITE_MASK_LINUX_6_18, &site) == 0 &&
	    (site_alias_target(image, site.addr, &fn) < 0 || fn.v != addr))
		abort();
	site_alias_target(image, RADDR(addr), &fn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t places[] = { 0, 1, TINY_BASE, TINY_CODE, TINY_CODE + 16, TINY_CODE + 24, TINY_CODE + 32, TINY_CODE + 48,
					   TINY_CODE + 127, TINY_CODE + 128, UINT64_MAX - 20, UINT64_MAX };
	struct image *image = NULL;
	struct err err;
	int fd = tiny_elf_fd(data, size);

	if (fd < 0)
		return 0;
	if (image_open_fd(fd, "fuzz", &image, &err) == 0) {
		image_is_pie(image);
		image_is_stripped(image);
		for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			ask_symbols(image, places[i]);
			ask_code(image, places[i]);
		}
		if (strlen(image_build_id(image)) > 128 || strcmp(image_path(image), "fuzz"))
			abort();
	}
	image_free(image);
	close(fd);
	return 0;
}
