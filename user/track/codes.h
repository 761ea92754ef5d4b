/* SPDX-License-Identifier: MIT */
/*
 * Do the code objects that are known by name still stand where they stood? Exact mode sees every free; in sampled mode a code object can be
 * freed, and another made at its address, between two windows. Each is told by the address of its line table and its first line.
 */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "interp/python.h"
#include "trace/session.h"
#include "track/stacks.h"

struct codes;

/* python must outlive it. */
int codes_new(const struct python *python, struct codes **ret_codes);
void codes_free(struct codes *codes);
DEFINE_CLEANUP(struct codes, codes_free)

/* Looks at all of a target; those that are gone are forgotten, here and in the kernel. Returns how many, or -ESRCH, -EPERM, -ENOMEM. */
int codes_check(struct codes *codes, uint32_t target, struct stacks *stacks, struct session *session);
