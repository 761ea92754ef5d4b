/* SPDX-License-Identifier: MIT */
/*
 * Is this process a Python? What image_open_python() says, at less expense: files without a Python are remembered by device, inode, time of
 * change and size, so that bash, ls and libc are looked into once. Bounded; when it is full all is forgotten.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "target/image.h"

#define FINDER_FILES_MAX 4096

struct finder_look;

int finder_look_new(struct finder_look **ret_look);
void finder_look_free(struct finder_look *look);
DEFINE_CLEANUP(struct finder_look, finder_look_free)

/* -ENOEXEC no Python (or one before 3.7), -ESRCH gone, or another negative errno: it could not be told. */
int finder_look_at(struct finder_look *look, pid_t pid, struct image **ret_image);
/* How often files were opened: processes that the memory did not answer for. For tests. */
uint64_t finder_look_opened(const struct finder_look *look);
size_t finder_look_files(const struct finder_look *look);
