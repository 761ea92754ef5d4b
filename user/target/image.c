/* SPDX-License-Identifier: MIT */
/*
 * Questions to an image. Here, and nowhere else, run-time addresses become
 * link addresses and back: link = run-time - bias, modulo 2^64.
 *
 * Lookups by name walk the table; it is in memory after the first question
 * (some 4,000 dynamic symbols in a static python, 20,000 in an unstripped
 * libpython), which takes well under a millisecond.
 * Not safe for two threads on the same image: .symtab is loaded at first use.
 */
#include "target/image.h"

#include <errno.h>
#include <string.h>

#include "target/image_private.h"

const char *image_path(const struct image *image)
{
	return image->path;
}

const char *image_open_path(const struct image *image)
{
	return image->open_path;
}

bool image_is_pie(const struct image *image)
{
	return image->pie;
}

bool image_is_executable(const struct image *image)
{
	return image->interp;
}

bool image_is_stripped(const struct image *image)
{
	return !image->has_symtab;
}

bool image_is_deleted(const struct image *image)
{
	return image->deleted;
}

const char *image_build_id(const struct image *image)
{
	return image->build_id;
}

int64_t image_bias(const struct image *image)
{
	return (int64_t)image->bias;
}

/* Only symbols that stand for a place in this file. TLS symbols keep their offset in the TLS block, without the bias. */
static bool defined(const Elf64_Sym *symbol)
{
	uint8_t type = ELF64_ST_TYPE(symbol->st_info);

	return symbol->st_shndx != SHN_UNDEF && symbol->st_shndx != SHN_ABS && symbol->st_shndx != SHN_COMMON &&
	       type != STT_SECTION && type != STT_FILE;
}

static void symbol_at_index(const struct symtab *table, size_t i, Elf64_Sym *ret_symbol)
{
	memcpy(ret_symbol, table->symbols + i * sizeof(*ret_symbol), sizeof(*ret_symbol));
}

static struct image_symbol to_runtime(const struct image *image, const Elf64_Sym *symbol)
{
	uint8_t type = ELF64_ST_TYPE(symbol->st_info);

	return (struct image_symbol){
		.addr = RADDR(type == STT_TLS ? symbol->st_value : symbol->st_value + image->bias),
		.size = symbol->st_size,
		.type = type,
	};
}

static int symtab_find(const struct symtab *table, const char *name, Elf64_Sym *ret_symbol)
{
	size_t size = strlen(name) + 1;
	Elf64_Sym symbol;

	for (size_t i = 0; i < table->count; i++) {
		symbol_at_index(table, i, &symbol);
		if (symbol.st_name == 0 || symbol.st_name >= table->strings_size ||
		    table->strings_size - symbol.st_name < size)
			continue;
		if (table->strings[symbol.st_name] != name[0] ||
		    memcmp(table->strings + symbol.st_name, name, size) || !defined(&symbol))
			continue;
		*ret_symbol = symbol;
		return 0;
	}
	return -ENOENT;
}

int image_dynamic_symbol(const struct image *image, const char *name, struct image_symbol *ret_symbol)
{
	Elf64_Sym symbol;

	if (!name[0] || symtab_find(&image->dynsym, name, &symbol) < 0)
		return -ENOENT;
	*ret_symbol = to_runtime(image, &symbol);
	return 0;
}

int image_symbol(const struct image *image, const char *name, struct image_symbol *ret_symbol)
{
	Elf64_Sym symbol;

	if (!name[0])
		return -ENOENT;
	if (symtab_find(&image->dynsym, name, &symbol) < 0 && symtab_find(image_symtab(image), name, &symbol) < 0)
		return -ENOENT;
	*ret_symbol = to_runtime(image, &symbol);
	return 0;
}

/* The name of a symbol, or NULL when it has none, or none with an end inside the table. */
static const char *symbol_name(const struct symtab *table, const Elf64_Sym *symbol)
{
	const char *name;

	if (symbol->st_name == 0 || symbol->st_name >= table->strings_size)
		return NULL;
	name = table->strings + symbol->st_name;
	if (!name[0] || !memchr(name, '\0', table->strings_size - symbol->st_name))
		return NULL;
	return name;
}

/* Of several that cover addr the one that starts last, of those the first in the table. */
static int symtab_at(const struct symtab *table, uint64_t link, const char **ret_name, Elf64_Sym *ret_symbol)
{
	Elf64_Sym symbol, best = { 0 };
	const char *name, *best_name = NULL;

	for (size_t i = 0; i < table->count; i++) {
		symbol_at_index(table, i, &symbol);
		if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || !defined(&symbol))
			continue;
		if (link < symbol.st_value || link - symbol.st_value >= symbol.st_size ||
		    (best_name && symbol.st_value <= best.st_value))
			continue;
		name = symbol_name(table, &symbol);
		if (!name)
			continue;
		best = symbol;
		best_name = name;
	}
	if (!best_name)
		return -ENOENT;
	*ret_name = best_name;
	*ret_symbol = best;
	return 0;
}

int image_symbol_at(const struct image *image, raddr_t addr, const char **ret_name, struct image_symbol *ret_symbol)
{
	uint64_t link = addr.v - image->bias;
	const char *name;
	Elf64_Sym symbol;

	if (symtab_at(&image->dynsym, link, &name, &symbol) < 0 &&
	    symtab_at(image_symtab(image), link, &name, &symbol) < 0)
		return -ENOENT;
	*ret_name = name;
	*ret_symbol = to_runtime(image, &symbol);
	return 0;
}

int image_section(const struct image *image, const char *name, raddr_t *ret_addr, uint64_t *ret_size)
{
	GElf_Shdr header;
	uint64_t end;

	if (image_find_section(image, name, &header) < 0 || !(header.sh_flags & SHF_ALLOC) ||
	    __builtin_add_overflow(header.sh_addr, header.sh_size, &end))
		return -ENOENT;
	*ret_addr = RADDR(header.sh_addr + image->bias);
	*ret_size = header.sh_size;
	return 0;
}

int image_tls(const struct image *image, uint64_t *ret_memsz, uint64_t *ret_align)
{
	if (!image->has_tls)
		return -ENOENT;
	*ret_memsz = image->tls_memsz;
	*ret_align = image->tls_align;
	return 0;
}

static const struct segment *segment_at(const struct image *image, uint64_t link)
{
	for (size_t i = 0; i < image->n_segments; i++)
		if (link >= image->segment[i].vaddr && link - image->segment[i].vaddr < image->segment[i].memsz)
			return &image->segment[i];
	return NULL;
}

int image_file_offset(const struct image *image, raddr_t addr, uint64_t *ret_offset)
{
	uint64_t link = addr.v - image->bias;
	const struct segment *segment = segment_at(image, link);

	if (!segment || link - segment->vaddr >= segment->filesz)
		return -ENOENT;
	*ret_offset = segment->offset + (link - segment->vaddr);
	return 0;
}

ssize_t image_read(const struct image *image, raddr_t addr, void *buf, size_t size)
{
	uint64_t link = addr.v - image->bias;
	const struct segment *segment = segment_at(image, link);
	uint64_t into, left;
	ssize_t n;

	if (!segment || link - segment->vaddr >= segment->filesz)
		return -ENOENT;
	into = link - segment->vaddr;
	left = segment->filesz - into;
	if (size > left)
		size = (size_t)left;
	do
		n = pread(image->fd, buf, size, (off_t)(segment->offset + into));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int image_data(const struct image *image, size_t index, raddr_t *ret_addr, uint64_t *ret_size)
{
	for (size_t i = 0; i < image->n_segments; i++) {
		const struct segment *segment = &image->segment[i];

		if (!segment->write || index-- > 0)
			continue;
		*ret_addr = RADDR(segment->vaddr + image->bias);
		*ret_size = segment->memsz;
		return 0;
	}
	return -ENOENT;
}

bool image_is_text(const struct image *image, raddr_t addr)
{
	const struct segment *segment = segment_at(image, addr.v - image->bias);

	return segment && segment->exec;
}
