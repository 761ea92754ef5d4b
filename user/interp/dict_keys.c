/* SPDX-License-Identifier: MIT */
/*
 * See dict_keys.h. Invariant: nothing is followed, addresses are handed out as
 * they were read. Facts: Objects/dictobject.c, new_keys_object(),
 * free_keys_object().
 */
#include "interp/dict_keys.h"

#include <string.h>

#include "../bpf/control.h"
#include "interp/python_impl.h"

#define SLOTS 8                /* PyDict_MINSIZE */
#define USABLE (SLOTS * 2 / 3)
#define UNICODE_MINOR 11
#define UNICODE_ENTRY 16       /* PyDictUnicodeEntry: key and value (3.11+) */
#define ENTRY 24               /* PyDictKeyEntry: hash, key, value */
#define BATCH 256

/* ma_keys without the two words before the GC head, and with them. */
struct piece {
	uint64_t keys, between, keys_after_preheader;
};
_Static_assert(sizeof(struct piece) == OBJECT_PREHEADER + 8, "ma_keys moves by the pre-header");

uint64_t dict_keys_free_list_size(const struct python *python)
{
	const struct layout *l = &python->layout;

	if (l->dk_indices == NO_OFFSET)
		return 0;
	return l->dk_indices + SLOTS + USABLE * (l->minor < UNICODE_MINOR ? ENTRY : UNICODE_ENTRY);
}

static void read_batch(const struct python *python, const uint64_t *blocks, size_t count, uint64_t (*ret_keys)[2])
{
	uint32_t offset = python->layout.gc_head_size + python->layout.dict_keys;
	struct piece pieces[BATCH] = { 0 };
	raddr_t addrs[BATCH];

	for (size_t i = 0; i < count; i++)
		addrs[i] = RADDR(blocks[i] + offset);
	/* One that is gone, or ends where its arena does, spoils the batch. */
	if (rmem_gather(python->mem, addrs, count, sizeof(pieces[0]), pieces) < 0) {
		memset(pieces, 0, sizeof(pieces));
		for (size_t i = 0; i < count; i++)
			if (rmem_read(python->mem, addrs[i], &pieces[i], sizeof(pieces[0])) < 0)
				rmem_u64(python->mem, addrs[i], &pieces[i].keys);
	}
	for (size_t i = 0; i < count; i++) {
		ret_keys[i][0] = pieces[i].keys;
		ret_keys[i][1] = pieces[i].keys_after_preheader;
	}
}

void dict_keys_read(const struct python *python, const uint64_t *blocks, size_t count, uint64_t (*ret_keys)[2])
{
	for (size_t i = 0; i < count; i += BATCH)
		read_batch(python, blocks + i, count - i < BATCH ? count - i : BATCH, ret_keys + i);
}
