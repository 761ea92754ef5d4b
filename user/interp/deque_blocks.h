/* SPDX-License-Identifier: MIT */
/* The blocks of a collections.deque, from left to right. */
#pragma once

#include "interp/python.h"

/* Calls fn with each block from leftmost on, at most count of them, until it returns a negative errno. Where the chain makes no sense it ends. */
typedef int (*deque_block_fn)(void *ctx, raddr_t block);
int deque_blocks_visit(const struct python *python, raddr_t leftmost, uint32_t count, deque_block_fn fn, void *ctx);
