/* SPDX-License-Identifier: MIT */
/*
 * From a file descriptor to a struct image: headers, segments, symbol tables
 * and build id, through libelf. The file is never mapped into our memory, so
 * that one cut short under us gives a short read and no SIGBUS.
 *
 * Bytes of the file are hostile: only 64-bit little-endian x86-64 files with
 * at most IMAGE_SEGMENTS_MAX loadable segments pass, each table must lie
 * within the file and below TABLE_MAX, and sizes are checked before libelf
 * is asked to load what they describe.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "target/image_private.h"

#define TABLE_MAX (512u << 20)
#define HEADERS_MAX 4096      /* program headers looked at */
#define SECTIONS_MAX 65536
#define NOTES_MAX 65536       /* bytes of one note segment */

void image_free(struct image *image)
{
	if (!image)
		return;
	if (image->elf)
		elf_end(image->elf);
	if (image->fd >= 0)
		close(image->fd);
	free(image->path);
	free(image->lazy);
	free(image);
}

static int check_header(Elf *elf, bool *ret_pie)
{
	const Elf64_Ehdr *header;

	if (elf_kind(elf) != ELF_K_ELF || gelf_getclass(elf) != ELFCLASS64)
		return -ENOEXEC;
	header = elf64_getehdr(elf);
	if (!header || header->e_ident[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
		return -ENOEXEC;
	if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
		return -ENOEXEC;
	*ret_pie = header->e_type == ET_DYN;
	return 0;
}

static int add_segment(struct image *image, const GElf_Phdr *header)
{
	uint64_t end;

	if (header->p_filesz > header->p_memsz || __builtin_add_overflow(header->p_vaddr, header->p_memsz, &end) ||
	    __builtin_add_overflow(header->p_offset, header->p_filesz, &end))
		return -ENOEXEC;
	if (header->p_offset > INT64_MAX || end > INT64_MAX)
		return -ENOEXEC;
	if (image->n_segments == IMAGE_SEGMENTS_MAX)
		return -ENOEXEC;
	image->segment[image->n_segments++] = (struct segment){
		.vaddr = header->p_vaddr, .memsz = header->p_memsz,
		.offset = header->p_offset, .filesz = header->p_filesz,
		.exec = header->p_flags & PF_X, .write = header->p_flags & PF_W,
	};
	return 0;
}

/* One note at *p of size bytes: 12 bytes of header, name and contents each padded to 4. Moves on; -ENOENT at the end. */
static int next_note(const uint8_t **p, size_t *size, uint32_t *ret_type, const uint8_t **ret_name, uint32_t *ret_namesz,
		     const uint8_t **ret_desc, uint32_t *ret_descsz)
{
	uint32_t head[3];
	uint64_t name, desc;

	if (*size < sizeof(head))
		return -ENOENT;
	memcpy(head, *p, sizeof(head));
	name = ((uint64_t)head[0] + 3) & ~3ull;
	desc = ((uint64_t)head[1] + 3) & ~3ull;
	if (name + head[1] > *size - sizeof(head))
		return -ENOENT;
	*ret_namesz = head[0];
	*ret_descsz = head[1];
	*ret_type = head[2];
	*ret_name = *p + sizeof(head);
	*ret_desc = *ret_name + name;
	if (name + desc > *size - sizeof(head))
		desc = *size - sizeof(head) - name;
	*p += sizeof(head) + name + desc;
	*size -= sizeof(head) + name + desc;
	return 0;
}

static void read_build_id(struct image *image, const GElf_Phdr *header)
{
	static const char hex[] = "0123456789abcdef";
	_cleanup_(freep) uint8_t *notes = NULL;
	const uint8_t *p, *name, *desc;
	uint32_t type, namesz, descsz;
	size_t size = header->p_filesz;
	ssize_t n;

	if (size > NOTES_MAX || header->p_offset > INT64_MAX)
		return;
	notes = malloc(size ? size : 1);
	if (!notes)
		return;
	n = pread(image->fd, notes, size, (off_t)header->p_offset);
	if (n <= 0)
		return;
	p = notes;
	size = (size_t)n;
	while (next_note(&p, &size, &type, &name, &namesz, &desc, &descsz) == 0) {
		if (type != NT_GNU_BUILD_ID || namesz != 4 || memcmp(name, "GNU", 4) || descsz > IMAGE_BUILD_ID_MAX)
			continue;
		for (uint32_t i = 0; i < descsz; i++) {
			image->build_id[2 * i] = hex[desc[i] >> 4];
			image->build_id[2 * i + 1] = hex[desc[i] & 15];
		}
		image->build_id[2 * descsz] = '\0';
		return;
	}
}

static int read_program_header(struct image *image, const GElf_Phdr *header)
{
	switch (header->p_type) {
	case PT_LOAD:
		return add_segment(image, header);
	case PT_INTERP:
		image->interp = true;
		return 0;
	case PT_TLS:
		image->has_tls = true;
		image->tls_memsz = header->p_memsz;
		image->tls_align = header->p_align ? header->p_align : 1;
		return 0;
	case PT_GNU_EH_FRAME:
		image->has_eh_frame_hdr = true;
		image->eh_frame_hdr = header->p_vaddr;
		return 0;
	case PT_NOTE:
		if (!image->build_id[0])
			read_build_id(image, header);
		return 0;
	default:
		return 0;
	}
}

static int read_program_headers(struct image *image)
{
	GElf_Phdr header;
	size_t count;
	int r;

	if (elf_getphdrnum(image->elf, &count) < 0 || count > HEADERS_MAX)
		return -ENOEXEC;
	for (size_t i = 0; i < count; i++) {
		if (!gelf_getphdr(image->elf, (int)i, &header))
			return -ENOEXEC;
		r = read_program_header(image, &header);
		if (r < 0)
			return r;
	}
	return image->n_segments ? 0 : -ENOEXEC;
}

/* The raw bytes of a section, owned by the Elf. NULL if there are none or they do not lie in the file. */
static const void *section_bytes(const struct image *image, Elf_Scn *section, size_t *ret_size)
{
	GElf_Shdr header;
	struct stat st;
	Elf_Data *data;

	if (!gelf_getshdr(section, &header) || header.sh_type == SHT_NOBITS || header.sh_flags & SHF_COMPRESSED)
		return NULL;
	if (fstat(image->fd, &st) < 0 || header.sh_size > TABLE_MAX || header.sh_offset > (uint64_t)st.st_size ||
	    header.sh_size > (uint64_t)st.st_size - header.sh_offset)
		return NULL;
	data = elf_rawdata(section, NULL);
	if (!data || !data->d_buf)
		return NULL;
	*ret_size = data->d_size;
	return data->d_buf;
}

/* A symbol table that cannot be used is none: the file may still be good for something. */
static void read_symtab(const struct image *image, Elf_Scn *section, const GElf_Shdr *header, struct symtab *ret_symtab)
{
	Elf_Scn *strings_section;
	const void *symbols, *strings;
	size_t symbols_size, strings_size;

	if (header->sh_entsize != sizeof(Elf64_Sym))
		return;
	strings_section = elf_getscn(image->elf, header->sh_link);
	if (!strings_section || strings_section == section)
		return;
	symbols = section_bytes(image, section, &symbols_size);
	strings = section_bytes(image, strings_section, &strings_size);
	if (!symbols || !strings)
		return;
	*ret_symtab = (struct symtab){
		.symbols = symbols, .count = symbols_size / sizeof(Elf64_Sym),
		.strings = strings, .strings_size = strings_size,
	};
}

/* The first section of a type. -ENOENT. */
static int section_of_type(const struct image *image, uint32_t type, Elf_Scn **ret_section, GElf_Shdr *ret_header)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	size_t seen = 0;

	while ((section = elf_nextscn(image->elf, section)) && seen++ < SECTIONS_MAX)
		if (gelf_getshdr(section, &header) && header.sh_type == type) {
			*ret_section = section;
			*ret_header = header;
			return 0;
		}
	return -ENOENT;
}

const struct symtab *image_symtab(const struct image *image)
{
	struct image_lazy *lazy = image->lazy;
	Elf_Scn *section;
	GElf_Shdr header;

	if (!lazy->symtab_tried && section_of_type(image, SHT_SYMTAB, &section, &header) == 0)
		read_symtab(image, section, &header, &lazy->symtab);
	lazy->symtab_tried = true;
	return &lazy->symtab;
}

int image_find_section(const struct image *image, const char *name, GElf_Shdr *ret_header)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;
	size_t seen = 0;
	const char *s;

	while ((section = elf_nextscn(image->elf, section)) && seen++ < SECTIONS_MAX) {
		if (!gelf_getshdr(section, &header))
			continue;
		/* elf_strptr() refuses names out of bounds or without an end. */
		s = elf_strptr(image->elf, image->shstrndx, header.sh_name);
		if (s && !strcmp(s, name)) {
			*ret_header = header;
			return 0;
		}
	}
	return -ENOENT;
}

static int load(struct image *image)
{
	Elf_Scn *section;
	GElf_Shdr header;
	int r;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return -ENOTSUP;
	image->elf = elf_begin(image->fd, ELF_C_READ, NULL);
	if (!image->elf)
		return -ENOEXEC;
	r = check_header(image->elf, &image->pie);
	if (r < 0)
		return r;
	r = read_program_headers(image);
	if (r < 0)
		return r;
	if (elf_getshdrstrndx(image->elf, &image->shstrndx) < 0)
		image->shstrndx = 0;
	if (section_of_type(image, SHT_DYNSYM, &section, &header) == 0)
		read_symtab(image, section, &header, &image->dynsym);
	image->has_symtab = section_of_type(image, SHT_SYMTAB, &section, &header) == 0;
	return 0;
}

int image_from_fd(int fd, const char *path, struct image **ret_image)
{
	_cleanup_(closep) int owned = fd;
	_cleanup_(image_freep) struct image *image = NULL;
	int r;

	image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	image->fd = take_fd(&owned);
	image->lazy = calloc(1, sizeof(*image->lazy));
	image->path = strdup(path);
	if (!image->lazy || !image->path)
		return -ENOMEM;
	snprintf(image->open_path, sizeof(image->open_path), "/proc/self/fd/%d", image->fd);
	r = load(image);
	if (r < 0)
		return r;
	*ret_image = take_ptr(image);
	return 0;
}
