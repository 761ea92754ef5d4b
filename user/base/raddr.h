/* SPDX-License-Identifier: MIT */
/* An address in a target's address space: a type of its own, so that it cannot be dereferenced by mistake. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint64_t v;
} raddr_t;

#define RADDR(x) ((raddr_t){ (uint64_t)(x) })
#define RADDR_NULL ((raddr_t){ 0 })

static inline raddr_t raddr_add(raddr_t a, int64_t offset)
{
	return (raddr_t){ a.v + (uint64_t)offset };
}

static inline bool raddr_eq(raddr_t a, raddr_t b)
{
	return a.v == b.v;
}
