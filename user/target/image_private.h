/* SPDX-License-Identifier: MIT */
/* What image*.c share; nobody else includes it. */
#pragma once

#include <gelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/image.h"

#define IMAGE_SEGMENTS_MAX 64
#define IMAGE_BUILD_ID_MAX 64   /* bytes; 20 in practice */

/* A PT_LOAD, at link addresses. Checked: filesz <= memsz, and neither vaddr + memsz nor offset + filesz wraps. */
struct segment {
	uint64_t vaddr, memsz, offset, filesz;
	bool exec, write;
};

/* A symbol table in memory, owned by the Elf. Zero: none. */
struct symtab {
	const uint8_t *symbols;   /* count times Elf64_Sym, perhaps unaligned */
	size_t count;
	const char *strings;
	size_t strings_size;
};

/* What is read once at the first question, although the image is const to those who ask. */
struct image_lazy {
	struct symtab symtab;
	bool symtab_tried;
};

struct image {
	int fd;
	Elf *elf;
	char *path;
	char open_path[32];
	char build_id[2 * IMAGE_BUILD_ID_MAX + 1];
	uint64_t bias;            /* added with wrap-around */
	bool pie, interp, deleted;
	bool has_symtab, has_tls, has_eh_frame_hdr;
	uint64_t eh_frame_hdr;    /* link address */
	uint64_t tls_memsz, tls_align;
	size_t shstrndx;
	size_t n_segments;
	struct segment segment[IMAGE_SEGMENTS_MAX];
	struct symtab dynsym;
	struct image_lazy *lazy;
};

/* image_elf.c: the parts of an ELF file. Takes fd over in every case. */
int image_from_fd(int fd, const char *path, struct image **ret_image);
const struct symtab *image_symtab(const struct image *image);
/* As image_symbol(), without a look at .symtab. */
int image_dynamic_symbol(const struct image *image, const char *name, struct image_symbol *ret_symbol);
/* A section by name, any kind. -ENOENT. */
int image_find_section(const struct image *image, const char *name, GElf_Shdr *ret_header);
