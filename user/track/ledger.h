/* SPDX-License-Identifier: MIT */
/*
 * The ledger: every live allocation that outlived the kernel's nursery, by
 * target and address. Blocks still in the nursery are not in it; who wants all
 * live blocks visits both (ledger_visit(), then session_nursery()).
 *
 * Equation: blocks in = alloc records - free records that found their block.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../bpf/event.h"
#include "base/cleanup.h"

struct block {
	uint64_t size;      /* bytes requested */
	uint32_t stack;     /* index into struct stacks */
	uint32_t flags;     /* EVENT_F_OBJECT, EVENT_F_DICT */
	uint64_t time_ns;   /* CLOCK_MONOTONIC, of the allocation; of an object, of its creation */
};

struct ledger;

int ledger_new(struct ledger **ret_ledger);
void ledger_free(struct ledger *ledger);
DEFINE_CLEANUP(struct ledger, ledger_free)

/* -EBADMSG: no address or target that can be; -ENOMEM. */
int ledger_on_alloc(struct ledger *ledger, const struct event_alloc *e, uint32_t stack);
int ledger_on_free(struct ledger *ledger, const struct event_block *e);
/* The block that a FREE with EVENT_F_REALLOC took away is still there. */
int ledger_on_realloc_failed(struct ledger *ledger, const struct event_block *e);

typedef void (*ledger_block_fn)(void *ctx, uint32_t target, uint64_t addr, const struct block *block);
void ledger_visit(const struct ledger *ledger, ledger_block_fn fn, void *ctx);

uint64_t ledger_count(const struct ledger *ledger);
uint64_t ledger_unknown_frees(const struct ledger *ledger);  /* of blocks older than the trace, mostly */
uint64_t ledger_replaced(const struct ledger *ledger);       /* addresses allocated twice without a free between: frees not seen */
size_t ledger_bytes(const struct ledger *ledger);            /* memory held */
