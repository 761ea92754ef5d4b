/* SPDX-License-Identifier: MIT */
/*
 * Remote memory: all reads of a target's memory go through here. Untrusted
 * bytes: nothing read here may be used as a size, index or pointer before it
 * is bounded. A read succeeds whole or fails; torn values are the caller's
 * business (the target runs on).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/raddr.h"

struct rmem;

/* A live process, its memory as of now: after an exec there is nothing to read (-ESRCH). -ESRCH if gone; -EPERM. */
int rmem_open_pid(pid_t pid, struct rmem **ret_mem);
/* Recorded memory: regions given by a callback-free table, for tests and fuzzing. Data is not copied and must outlive the rmem. */
struct rmem_region {
	uint64_t start;
	const uint8_t *data;
	size_t size;
};
int rmem_open_regions(const struct rmem_region *regions, size_t count, struct rmem **ret_mem);
void rmem_free(struct rmem *mem);
DEFINE_CLEANUP(struct rmem, rmem_free)
/* Does it belong to one address space for good? Without (no descriptor was to be had) an exec, or another process with the PID, goes unnoticed. */
bool rmem_is_bound(const struct rmem *mem);

/* 0, -EFAULT (not mapped, or partly), -ESRCH (process gone), -EPERM. */
int rmem_read(struct rmem *mem, raddr_t addr, void *buf, size_t size);
int rmem_u8(struct rmem *mem, raddr_t addr, uint8_t *ret);
int rmem_u32(struct rmem *mem, raddr_t addr, uint32_t *ret);
int rmem_u64(struct rmem *mem, raddr_t addr, uint64_t *ret);
int rmem_ptr(struct rmem *mem, raddr_t addr, raddr_t *ret);
/* A NUL-terminated string of at most size - 1 bytes, cut if longer. */
int rmem_cstr(struct rmem *mem, raddr_t addr, char *buf, size_t size);
/* count pieces of size bytes each, one after another into buf: one system call for many pieces. Whole or fails, as rmem_read. */
int rmem_gather(struct rmem *mem, const raddr_t *addrs, size_t count, size_t size, void *buf);

/* The same, but a piece that is not mapped only leaves ok[i] false (and its bytes in buf without meaning). -ESRCH, -EPERM. */
int rmem_gather_each(struct rmem *mem, const raddr_t *addrs, size_t count, size_t size, void *buf, bool *ok);

/* Bytes that one takes here. */
size_t rmem_own_bytes(void);
/* Bytes and reads so far, for costs and tests. */
uint64_t rmem_bytes_read(const struct rmem *mem);
uint64_t rmem_reads(const struct rmem *mem);
