/* SPDX-License-Identifier: MIT */
/*
 * Thread-local variables as x86-64 code reaches them (ELF handling for TLS):
 *
 *   local exec     mov %fs:disp,%rax                       an executable
 *   initial exec   mov got(%rip),%rax; mov %fs:(%rax),...  a library bound early
 *   dynamic        lea got(%rip),%rdi; call __tls_get_addr; mov disp(%rax),...
 *   descriptors    lea got(%rip),%rax; call *(%rax)        -mtls-dialect=gnu2
 *
 * What is found is a candidate: walk_cfg.c checks it against live threads.
 */
#include <errno.h>

#include "interp/python_impl.h"
#include "interp/slots_x86.h"

#define INSNS 16
#define FS_PREFIX 0x64
#define STATIC_TLS_MAX (1 << 20)   /* bytes below fs that static blocks can reach */
#define DTV_MAX 65536              /* modules */

static bool has_fs_prefix(const struct image *image, const struct code_insn *insn)
{
	uint8_t byte;

	return image_read(image, insn->addr, &byte, 1) == 1 && byte == FS_PREFIX;
}

static bool is_static(int64_t offset)
{
	return offset < 0 && offset >= -STATIC_TLS_MAX;
}

/* Displacement of the first load through a register after a call; 0 if there is none. */
static int64_t displacement_after(const struct code_insn *insns, ssize_t n, ssize_t call)
{
	for (ssize_t i = call + 1; i < n && i < call + 4; i++)
		if (insns[i].op == CODE_LOAD_REG)
			return (int64_t)insns[i].target;
	return 0;
}

static bool from_index(const struct python *python, raddr_t index, int64_t displacement, struct tls_ref *ret_ref)
{
	uint64_t module, offset;

	if (rmem_u64(python->mem, index, &module) < 0 || rmem_u64(python->mem, raddr_add(index, 8), &offset) < 0)
		return false;
	if (module == 0 || module >= DTV_MAX || offset > STATIC_TLS_MAX)
		return false;
	*ret_ref = (struct tls_ref){ .dynamic = true, .module = module, .offset = (int64_t)offset + displacement };
	return true;
}

/* {function, argument}: the argument is the offset from fs, or where {module, offset} stand. */
static bool from_descriptor(const struct python *python, raddr_t descriptor, struct tls_ref *ret_ref)
{
	uint64_t argument;

	if (rmem_u64(python->mem, raddr_add(descriptor, 8), &argument) < 0)
		return false;
	if (is_static((int64_t)argument)) {
		*ret_ref = (struct tls_ref){ .offset = (int64_t)argument };
		return true;
	}
	return from_index(python, RADDR(argument), 0, ret_ref);
}

static bool from_got(const struct python *python, const struct code_insn *insns, ssize_t n, ssize_t i, struct tls_ref *ret_ref)
{
	raddr_t got = RADDR(insns[i].target);
	uint64_t offset;

	if (i + 1 >= n)
		return false;
	if (insns[i].op == CODE_LEA_ABS) {
		if (insns[i + 1].op == CODE_CALL || insns[i + 1].op == CODE_CALL_SLOT)
			return from_index(python, got, displacement_after(insns, n, i + 1), ret_ref);
		return insns[i + 1].op == CODE_CALL_REG && from_descriptor(python, got, ret_ref);
	}
	if (insns[i].op != CODE_LOAD_ABS || insns[i].size != 8 || !has_fs_prefix(python->image, &insns[i + 1]))
		return false;
	if (rmem_u64(python->mem, got, &offset) < 0 || !is_static((int64_t)offset))
		return false;
	*ret_ref = (struct tls_ref){ .offset = (int64_t)offset };
	return true;
}

ssize_t tls_find(const struct python *python, const char *function, struct tls_ref *ret_refs, size_t max)
{
	struct code_insn insns[INSNS];
	ssize_t n;
	size_t found = 0;

	if (!python->image)
		return -ENOENT;
	n = code_decode_function(python->image, function, insns, INSNS);
	if (n < 0)
		return n;
	for (ssize_t i = 0; i < n && found < max && insns[i].op != CODE_RET; i++) {
		int64_t offset = (int64_t)insns[i].target;

		if (insns[i].op == CODE_LOAD_FS && is_static(offset))
			ret_refs[found++] = (struct tls_ref){ .offset = offset };
		else if (from_got(python, insns, n, i, &ret_refs[found]))
			found++;
	}
	return found ? (ssize_t)found : -ENOENT;
}

int tls_block(const struct python *python, uint64_t fs_base, uint64_t module, uint64_t *ret_block)
{
	uint64_t dtv, count, block;
	int r = rmem_u64(python->mem, RADDR(fs_base + 8), &dtv);

	/* dtv[-1].counter is its length */
	if (r == 0)
		r = rmem_u64(python->mem, RADDR(dtv - 16), &count);
	if (r < 0)
		return r;
	if (module > count || count > DTV_MAX)
		return -ENOENT;
	r = rmem_u64(python->mem, RADDR(dtv + 16 * module), &block);
	if (r < 0)
		return r;
	if (block == 0 || block == UINT64_MAX)
		return -ENOENT;
	*ret_block = block;
	return 0;
}
