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
#define LOG2_SIZE_MAX 40u
#define KIND_GENERAL 0u        /* enum DictKeysKind: hash, key and value in each entry */
#define KIND_MAX 2u

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

/* Bytes asked for; 0: these are no key table's numbers. */
static uint64_t size_by_logs(const struct layout *l, const uint8_t *bytes)
{
	uint32_t size = bytes[l->dk_log2_size], index = bytes[l->dk_log2_index_bytes], kind = bytes[l->dk_kind];
	uint64_t entries[2], usable;

	if (size < 3 || size > LOG2_SIZE_MAX || index < size || index > size + 3 || kind > KIND_MAX)
		return 0;
	memcpy(&entries[0], bytes + l->dk_usable, 8);
	memcpy(&entries[1], bytes + l->dk_nentries, 8);
	usable = (2ull << size) / 3;
	if (entries[0] > usable || entries[1] > usable)
		return 0;
	return l->dk_indices + (1ull << index) + usable * (kind == KIND_GENERAL ? ENTRY : UNICODE_ENTRY);
}

/* Up to 3.10 the number of slots stands there, and tells the size of an index. */
static uint64_t size_by_slots(const struct layout *l, const uint8_t *bytes)
{
	uint64_t slots, entries[2], usable, index;

	memcpy(&slots, bytes + l->dk_size, 8);
	memcpy(&entries[0], bytes + l->dk_usable, 8);
	memcpy(&entries[1], bytes + l->dk_nentries, 8);
	if (slots < SLOTS || slots > 1ull << LOG2_SIZE_MAX || (slots & (slots - 1)))
		return 0;
	usable = 2 * slots / 3;
	index = slots <= 0xff ? 1 : slots <= 0xffff ? 2 : slots <= 0xffffffff ? 4 : 8;
	return entries[0] > usable || entries[1] > usable ? 0 : l->dk_indices + index * slots + usable * ENTRY;
}

bool dict_keys_fit(const struct python *python, const uint8_t *bytes, size_t len, uint64_t room, uint64_t slack)
{
	const struct layout *l = &python->layout;
	uint64_t want, references;

	if (l->dk_indices == NO_OFFSET || l->dk_indices > len || l->dk_indices < 32)
		return false;
	memcpy(&references, bytes, 8);
	if (!references || references > UINT32_MAX)
		return false;
	want = l->minor >= UNICODE_MINOR ? size_by_logs(l, bytes) : size_by_slots(l, bytes);
	return want && want <= room && room - want <= slack;
}
