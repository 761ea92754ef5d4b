/* SPDX-License-Identifier: MIT */
/*
 * See deque_blocks.h. A block is { left, 64 pointers, right } in 3.8 to 3.15 (Modules/_collectionsmodule.c, BLOCKLEN). Invariant: a block
 * is believed if its left link is the block before it. Limits: a read for each block.
 */
#include "interp/deque_blocks.h"

#include <errno.h>

#define LEFT_LINK 0
#define RIGHT_LINK (8 + 64 * 8)

int deque_blocks_visit(const struct python *python, raddr_t leftmost, uint32_t count, deque_block_fn fn, void *ctx)
{
	struct rmem *mem = python_rmem(python);
	raddr_t block = leftmost, next, back;
	int r = 0;

	for (uint32_t i = 0; i < count && block.v; i++) {
		r = fn(ctx, block);
		if (r == 0 && i + 1 < count)
			r = rmem_ptr(mem, raddr_add(block, RIGHT_LINK), &next);
		if (r == 0 && i + 1 < count)
			r = rmem_ptr(mem, raddr_add(next, LEFT_LINK), &back);
		if (r < 0 || i + 1 == count)
			break;
		if (back.v != block.v)
			return 0;
		block = next;
	}
	return r == -EFAULT ? 0 : r;
}
