/* SPDX-License-Identifier: MIT */
/*
 * Marks lie in leaves of 32 KiB, one for each MiB of addresses in which there is a
 * mark; a map leads from the MiB to its leaf. Leaves are cut from slabs that
 * the kernel zeroes page by page at first use, so that a single mark in a
 * sparse address space takes a page, not a leaf.
 *
 * Limits: 3.2 % of a dense heap; addresses come from the target and may be any, which max_bytes bounds (as if each leaf
 * were used to its last page).
 */
#include "heap/census_marks.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/map64.h"

#define LEAF_SHIFT 20u
#define LEAF_BYTES ((1ull << LEAF_SHIFT) / MARK_GRAIN / 2)
#define SLAB_LEAVES 64u
#define SLAB_BYTES (SLAB_LEAVES * LEAF_BYTES)

struct slab {
	struct slab *next;
	uint8_t *bytes;
};

struct marks {
	struct map64 *leaves;         /* uint8_t * by number */
	struct slab *slabs;
	uint32_t left;                /* leaves left of the newest slab */
	uint64_t n_leaves, max_leaves, refused;
	uint64_t last_number;         /* the leaf that was asked for last */
	uint8_t *last;
};

int marks_new(uint64_t max_bytes, struct marks **ret_marks)
{
	_cleanup_(marks_freep) struct marks *marks = calloc(1, sizeof(*marks));
	int r;

	if (!marks)
		return -ENOMEM;
	r = map64_new(sizeof(uint8_t *), &marks->leaves);
	if (r < 0)
		return r;
	marks->max_leaves = max_bytes / LEAF_BYTES;
	*ret_marks = take_ptr(marks);
	return 0;
}

void marks_free(struct marks *marks)
{
	struct slab *next;

	if (!marks)
		return;
	for (struct slab *slab = marks->slabs; slab; slab = next) {
		next = slab->next;
		munmap(slab->bytes, SLAB_BYTES);
		free(slab);
	}
	map64_free(marks->leaves);
	free(marks);
}

static int add_slab(struct marks *marks)
{
	struct slab *slab = malloc(sizeof(*slab));
	void *bytes;

	if (!slab)
		return -ENOMEM;
	bytes = mmap(NULL, SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (bytes == MAP_FAILED) {
		free(slab);
		return -ENOMEM;
	}
	*slab = (struct slab){ marks->slabs, bytes };
	marks->slabs = slab;
	marks->left = SLAB_LEAVES;
	return 0;
}

static uint8_t *new_leaf(struct marks *marks, uint64_t number)
{
	uint8_t **place;

	if (marks->n_leaves >= marks->max_leaves || (marks->left == 0 && add_slab(marks) < 0))
		return NULL;
	place = map64_put(marks->leaves, number, NULL);
	if (!place)
		return NULL;
	*place = marks->slabs->bytes + --marks->left * LEAF_BYTES;
	marks->n_leaves++;
	return *place;
}

static uint8_t *find_leaf(struct marks *marks, uint64_t number)
{
	uint8_t **place;

	if (marks->last && marks->last_number == number)
		return marks->last;
	place = map64_get(marks->leaves, number);
	if (!place)
		return NULL;
	marks->last_number = number;
	marks->last = *place;
	return *place;
}

void marks_add(struct marks *marks, raddr_t addr, uint8_t bits, uint8_t unless)
{
	uint64_t number = addr.v >> LEAF_SHIFT, grain = addr.v % (1ull << LEAF_SHIFT) / MARK_GRAIN;
	uint8_t *leaf = addr.v % MARK_GRAIN ? NULL : find_leaf(marks, number);

	if (!leaf && addr.v % MARK_GRAIN == 0)
		leaf = new_leaf(marks, number);
	if (!leaf) {
		marks->refused++;
		return;
	}
	if (!(leaf[grain / 2] >> (grain % 2 * 4) & unless))
		leaf[grain / 2] |= (uint8_t)((bits & 15) << (grain % 2 * 4));
}

uint8_t marks_get(struct marks *marks, raddr_t addr)
{
	uint64_t grain = addr.v % (1ull << LEAF_SHIFT) / MARK_GRAIN;
	const uint8_t *leaf = addr.v % MARK_GRAIN ? NULL : find_leaf(marks, addr.v >> LEAF_SHIFT);

	return leaf ? leaf[grain / 2] >> (grain % 2 * 4) & 15 : 0;
}

uint64_t marks_refused(const struct marks *marks)
{
	return marks->refused;
}
