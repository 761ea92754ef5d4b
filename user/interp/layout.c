/* SPDX-License-Identifier: MIT */
/*
 * Picks the offsets of a version: the generated row of its minor, then the rows
 * of its patch level, then (by the caller, who has the memory) debug offsets.
 * Invariant: an offset handed out is NO_OFFSET or below LAYOUT_OFFSET_MAX.
 * Limits: x86-64 GIL builds; a patch level between two that were examined gets
 * the values of the earlier one, and python.c validates before use.
 */
#include "interp/layout.h"

#include <errno.h>
#include <string.h>

struct layout_patch {
	uint32_t minor, first_micro, last_micro;
	bool probed;     /* an alternative to probe on the live process, not a rule */
	size_t field;
	uint32_t value;
};

struct debug_field {
	uint32_t minor, position;
	size_t field;
};

struct debug_size {
	uint32_t minor, size;
};

#include "interp/layout_table.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* What a version does differently other than by an offset. Sources: frame layouts of Include/internal, Include/cpython/code.h. */
static const struct {
	uint32_t first_minor, last_minor;
	uint32_t instr_kind;
	uint32_t owner_shim;
	uint64_t tag_mask;
	enum obmalloc_place place;
} facts[] = {
	{ 8, 9, INSTR_LASTI_BYTES, 255, ~0ull, OBMALLOC_STATIC },
	{ 10, 10, INSTR_LASTI_UNITS, 255, ~0ull, OBMALLOC_STATIC },
	{ 11, 11, INSTR_POINTER, 255, ~0ull, OBMALLOC_STATIC },
	{ 12, 12, INSTR_POINTER, 3, ~0ull, OBMALLOC_INLINE },
	{ 13, 13, INSTR_POINTER, 3, ~0ull, OBMALLOC_POINTER },
	/* _PyStackRef: bit 0 not counted, bit 1 set only in what is no object */
	{ 14, 15, INSTR_POINTER, 3, ~3ull, OBMALLOC_POINTER },
};

static uint32_t *field_of(struct layout *layout, size_t field)
{
	return (uint32_t *)(void *)((char *)layout + field);
}

static void apply_facts(struct layout *layout)
{
	for (size_t i = 0; i < COUNT(facts); i++) {
		if (layout->minor < facts[i].first_minor || layout->minor > facts[i].last_minor)
			continue;
		layout->instr_kind = facts[i].instr_kind;
		layout->owner_shim = facts[i].owner_shim;
		layout->tag_mask = facts[i].tag_mask;
		layout->obmalloc_place = facts[i].place;
	}
}

static bool patch_applies(const struct layout_patch *patch, uint32_t version_hex)
{
	uint32_t micro = PY_HEX_MICRO(version_hex);

	return patch->minor == PY_HEX_MINOR(version_hex) && micro >= patch->first_micro && micro <= patch->last_micro;
}

int layout_find(uint32_t version_hex, struct layout *ret_layout)
{
	struct layout found;
	size_t i;

	if (PY_HEX_MAJOR(version_hex) != 3)
		return -ENOTSUP;
	for (i = 0; i < COUNT(layouts); i++)
		if (layouts[i].minor == PY_HEX_MINOR(version_hex))
			break;
	if (i == COUNT(layouts))
		return -ENOTSUP;
	found = layouts[i];
	apply_facts(&found);
	for (i = 0; i < COUNT(layout_patches); i++)
		if (patch_applies(&layout_patches[i], version_hex) && !layout_patches[i].probed)
			*field_of(&found, layout_patches[i].field) = layout_patches[i].value;
	*ret_layout = found;
	return 0;
}

int layout_alternative(uint32_t version_hex, size_t field, size_t index, uint32_t *ret_value)
{
	for (size_t i = 0; i < COUNT(layout_patches); i++) {
		const struct layout_patch *patch = &layout_patches[i];

		if (!patch->probed || patch->field != field || !patch_applies(patch, version_hex))
			continue;
		if (index-- == 0) {
			*ret_value = patch->value;
			return 0;
		}
	}
	return -ENOENT;
}

size_t debug_offsets_size(uint32_t minor)
{
	for (size_t i = 0; i < COUNT(debug_sizes); i++)
		if (debug_sizes[i].minor == minor)
			return debug_sizes[i].size;
	return 0;
}

static uint64_t u64_at(const uint8_t *bytes, size_t position)
{
	uint64_t value;

	memcpy(&value, bytes + position, sizeof(value));
	return value;
}

int debug_offsets_head(const uint8_t *bytes, size_t size, struct debug_offsets *ret_head)
{
	if (size < 24 || memcmp(bytes, "xdebugpy", 8) != 0)
		return -ENOENT;
	ret_head->version_hex = (uint32_t)u64_at(bytes, 8);
	ret_head->free_threaded = u64_at(bytes, 16) != 0;
	return 0;
}

int debug_offsets_apply(const uint8_t *bytes, size_t size, struct layout *layout)
{
	size_t need = debug_offsets_size(layout->minor);
	struct layout changed = *layout;

	if (!need)
		return -ENOENT;
	if (size < need)
		return -EPROTO;
	for (size_t i = 0; i < COUNT(debug_fields); i++) {
		uint64_t value;

		if (debug_fields[i].minor != layout->minor)
			continue;
		value = u64_at(bytes, debug_fields[i].position);
		if (value >= LAYOUT_OFFSET_MAX)
			return -EPROTO;
		*field_of(&changed, debug_fields[i].field) = (uint32_t)value;
	}
	*layout = changed;
	return 0;
}

int debug_offsets_fill(const struct layout *layout, uint32_t version_hex, uint8_t *bytes, size_t size)
{
	size_t need = debug_offsets_size(layout->minor);
	uint64_t version = version_hex;

	if (!need)
		return -ENOENT;
	if (size < need)
		return -EPROTO;
	memset(bytes, 0, need);
	memcpy(bytes, "xdebugpy", 8);
	memcpy(bytes + 8, &version, sizeof(version));
	for (size_t i = 0; i < COUNT(debug_fields); i++) {
		uint64_t value;

		if (debug_fields[i].minor != layout->minor)
			continue;
		value = *(const uint32_t *)(const void *)((const char *)layout + debug_fields[i].field);
		if (value != NO_OFFSET)
			memcpy(bytes + debug_fields[i].position, &value, sizeof(value));
	}
	return 0;
}
