/* SPDX-License-Identifier: MIT */
/*
 * The smallest ELF files that have everything user/target/ reads: made in
 * memory, so that tests choose every byte of the code. Shared with the fuzz
 * targets, hence all in a header.
 *
 *   0x000 header   0x040 program headers   0x200 symbols   0x300 their names   0x400 section names
 *   0x500 section headers   0x800 build id   0x840 .eh_frame_hdr   0x900 .eh_frame   0x1000 code, at TINY_CODE
 */
#pragma once

#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TINY_BASE 0x400000u
#define TINY_CODE (TINY_BASE + 0x1000u)
#define TINY_CODE_MAX 0x2000u
#define TINY_MAX (0x1000u + TINY_CODE_MAX)
#define TINY_FUNCTIONS_MAX 4u

struct tiny_function {
	const char *name;
	uint32_t offset, size;   /* in the code */
};

static inline void tiny_put(uint8_t *image, size_t at, const void *bytes, size_t size)
{
	memcpy(image + at, bytes, size);
}

static inline void tiny_program_headers(uint8_t *image, size_t file_size, size_t functions)
{
	const Elf64_Phdr headers[] = {
		{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = TINY_BASE, .p_filesz = file_size, .p_memsz = file_size,
		  .p_align = 4096 },
		{ .p_type = PT_NOTE, .p_offset = 0x800, .p_vaddr = TINY_BASE + 0x800, .p_filesz = 36, .p_memsz = 36 },
		{ .p_type = PT_TLS, .p_vaddr = TINY_BASE, .p_memsz = 0x28, .p_align = 8 },
		{ .p_type = functions ? PT_GNU_EH_FRAME : PT_NULL, .p_offset = 0x840, .p_vaddr = TINY_BASE + 0x840,
		  .p_filesz = 0x2c, .p_memsz = 0x2c },
	};
	const Elf64_Ehdr header = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = EV_CURRENT, .e_phoff = 0x40, .e_shoff = 0x500,
		.e_ehsize = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 4,
		.e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 5, .e_shstrndx = 3,
	};
	static const uint32_t note[9] = { 4, 20, NT_GNU_BUILD_ID, 0x00554e47, 0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c,
					  0x13121110 };

	tiny_put(image, 0, &header, sizeof(header));
	tiny_put(image, 0x40, headers, sizeof(headers));
	tiny_put(image, 0x800, note, sizeof(note));
}

static inline void tiny_symbols(uint8_t *image, const struct tiny_function *functions, size_t count)
{
	size_t name = 1;

	for (size_t i = 0; i < count; i++) {
		const Elf64_Sym symbol = {
			.st_name = (uint32_t)name, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 4,
			.st_value = TINY_CODE + functions[i].offset, .st_size = functions[i].size,
		};
		size_t size = strlen(functions[i].name) + 1;

		tiny_put(image, 0x200 + (i + 1) * sizeof(symbol), &symbol, sizeof(symbol));
		tiny_put(image, 0x300 + name, functions[i].name, size);
		name += size;
	}
}

static inline void tiny_sections(uint8_t *image, size_t code_size, size_t functions)
{
	static const char names[] = "\0.dynsym\0.dynstr\0.shstrtab\0.text";
	const Elf64_Shdr headers[5] = {
		{ 0 },
		{ .sh_name = 1, .sh_type = SHT_DYNSYM, .sh_flags = SHF_ALLOC, .sh_addr = TINY_BASE + 0x200, .sh_offset = 0x200,
		  .sh_size = (functions + 1) * sizeof(Elf64_Sym), .sh_link = 2, .sh_info = 1, .sh_addralign = 8,
		  .sh_entsize = sizeof(Elf64_Sym) },
		{ .sh_name = 9, .sh_type = SHT_STRTAB, .sh_flags = SHF_ALLOC, .sh_addr = TINY_BASE + 0x300, .sh_offset = 0x300,
		  .sh_size = 0x100, .sh_addralign = 1 },
		{ .sh_name = 17, .sh_type = SHT_STRTAB, .sh_offset = 0x400, .sh_size = sizeof(names), .sh_addralign = 1 },
		{ .sh_name = 27, .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR, .sh_addr = TINY_CODE,
		  .sh_offset = 0x1000, .sh_size = code_size, .sh_addralign = 16 },
	};

	tiny_put(image, 0x400, names, sizeof(names));
	tiny_put(image, 0x500, headers, sizeof(headers));
}

/* One CIE ("zR", pc-relative 4 bytes) and one FDE a function, with the search table in front. */
static inline void tiny_unwind(uint8_t *image, const struct tiny_function *functions, size_t count)
{
	static const uint8_t cie[20] = { 16, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0 };
	const uint32_t head[3] = { 0x3b031b01, 0x900 - 0x844, (uint32_t)count };

	tiny_put(image, 0x840, head, sizeof(head));
	tiny_put(image, 0x900, cie, sizeof(cie));
	for (size_t i = 0; i < count; i++) {
		uint32_t at = 0x914 + 20 * (uint32_t)i, start = 0x1000 + functions[i].offset;
		const uint32_t fde[5] = { 16, at + 4 - 0x900, start - (at + 8), functions[i].size, 0 };
		const uint32_t row[2] = { start - 0x840, at - 0x840 };

		tiny_put(image, at, fde, sizeof(fde));
		tiny_put(image, 0x84c + 8 * i, row, sizeof(row));
	}
}

/* Fills image (TINY_MAX bytes) and returns the size of the file. Functions ascending, at most TINY_FUNCTIONS_MAX, names short;
 * without any the file has neither symbols nor unwind tables. */
static inline size_t tiny_elf(uint8_t *image, const uint8_t *code, size_t code_size, const struct tiny_function *functions,
			      size_t count)
{
	memset(image, 0, TINY_MAX);
	tiny_program_headers(image, 0x1000 + code_size, count);
	tiny_symbols(image, functions, count);
	tiny_sections(image, code_size, count);
	tiny_unwind(image, functions, count);
	tiny_put(image, 0x1000, code, code_size);
	return 0x1000 + code_size;
}

/* The bytes as a file; a descriptor or -1. */
static inline int tiny_elf_fd(const void *bytes, size_t size)
{
	int fd = memfd_create("tiny", MFD_CLOEXEC);

	if (fd >= 0 && write(fd, bytes, size) != (ssize_t)size) {
		close(fd);
		return -1;
	}
	return fd;
}
