/* SPDX-License-Identifier: MIT */
/* Four bits for each 16 bytes of a target's heaps: what is known of the block that starts there. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "base/raddr.h"

#define MARK_GRAIN 16u

struct marks;

/* max_bytes of memory at most: marks beyond that are turned away and counted. -ENOMEM. */
int marks_new(uint64_t max_bytes, struct marks **ret_marks);
void marks_free(struct marks *marks);
DEFINE_CLEANUP(struct marks, marks_free)

/* Adds bits (of 15) to the mark of the block at addr, unless one of `unless` is set. An address that is no multiple of MARK_GRAIN is turned away. */
void marks_add(struct marks *marks, raddr_t addr, uint8_t bits, uint8_t unless);
uint8_t marks_get(struct marks *marks, raddr_t addr);
uint64_t marks_refused(const struct marks *marks);
