/* SPDX-License-Identifier: MIT */
/* Which pages of a process are in memory, for who asks in ascending order: a window of the pagemap moves along. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RESIDENCY_PAGE 4096ull
#define RESIDENCY_WINDOW 4096u   /* pages */

struct residency {
	int fd;                  /* pagemap_open(), not owned; -1: all of it is in memory (recorded memory) */
	uint64_t start;          /* address of the window; 0: none yet */
	uint64_t bits[RESIDENCY_WINDOW / 64];
};

void residency_init(struct residency *residency, int fd);
/* 1, 0 or a negative errno. */
int residency_at(struct residency *residency, uint64_t addr);
/* Bytes of [start, end) in memory; bounds need not be pages. */
int residency_bytes(struct residency *residency, uint64_t start, uint64_t end, uint64_t *ret_bytes);
/* The end of the run of pages that begins with addr's and is of one kind; at most limit. *ret_resident: which kind. */
int residency_run(struct residency *residency, uint64_t addr, uint64_t limit, bool *ret_resident, uint64_t *ret_end);
/* Forgets the window: what is asked next is read anew. */
void residency_forget(struct residency *residency);
