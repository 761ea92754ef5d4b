/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What runs in the kernel. One object, so that the sources of events share maps
 * and thread state; one file a source:
 *
 *   probes.h     the programs behind all uprobes; they hand on to
 *   alloc.h      the allocator functions: malloc, calloc, realloc, free of raw, mem and obj
 *   objects.h    objects created and destroyed (3.13+)
 *   pools.h      pymalloc's fresh pools and arenas
 *   mappings.h   mmap, munmap, mremap, brk, first touches of pages
 *   tasks.h      fork, exec, exit
 *
 * over nursery.h (short-lived blocks), emit.h (records, stacks, code objects),
 * walker.h (Python frames), count.h (what was seen and lost), maps.h.
 */
#include "../vmlinux/vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define LEAKSNOOP_TYPES
#define WALK_READ(dst, size, addr) bpf_probe_read_user((dst), (size), (const void *)(addr))
#define WALK_LOOP(n, step, ctx) bpf_loop((n), (step), (ctx), 0)

#include "arch_x86.h"
#include "mappings.h"
#include "probes.h"
#include "tasks.h"

char LICENSE[] SEC("license") = "GPL";
