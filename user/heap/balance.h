/* SPDX-License-Identifier: MIT */
/*
 * The balance sheet of a process: which part of its memory (RSS) is whose. The parts add up to RSS, bytes in memory each; what is in swap,
 * or was never touched, is in none of them:
 *
 *   pymalloc-live  blocks of up to 512 bytes in use, whole pools of them in arenas
 *   pymalloc-free  the rest of the arenas: free blocks, free pools, headers, rounding
 *   python-large   larger blocks of Python's in libc's heaps: objects, key tables, arrays of lists and sets, as far as their contents
 *                  tell (heap/python_large.h says what it cannot tell: that counts as libc-live)
 *   libc-live      what else malloc() has handed out, from heaps and in mappings of its own
 *   libc-free      what malloc() keeps and nobody uses: bins, caches of threads, the ends of heaps
 *   mmap           mapped by the program or its libraries themselves, private or shared: anonymous memory that no allocator known here
 *                  claims, /dev/shm, memfd; also the interpreter's own small mappings (the frames of threads)
 *   file           files: programs and libraries with their data (also what they changed of it, and bss), mapped data, the vdso
 *   stack          stacks of all threads
 *   other          what nothing above explains: memory of heaps whose chunks made no sense, of [heap] that is not malloc's, and what
 *                  malloc says it has mapped and was not found
 *
 * Where the process does not run on glibc's malloc has_libc is false, the libc parts and python-large are 0, and what another allocator
 * mapped counts as mmap. Nothing is stopped: parts are of different moments, some milliseconds apart, and are fitted to what the kernel
 * counts for each mapping.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "heap/libc_heap.h"
#include "interp/python.h"

#define MEMORY_PARTS(X) X(pymalloc_live, "pymalloc-live") X(pymalloc_free, "pymalloc-free") X(python_large, "python-large") \
	X(libc_live, "libc-live") X(libc_free, "libc-free") X(mmap, "mmap") X(file, "file") X(stack, "stack") X(other, "other")
enum memory_part {
#define X(id, name) MEMORY_##id,
	MEMORY_PARTS(X)
#undef X
	MEMORY_PART_COUNT
};

struct balance {
	uint64_t rss, pss, swap;            /* bytes; rss is the sum of part */
	uint64_t part[MEMORY_PART_COUNT];
	bool has_libc, has_pymalloc;
	struct libc_heap_info libc;         /* zeros without has_libc */
	uint64_t large_blocks;              /* that were recognised as Python's */
	uint64_t arenas, arena_bytes;       /* pymalloc's */
	uint64_t stacks;
	double seconds;                     /* that reading took */
};

struct balancer;

/* python must outlive it. -ENOMEM. */
int balancer_new(const struct python *python, struct balancer **ret_balancer);
void balancer_free(struct balancer *balancer);
DEFINE_CLEANUP(struct balancer, balancer_free)

/* -ESRCH, -EPERM, -ENOMEM. */
int balancer_read(struct balancer *balancer, struct balance *ret_balance, struct err *err);

/* 1 - other / rss; NAN without memory. */
double balance_explained(const struct balance *balance);
/* "pymalloc-live" */
const char *memory_part_name(enum memory_part part);
