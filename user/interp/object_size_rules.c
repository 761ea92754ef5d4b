/* SPDX-License-Identifier: MIT */
/*
 * Which rule gives the size of a type's objects: that of the first class up its bases that has one. A class is told by its name, by the
 * version, and by the size of its objects, so that a Python class of the same name (decimal's own in Python, say) is not taken for it.
 * A rule once found is kept for good, as an id of types never changes its meaning.
 *
 * Limit: __sizeof__ is looked up along the bases that make the layout, not along the whole MRO.
 */
#include "interp/object_size_impl.h"

#include <stdlib.h>

#define BASES_MAX 64
#define FLAG_MANAGED_DICT (1ull << 4)

static const struct {
	const char *name;
	uint32_t first_minor, last_minor;
	uint32_t basicsize[2];     /* either; 0: any */
	size_fn *measure;
	uint32_t extra;            /* numpy's scalars: the bytes of the value */
} known[] = {
	{ "int", 8, 15, { 24 }, size_int },
	{ "str", 8, 15, { 80, 64 }, size_str },
	{ "list", 8, 15, { 40 }, size_list },
	{ "dict", 8, 15, { 48 }, size_dict },
	{ "frozendict", 15, 15, { 56 }, size_dict },
	{ "set", 8, 15, { 200 }, size_set },
	{ "frozenset", 8, 15, { 200 }, size_set },
	{ "bytearray", 8, 15, { 56, 64 }, size_bytearray },
	{ "type", 8, 15, { 0 }, size_type },
	{ "code", 8, 15, { 0 }, size_code },
	{ "frame", 8, 15, { 0 }, size_frame },
	{ "generator", 11, 15, { 0 }, size_generator },
	{ "coroutine", 11, 15, { 0 }, size_generator },
	{ "async_generator", 11, 15, { 0 }, size_generator },
	{ "collections.deque", 8, 15, { 80, 216 }, size_deque },
	{ "collections.OrderedDict", 8, 15, { 112 }, size_odict },
	{ "array.array", 8, 15, { 64 }, size_array_array },
	{ "decimal.Decimal", 8, 15, { 104 }, size_decimal },
	{ "_io.BufferedReader", 8, 15, { 152 }, size_buffered },
	{ "_io.BufferedWriter", 8, 15, { 152 }, size_buffered },
	{ "_io.BufferedRandom", 8, 15, { 152 }, size_buffered },
	{ "_io.BytesIO", 8, 15, { 64 }, size_bytesio },
	{ "_io.StringIO", 8, 15, { 0 }, size_stringio },
	{ "_queue.SimpleQueue", 13, 15, { 72 }, size_simple_queue },
	{ "itertools.combinations", 8, 15, { 56 }, size_combinations },
	{ "itertools.combinations_with_replacement", 8, 15, { 56 }, size_combinations },
	{ "itertools.permutations", 8, 15, { 64 }, size_permutations },
	{ "itertools.product", 8, 15, { 48 }, size_product },
	{ "xml.etree.ElementTree.Element", 8, 15, { 56 }, size_element },
	{ "Struct", 8, 8, { 56 }, size_struct },
	{ "_struct.Struct", 9, 15, { 56, 64 }, size_struct },
	{ "_pickle.Pickler", 8, 15, { 152, 144 }, size_pickler },
	{ "_pickle.Unpickler", 8, 15, { 0 }, size_unpickler },
	{ "StgDict", 8, 12, { 192 }, size_stgdict },
	{ "_ctypes.CType_Type", 13, 13, { 1088 }, size_ctype },
	{ "_ctypes.CType_Type", 14, 15, { 1120 }, size_ctype },
	{ "numpy.ndarray", 8, 15, { 0 }, size_ndarray },
	{ "numpy.void", 8, 15, { 64 }, size_numpy_var },
	{ "numpy.bytes_", 8, 15, { 40 }, size_numpy_var },
	{ "numpy.bool", 8, 15, { 0 }, size_numpy_scalar, 1 },
	{ "numpy.bool_", 8, 15, { 0 }, size_numpy_scalar, 1 },
	{ "numpy.int8", 8, 15, { 0 }, size_numpy_scalar, 1 },
	{ "numpy.uint8", 8, 15, { 0 }, size_numpy_scalar, 1 },
	{ "numpy.int16", 8, 15, { 0 }, size_numpy_scalar, 2 },
	{ "numpy.uint16", 8, 15, { 0 }, size_numpy_scalar, 2 },
	{ "numpy.int32", 8, 15, { 0 }, size_numpy_scalar, 4 },
	{ "numpy.uint32", 8, 15, { 0 }, size_numpy_scalar, 4 },
	{ "numpy.intc", 8, 15, { 0 }, size_numpy_scalar, 4 },
	{ "numpy.uintc", 8, 15, { 0 }, size_numpy_scalar, 4 },
	{ "numpy.int64", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.uint64", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.longlong", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.ulonglong", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.float16", 8, 15, { 0 }, size_numpy_scalar, 2 },
	{ "numpy.float32", 8, 15, { 0 }, size_numpy_scalar, 4 },
	{ "numpy.float64", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.longdouble", 8, 15, { 0 }, size_numpy_scalar, 16 },
	{ "numpy.float128", 8, 15, { 0 }, size_numpy_scalar, 16 },
	{ "numpy.complex64", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.complex128", 8, 15, { 0 }, size_numpy_scalar, 16 },
	{ "numpy.clongdouble", 8, 15, { 0 }, size_numpy_scalar, 32 },
	{ "numpy.complex256", 8, 15, { 0 }, size_numpy_scalar, 32 },
	{ "numpy.datetime64", 8, 15, { 0 }, size_numpy_scalar, 8 },
	{ "numpy.timedelta64", 8, 15, { 0 }, size_numpy_scalar, 8 },
};

static bool known_rule(const struct object_sizes *sizes, const char *name, uint32_t basicsize, struct size_rule *rule)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (sizes->layout->minor < known[i].first_minor || sizes->layout->minor > known[i].last_minor)
			continue;
		if (known[i].basicsize[0] && known[i].basicsize[0] != basicsize && known[i].basicsize[1] != basicsize)
			continue;
		if (strcmp(known[i].name, name) != 0)
			continue;
		rule->measure = known[i].measure;
		rule->own_basicsize = basicsize;
		rule->extra = known[i].extra;
		return true;
	}
	return false;
}

static void find_rule(const struct object_sizes *sizes, uint32_t type, struct size_rule *rule)
{
	const struct type_facts *facts = types_facts(sizes->types, type);
	uint32_t id = type;

	*rule = (struct size_rule){
		.front = facts->front, .basicsize = facts->basicsize, .itemsize = facts->itemsize,
		.values = (sizes->layout->minor == 11 || sizes->layout->minor == 12) && facts->preheader &&
			  (facts->flags & FLAG_MANAGED_DICT),
	};
	for (int i = 0; i < BASES_MAX && facts; i++) {
		rule->exact = id == type;
		if (known_rule(sizes, types_name(sizes->types, id), facts->basicsize, rule))
			return;
		id = facts->base.v ? types_find(sizes->types, facts->base) : 0;
		facts = types_facts(sizes->types, id);
	}
	rule->measure = size_plain;
}

const struct size_rule *size_rule_find(struct object_sizes *sizes, uint32_t type)
{
	if (__builtin_expect(type < sizes->room && sizes->rules[type].measure, 1))
		return &sizes->rules[type];
	if (!types_facts(sizes->types, type))
		return NULL;
	if (type >= sizes->room) {
		uint32_t room = type < 128 ? 256 : 2 * type;
		struct size_rule *grown = reallocarray(sizes->rules, room, sizeof(*grown));

		if (!grown)
			return NULL;
		memset(grown + sizes->room, 0, (room - sizes->room) * sizeof(*grown));
		sizes->rules = grown;
		sizes->room = room;
	}
	find_rule(sizes, type, &sizes->rules[type]);
	return &sizes->rules[type];
}
