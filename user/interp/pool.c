/* SPDX-License-Identifier: MIT */
/*
 * The inside of a pool (Objects/obmalloc.c): a header, then blocks of one size
 * from POOL_OVERHEAD on. Blocks at nextoffset and after were never handed out;
 * of those before, the ones on the list that starts at freeblock are free, and
 * the rest are live:
 *
 *     ref.count + length of the free list = (nextoffset - POOL_OVERHEAD) / block size
 *
 * Invariant: what is returned satisfies that equation, so a snapshot that the
 * running target tore is told from a whole one.
 */
#include "interp/pool.h"

#include <errno.h>
#include <string.h>

#include "interp/python_impl.h"

uint32_t pool_header_bytes(const struct python *python)
{
	return python->layout.po_size;
}

raddr_t pool_of(const struct python *python, raddr_t addr)
{
	return RADDR(addr.v & ~(uint64_t)(python->layout.pool_size - 1));
}

int pool_class_of(const struct python *python, uint64_t size)
{
	const struct layout *l = &python->layout;

	if (size > (uint64_t)l->alignment * l->size_classes)
		return -1;
	return size ? (int)((size - 1) / l->alignment) : 0;
}

int pool_head_parse(const struct python *python, const uint8_t *header, struct pool_head *ret_head)
{
	const struct layout *l = &python->layout;
	struct pool_head head;
	uint32_t next;

	memcpy(&head.live, header + l->po_count, 4);
	memcpy(&head.size_class, header + l->po_szidx, 4);
	memcpy(&head.first_free, header + l->po_freeblock, 8);
	memcpy(&next, header + l->po_nextoffset, 4);
	if (head.live == 0)
		return -ENOENT;
	if (head.size_class >= l->size_classes)
		return -EPROTO;
	head.block_size = (head.size_class + 1) * l->alignment;
	if (next <= l->pool_overhead || next > l->pool_size || (next - l->pool_overhead) % head.block_size)
		return -EPROTO;
	head.carved = (next - l->pool_overhead) / head.block_size;
	if (head.live > head.carved || head.carved > POOL_BLOCKS_MAX)
		return -EPROTO;
	*ret_head = head;
	return 0;
}

int pool_block_index(const struct python *python, raddr_t pool, const struct pool_head *head, raddr_t addr)
{
	uint64_t offset = addr.v - pool.v - python->layout.pool_overhead;

	if (addr.v < pool.v + python->layout.pool_overhead || offset >= python->layout.pool_size || offset % head->block_size)
		return -ENOENT;
	offset /= head->block_size;
	return offset < head->carved ? (int)offset : -ERANGE;
}

uint32_t pool_block_offset(const struct python *python, const struct pool_head *head, uint32_t index)
{
	return python->layout.pool_overhead + index * head->block_size;
}

int pool_free_list(const struct python *python, raddr_t pool, const uint8_t *snapshot, const struct pool_head *head, struct pool_free *ret)
{
	struct pool_free found = { 0 };
	uint64_t at = head->first_free;
	uint32_t length = 0;

	while (at) {
		int index = pool_block_index(python, pool, head, RADDR(at));

		/* a cycle would come by a block twice */
		if (index < 0 || pool_is_free(&found, (uint32_t)index))
			return -EAGAIN;
		found.bits[index / 64] |= 1ull << (index % 64);
		length++;
		memcpy(&at, snapshot + (at - pool.v), 8);
	}
	if (length + head->live != head->carved)
		return -EAGAIN;
	*ret = found;
	return 0;
}
