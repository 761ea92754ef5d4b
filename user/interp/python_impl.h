/* SPDX-License-Identifier: MIT */
/* What the files of interp/ share of struct python. Private to this folder (and its tests). */
#pragma once

#include "interp/python.h"

#define MAX_INTERPRETERS 1024
#define MAX_THREADS 32768

struct python {
	pid_t pid;
	struct maps *maps;      /* NULL on recorded memory */
	struct image *image;    /* NULL on recorded memory */
	struct rmem *mem;
	raddr_t runtime;
	uint32_t version_hex;
	char version[24];
	char source[96];
	bool optimised, debug;
	struct layout layout;
	struct obmalloc_vars *static_vars;   /* where pymalloc's static variables are (<= 3.11); NULL: not found at the open */
};

/* What of python_open() needs no interpreter: image, version, layout. Nothing of it is validated. */
int python_open_image(pid_t pid, struct python **ret_python, struct err *err);

/* A python on recorded memory, without image: what needs machine code says -ENOTSUP. Takes ownership of mem only on success. */
int python_open_memory(struct rmem *mem, raddr_t runtime, uint32_t version_hex, struct python **ret_python, struct err *err);

/* version.c: -ENOENT if neither debug offsets, Py_Version, Py_GetVersion nor a version string tells. */
int version_find(const struct image *image, struct rmem *mem, raddr_t runtime, uint32_t *ret_hex);
/* "3.15.0rc1", whole string. -EINVAL if it is no version. */
int version_parse(const char *text, uint32_t *ret_hex);
void version_format(uint32_t hex, char *buf, size_t size);

/* validate.c: the invariants of a live runtime, with retries for reads torn by the running target.
 * -EAGAIN: no interpreter yet. -EPROTO: does not look like its version; why is one clause. -ESRCH, -EPERM as read. */
int runtime_validate(const struct python *python, const char **ret_why);
/* Is addr an object whose type is called name? 1, 0 or a negative errno. */
int object_is(const struct python *python, raddr_t addr, const char *name);

/* obmalloc_find.c: corrects layout->in_obmalloc from the live process. 1: changed, 0: confirmed or nothing to confirm. */
int obmalloc_settle(struct python *python);

/* tls_x86.c: a thread-local variable, as code reaches it. */
struct tls_ref {
	bool dynamic;      /* false: *(fs + offset); true: *(dtv[module] + offset) */
	uint64_t module;
	int64_t offset;
};

#define TLS_CANDIDATES 8
/* What the first instructions of an exported function load through fs or __tls_get_addr; in order. -ENOENT: nothing of the kind. */
ssize_t tls_find(const struct python *python, const char *function, struct tls_ref *ret_refs, size_t max);
/* The block of a module in the thread with this fs base. -ENOENT: not allocated there. */
int tls_block(const struct python *python, uint64_t fs_base, uint64_t module, uint64_t *ret_block);
