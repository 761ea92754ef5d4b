/* SPDX-License-Identifier: MIT */
/*
 * Buffers that are objects themselves: from 3.15 a bytearray keeps its bytes in a bytes object, a BytesIO or a pickler always did. Only
 * their owner refers to them, and sys.getsizeof() of it has them; counted as objects, too, they would be in the sums twice, and a program
 * that makes no bytes would have some. So they are taken out of the bytes objects, and are blocks of their owner's kind.
 *
 * Invariant: one is taken out for each that becomes a block of its owner's kind, and never more than were counted. Limits: a buffer that
 * changed between two reads is taken for what it was, or for what it is.
 */
#include <string.h>

#include "heap/census_impl.h"
#include "interp/arenas.h"

#define BYTES_HEAD 40u       /* of a bytes object: enough for its size */
#define CHUNK_HEAD 8u        /* glibc: what malloc() adds to a request, a multiple of 16 in all */
#define CHUNK_GRAIN 16u
#define BATCH 256u
#define OWNED_KIND 56u       /* addresses are shorter */

/* What its block has, as its allocator rounds. */
static uint64_t block_bytes(const struct census_work *work, raddr_t addr, uint64_t bytes)
{
	uint64_t hooks = types_debug_front(work->types) + types_debug_back(work->types);

	if (arenas_hold(types_arenas(work->types), addr))
		return (bytes + hooks + MARK_GRAIN - 1) / MARK_GRAIN * MARK_GRAIN;
	bytes += hooks * (work->reader ? 2 : 1) + CHUNK_HEAD;
	return (bytes + CHUNK_GRAIN - 1) / CHUNK_GRAIN * CHUNK_GRAIN - CHUNK_HEAD;
}

static void take_out(struct census_work *work, raddr_t addr, enum census_non_object kind, const uint8_t *bytes)
{
	struct census_row *row = &work->census->non_objects[kind];
	const struct type_facts *facts;
	struct census_tally *tally;
	struct object_size size;
	uint64_t type_addr;
	uint32_t type;

	memcpy(&type_addr, bytes + 8, 8);
	type = types_find(work->types, RADDR(type_addr));
	facts = types_facts(work->types, type);
	if (!facts || facts->contents != CONTENTS_BYTES || type >= work->tallies_room ||
	    object_size_of(work->sizes, type, addr, bytes, BYTES_HEAD, &size) < 0 || size.need.bytes)
		return;
	tally = &work->tallies[type];
	if (tally->count == 0 || tally->bytes < size.bytes)
		return;
	tally->count--;
	tally->bytes -= size.bytes;
	row->count++;
	row->bytes += block_bytes(work, addr, size.bytes);
}

int census_take_out_owned(struct census_work *work)
{
	uint8_t bytes[BATCH * BYTES_HEAD];
	raddr_t addrs[BATCH];
	bool ok[BATCH];
	int r = 0;

	for (size_t done = 0; done < work->n_owned && r == 0; done += BATCH) {
		const uint64_t *owned = work->owned + done;
		size_t n = work->n_owned - done < BATCH ? work->n_owned - done : BATCH;

		for (size_t i = 0; i < n; i++)
			addrs[i] = RADDR(owned[i] & ((1ull << OWNED_KIND) - 1));
		r = rmem_gather_each(python_rmem(work->python), addrs, n, BYTES_HEAD, bytes, ok);
		for (size_t i = 0; i < n && r == 0; i++)
			if (ok[i])
				take_out(work, addrs[i], (enum census_non_object)(owned[i] >> OWNED_KIND), bytes + i * BYTES_HEAD);
	}
	return r;
}

int census_add_owned(struct census_work *work, raddr_t addr, enum census_non_object kind)
{
	int r = census_grow(&work->owned, work->n_owned, &work->owned_room, sizeof(*work->owned));

	if (r == 0)
		work->owned[work->n_owned++] = (addr.v & ((1ull << OWNED_KIND) - 1)) | (uint64_t)kind << OWNED_KIND;
	return r;
}
