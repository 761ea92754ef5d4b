/* SPDX-License-Identifier: MIT */
/*
 * The Python of one process: its image, exact version, layout, runtime and
 * interpreters, found in the order debug offsets, machine code, signature
 * scan, table by exact version, and validated on the live process before
 * anything else believes it. Nothing here writes into the target.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"
#include "interp/layout.h"
#include "interp/rmem.h"
#include "target/image.h"
#include "target/maps.h"

struct walk_cfg;
struct python;

/*
 * -ESRCH no such process, -EPERM/-EACCES no permission, -ENOEXEC not a Python, -ENOTSUP version unknown or free-threaded,
 * -EPROTO the process does not look as its version should (validation failed), -EAGAIN still starting (no interpreter yet).
 * err says what to do.
 */
int python_open(pid_t pid, struct python **ret_python, struct err *err);
void python_free(struct python *python);
DEFINE_CLEANUP(struct python, python_free)
/*
 * Lets go of the image and the mappings, which are all but a few KiB of what it keeps (120 to 580 KiB), and of the image's descriptor. What is
 * left answers for the version, the layout, the memory and, if there was an arena at the open, for obmalloc.h.
 */
void python_shed(struct python *python);
/* What one that let go keeps. */
size_t python_bytes(const struct python *python);

pid_t python_pid(const struct python *python);
uint32_t python_version_hex(const struct python *python);       /* PY_VERSION_HEX, 0x030b02f0 */
const char *python_version(const struct python *python);        /* "3.11.2" ("3.15.0rc1") */
bool python_is_optimised(const struct python *python);          /* PGO/LTO: allocator guards inlined in the code */
bool python_is_debug(const struct python *python);              /* --with-pydebug */
raddr_t python_runtime(const struct python *python);            /* &_PyRuntime */
const struct layout *python_layout(const struct python *python);
const struct image *python_image(const struct python *python);   /* NULL: let go of */
const struct maps *python_maps(const struct python *python);    /* as of the open; NULL: let go of */
struct rmem *python_rmem(const struct python *python);
/* How the layout was come by, for doctor: "debug offsets", "table 3.11", ... */
const char *python_layout_source(const struct python *python);

/* Interpreters, newest first as CPython lists them; at most max. Returns the count or a negative errno. Cycles are cut. */
ssize_t python_interpreters(const struct python *python, raddr_t *ret_interps, size_t max);
/* Thread states of one interpreter. */
ssize_t python_threads(const struct python *python, raddr_t interp, raddr_t *ret_tstates, size_t max);
/* What pthread_self() gives in each thread that has a thread state (on x86-64 %fs); the same thread may be there twice. At most max. */
ssize_t python_thread_pointers(const struct python *python, uint64_t *ret_pointers, size_t max);

/* What the BPF walker needs (all but max_frames). -EPROTO if the TLS offset or another part cannot be found. */
int python_walk_cfg(const struct python *python, struct walk_cfg *ret_cfg, struct err *err);
