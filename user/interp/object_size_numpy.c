/* SPDX-License-Identifier: MIT */
/*
 * Sizes of numpy's arrays and scalars, which have a __sizeof__ of their own: an array counts its data where it owns them.
 *
 * Facts: PyArrayObject_fields and PyArray_Descr in numpy/core/include/numpy/ndarraytypes.h (numpy 1) and numpy/_core (numpy 2);
 * array_sizeof() in multiarray/methods.c, gentype_sizeof() in multiarray/scalartypes.c.src. Looked at: 1.24, 1.26, 2.5.
 *
 * Limit: the data of an array with an allocator of its own need not start a block of the usual one.
 */
#include "interp/object_size_impl.h"

#define ARRAY_DATA 16u
#define ARRAY_NDIM 24u
#define ARRAY_DIMENSIONS 32u      /* the strides follow in the same block */
#define ARRAY_DESCR 56u
#define ARRAY_FLAGS 64u
#define FLAG_OWNDATA 4u
#define NDIM_MAX 64u
#define DESCR_SIZE_1 32u          /* numpy 1: elsize, alignment (never 0) */
#define DESCR_SIZE_2 40u          /* numpy 2: elsize, behind 64 bits of flags (never large) */

int size_ndarray(const struct size_subject *s, struct object_size *size)
{
	uint32_t ndim;
	int r;

	if (!size_have(s, ARRAY_FLAGS + 4, size, &r))
		return r;
	ndim = size_u32(s, ARRAY_NDIM);
	size_base(s, size);
	if (ndim > NDIM_MAX)
		return -EPROTO;
	r = ndim ? size_array(size, PART_OTHER, size_u64(s, ARRAY_DIMENSIONS), 2ull * ndim, 8) : 0;
	if (r < 0 || !(size_u32(s, ARRAY_FLAGS) & FLAG_OWNDATA))
		return r;
	size->need.held[0] = size_u64(s, ARRAY_DATA);
	size->need.held[1] = 1;       /* items, of the dimensions that were read */
	size->need.held[2] = ndim;    /* dimensions left */
	r = size_later(size, size_u64(s, ARRAY_DESCR) + DESCR_SIZE_1, STEP_NUMPY_ITEM);
	return r < 0 || !ndim ? r : size_later(size, size_u64(s, ARRAY_DIMENSIONS), STEP_NUMPY_SHAPE);
}

int size_step_numpy_shape(const struct size_subject *s, struct object_size *size)
{
	for (size_t at = 0; at + 8 <= s->len && size->need.held[2]; at += 8, size->need.held[2]--) {
		uint64_t length = size_u64(s, at);

		if (length && size->need.held[1] > SIZE_LIMIT / length)
			return -EPROTO;
		size->need.held[1] *= length;
	}
	return size->need.held[2] ? size_later(size, s->at.v + s->len, STEP_NUMPY_SHAPE) : 0;
}

int size_step_numpy_item(const struct size_subject *s, struct object_size *size)
{
	bool numpy_1 = size_u32(s, 4);   /* the alignment there, the upper half of the flags in numpy 2 */
	uint64_t item = numpy_1 ? size_u32(s, 0) : size_u64(s, DESCR_SIZE_2 - DESCR_SIZE_1);

	return size_array(size, PART_OTHER, size->need.held[0], size->need.held[1], item);
}

/* float64 and the like: the object, and once more the bytes of its value. */
int size_numpy_scalar(const struct size_subject *s, struct object_size *size)
{
	int r = size_plain(s, size);

	return r < 0 || size->need.bytes ? r : size_add(size, s->rule->extra, 1);
}

/* void and bytes_: as many bytes as ob_size says. */
int size_numpy_var(const struct size_subject *s, struct object_size *size)
{
	int r;

	if (!size_have(s, OB_SIZE + 8, size, &r))
		return r;
	r = size_plain(s, size);
	return r < 0 ? r : size_add(size, size_u64(s, OB_SIZE), 1);
}
