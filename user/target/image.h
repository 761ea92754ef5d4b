/* SPDX-License-Identifier: MIT */
/*
 * An ELF image as a target has it mapped. The file is opened through
 * /proc/PID/map_files (right even if deleted or replaced on disk, and in any
 * mount namespace), else /proc/PID/root + path when its device and inode are
 * those of the mapping. All addresses given and returned are run-time
 * addresses in the target; the bias is applied here and nowhere else.
 * The file's bytes are untrusted: every offset, size and string is bounded.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"
#include "target/maps.h"

struct image;

struct image_symbol {
	raddr_t addr;
	uint64_t size;
	uint8_t type;  /* STT_* */
};

/* Finds the mapped file that defines _PyRuntime in .dynsym (or .symtab): the executable first, then libpython*, then any other
 * mapped ELF file that defines it (embedded interpreters under other names).
 * -ESRCH gone or a zombie, -EACCES/-EPERM no permission (hint: run as root), -ENOEXEC no Python in it, -ENOTSUP a Python without
 * _PyRuntime (before 3.7); err filled. */
int image_open_python(pid_t pid, const struct maps *maps, struct image **ret_image, struct err *err);
/* The image mapped at addr (for libc, extension modules). */
int image_open_at(pid_t pid, const struct maps *maps, uint64_t addr, struct image **ret_image, struct err *err);
/* A file as if mapped at its link addresses (tests, fuzzing, offline). Takes ownership of nothing; fd is duplicated. */
int image_open_fd(int fd, const char *name, struct image **ret_image, struct err *err);
void image_free(struct image *image);
DEFINE_CLEANUP(struct image, image_free)

const char *image_path(const struct image *image);        /* as the target sees it */
/* A path that opens this very file from our namespace ("/proc/self/fd/N", valid while image lives): for perf_event_open. */
const char *image_open_path(const struct image *image);
bool image_is_pie(const struct image *image);             /* ET_DYN */
bool image_is_executable(const struct image *image);      /* has PT_INTERP: the program itself, not a library */
bool image_is_stripped(const struct image *image);        /* no .symtab */
bool image_is_deleted(const struct image *image);
const char *image_build_id(const struct image *image);    /* lower-case hex, "" if none */
int64_t image_bias(const struct image *image);            /* run-time address - link address */

/* Looks in .dynsym, then .symtab. -ENOENT if not there or only referred to. A TLS symbol (STT_TLS) has its offset in the TLS block
 * as addr. LTO names ("f.lto_priv.0", "f.constprop.0") match only as written. One image is for one thread at a time: tables are
 * loaded at first use. */
int image_symbol(const struct image *image, const char *name, struct image_symbol *ret_symbol);
/* The function symbol that covers addr; *ret_name points into the image. -ENOENT if none. */
int image_symbol_at(const struct image *image, raddr_t addr, const char **ret_name, struct image_symbol *ret_symbol);
/* The last function that starts at or before addr, by the unwind tables: good for stripped images too. It need not reach addr.
 * -ENOENT none, -ENOTSUP tables in an unusual form. */
int image_function_before(const struct image *image, raddr_t addr, raddr_t *ret_start, uint64_t *ret_size);
int image_section(const struct image *image, const char *name, raddr_t *ret_addr, uint64_t *ret_size);
/* PT_TLS: size in memory and alignment. -ENOENT if none. */
int image_tls(const struct image *image, uint64_t *ret_memsz, uint64_t *ret_align);
/* Offset in the file of a byte mapped from it: where a uprobe goes. -ENOENT if addr is not in a PT_LOAD's file part. */
int image_file_offset(const struct image *image, raddr_t addr, uint64_t *ret_offset);
/* Reads bytes of the file's content at a run-time address (as on disk, unrelocated). Returns bytes read (may be short) or -errno. */
ssize_t image_read(const struct image *image, raddr_t addr, void *buf, size_t size);
/* The run-time range of the index-th writable PT_LOAD, zeroed part and what is read-only after relocation included. -ENOENT after the last. */
int image_data(const struct image *image, size_t index, raddr_t *ret_addr, uint64_t *ret_size);
/* True if addr lies in an executable PT_LOAD of this image. */
bool image_is_text(const struct image *image, raddr_t addr);
