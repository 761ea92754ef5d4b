/* SPDX-License-Identifier: MIT */
/* What libc_arenas.c and libc_main.c share. */
#pragma once

#include "heap/libc_arenas.h"

#define LIBC_STATE_MAX 2200u

/* Offsets in struct malloc_state, bytes. */
struct libc_state_layout {
	uint32_t fast;     /* fastbinsY[10]; 0: none */
	uint32_t top, bins, next, system, size;
};

/* libc_main.c: the regions of the main arena and what malloc counts of itself; data: libc's, size bytes at start. */
int libc_main_find(const struct libc_view *view, struct libc_arenas *arenas, const struct libc_state_layout *l, uint64_t state,
		   const uint8_t *data, size_t size, uint64_t start);
/* The end of the region that ends with the main arena's top. */
int libc_main_refresh(const struct libc_view *view, const struct libc_state_layout *l, struct libc_region *region);
int libc_arenas_add(struct libc_arenas *arenas, const struct libc_region *region);
/* Is it glibc's file? *ret_minor: of 2.minor where the name says so, else 0. */
bool libc_file_is(const char *path, int *ret_minor);
