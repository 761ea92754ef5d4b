/* SPDX-License-Identifier: MIT */
/*
 * Finds the reference tracer's slot by what the exported PyRefTracer_GetTracer
 * loads, and a function that does nothing. Invariant: a slot handed out lies
 * within _PyRuntime, 8-aligned, and holds null or an address of executable
 * memory; a site handed out is padding before a whole function of two
 * instructions (three with endbr64). Nothing is written here.
 */
#include "interp/ref_tracer.h"

#include <errno.h>
#include <string.h>

#include "interp/python_impl.h"
#include "interp/slots_x86.h"

#define FIRST_MINOR 13      /* PyRefTracer_SetTracer() came with 3.13 */
#define TRACER_INSNS 16
#define FUNCTION_ALIGN 16
#define SCAN_CHUNK 65536u

/* The variables that PyRefTracer_GetTracer loads 8 bytes from. Returns their number. */
static size_t loaded_words(const struct python *python, uint64_t ret_words[TRACER_INSNS])
{
	struct code_insn insns[TRACER_INSNS];
	ssize_t n = code_decode_function(python->image, "PyRefTracer_GetTracer", insns, TRACER_INSNS);
	uint16_t runtime_reg = 0;
	size_t count = 0;

	for (ssize_t i = 0; i < n && insns[i].op != CODE_RET; i++) {
		const struct code_insn *insn = &insns[i];
		raddr_t value;

		if (insn->op == CODE_LOAD_REG && insn->size == 8 && runtime_reg && insn->base == runtime_reg) {
			ret_words[count++] = python->runtime.v + insn->target;
		} else if (insn->op == CODE_LEA_ABS && insn->target == python->runtime.v) {
			runtime_reg = insn->reg;
		} else if (insn->op == CODE_LOAD_ABS && insn->size == 8) {
			/* A library reaches _PyRuntime through its global offset table. */
			if (rmem_ptr(python->mem, RADDR(insn->target), &value) == 0 && raddr_eq(value, python->runtime))
				runtime_reg = insn->reg;
			else
				ret_words[count++] = insn->target;
		}
	}
	return count;
}

/* The function is the first of two adjacent words, the data the second. */
static int find_slot(const struct python *python, raddr_t *ret_slot)
{
	struct image_symbol runtime;
	uint64_t words[TRACER_INSNS];
	size_t n;

	if (image_symbol(python->image, "_PyRuntime", &runtime) < 0)
		return -ENOENT;
	n = loaded_words(python, words);
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n; k++) {
			bool inside = words[i] >= runtime.addr.v && words[i] - runtime.addr.v + 16 <= runtime.size;

			if (words[k] != words[i] + 8 || words[i] % 8 || !inside)
				continue;
			*ret_slot = RADDR(words[i]);
			return 0;
		}
	}
	return -ENOENT;
}

/* Is the whole function at addr "return 0", its result in a register that the caller need not look at? */
static bool is_stub(const struct image *image, raddr_t addr)
{
	static const uint8_t with_endbr[] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x31, 0xc0, 0xc3 }, *plain = with_endbr + 4;
	struct code_insn insns[3];
	uint8_t bytes[sizeof(with_endbr)];
	size_t size, count;
	raddr_t start;
	uint64_t known;

	if (image_read(image, addr, bytes, sizeof(bytes)) != sizeof(bytes))
		return false;
	if (!memcmp(bytes, with_endbr, sizeof(with_endbr)))
		size = sizeof(with_endbr);
	else if (!memcmp(bytes, plain, 3))
		size = 3;
	else
		return false;
	count = code_decode_bytes(bytes, size, addr.v, insns, 3);
	if (count != (size == 3 ? 2 : 3) || insns[count - 1].op != CODE_RET)
		return false;
	/* Where the unwind tables know of it, they must agree that it starts and ends here. */
	if (image_function_before(image, addr, &start, &known) < 0 || start.v + known <= addr.v)
		return true;
	return raddr_eq(start, addr) && known == size;
}

int ref_tracer_read(const struct python *python, struct slot *ret_slot)
{
	struct slot slot = { 0 };
	raddr_t stub;
	int r;

	if (python->layout.minor < FIRST_MINOR)
		return -ENOENT;
	r = find_slot(python, &slot.addr);
	if (r == 0)
		r = rmem_ptr(python->mem, slot.addr, &slot.value);
	if (r < 0)
		return r;
	slot.armed = slot.value.v && site_alias_target(python->image, slot.value, &stub) == 0 && is_stub(python->image, stub);
	*ret_slot = slot;
	return 0;
}

bool ref_tracer_is_taken(const struct slot *slot)
{
	return slot->value.v && !slot->armed;
}

/* Looks at one aligned address. Returns 1 when *ret_site is as good as can be. */
static int try_stub(const struct python *python, raddr_t addr, site_mask_t emulated, struct site *ret_site)
{
	struct site site;

	if (!is_stub(python->image, addr) || site_alias(python->image, addr, emulated, &site) < 0)
		return 0;
	if (site.emulated || !ret_site->addr.v)
		*ret_site = site;
	return site.emulated;
}

/* "xor %eax,%eax; ret", or endbr64 before it. */
static bool may_be_stub(const uint8_t *bytes)
{
	return (bytes[0] == 0x31 && bytes[1] == 0xc0 && bytes[2] == 0xc3) || (bytes[0] == 0xf3 && bytes[4] == 0x31 && bytes[6] == 0xc3);
}

static int scan_map(const struct python *python, const struct map *map, site_mask_t emulated, struct site *ret_site)
{
	_cleanup_(freep) uint8_t *bytes = malloc(SCAN_CHUNK);
	ssize_t n;

	if (!bytes)
		return -ENOMEM;
	for (uint64_t at = map->start; at < map->end; at += (uint64_t)n) {
		n = image_read(python->image, RADDR(at), bytes, SCAN_CHUNK);
		if (n < FUNCTION_ALIGN)
			break;
		n -= n % FUNCTION_ALIGN;
		for (ssize_t i = 0; i < n; i += FUNCTION_ALIGN)
			if (may_be_stub(bytes + i) && try_stub(python, RADDR(at + (uint64_t)i), emulated, ret_site))
				return 1;
	}
	return 0;
}

int ref_tracer_site(const struct python *python, site_mask_t emulated, struct site *ret_site)
{
	struct site found = { 0 };
	int r = 0;

	for (size_t i = 0; i < maps_count(python->maps) && r == 0; i++) {
		const struct map *map = maps_get(python->maps, i);

		if (map->exec && image_is_text(python->image, RADDR(map->start)))
			r = scan_map(python, map, emulated, &found);
	}
	if (r < 0)
		return r;
	if (!found.addr.v)
		return -ENOENT;
	*ret_site = found;
	return 0;
}

void ref_tracer_object_cfg(const struct python *python, bool pymalloc, struct object_cfg *ret_cfg)
{
	const struct layout *l = &python->layout;

	*ret_cfg = (struct object_cfg){
		.ob_type = l->ob_type, .tp_flags = l->tp_flags, .tp_basicsize = l->tp_basicsize, .gc_head = l->gc_head_size,
		.pool_size = pymalloc ? l->pool_size : 0, .pool_overhead = l->pool_overhead, .po_szidx = l->po_szidx,
	};
}
