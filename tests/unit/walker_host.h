/* SPDX-License-Identifier: MIT */
/* The BPF walker's own source as plain C, over a struct rmem: live or recorded memory. */
#pragma once

#include "interp/rmem.h"

static struct rmem *walk_mem;   /* what WALK_READ reads */

static inline int walk_host_read(void *dst, size_t size, uint64_t addr)
{
	return rmem_read(walk_mem, RADDR(addr), dst, size);
}

#define WALK_READ(dst, size, addr) walk_host_read((dst), (size), (addr))
#define WALK_LOOP(n, step, ctx)                                 \
	({                                                      \
		long i_ = 0;                                    \
		while (i_ < (n) && !step((uint32_t)i_++, ctx))  \
			;                                       \
		i_;                                             \
	})

#include "../bpf/walker.h"
