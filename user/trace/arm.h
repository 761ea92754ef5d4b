/* SPDX-License-Identifier: MIT */
/*
 * Arming: the only code that writes into a target. It writes allocator-table
 * slots and the reference tracer's slot, nothing else, each after its old value
 * was verified, and only a function's alias in place of the function, or the
 * function in place of its alias; in the reference tracer's slot an alias in
 * place of nothing, and nothing in place of it.
 *
 * An alias differs from its function in the low bytes only (it lies at most
 * eight bytes before it). Just the bytes that differ are written: one byte
 * nearly always, so that no thread can read half of an address. The reference
 * tracer's slot is empty at rest: there all eight are written at once.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/raddr.h"
#include "interp/slots.h"

struct arming;

/* Opens the process's memory for writing. */
int arming_new(pid_t pid, struct arming **ret_arming, struct err *err);
/* Never disarms by itself: the caller decides, since the process may be one that must be left alone. */
void arming_free(struct arming *arming);
DEFINE_CLEANUP(struct arming, arming_free)

/* Notes a slot, that of fn in the PyMemAllocatorEx at table, to be armed with alias. Order of noting is the order of arming;
 * disarming is the reverse. */
int arming_add(struct arming *arming, raddr_t table, enum alloc_function fn, raddr_t function, raddr_t alias);

/* Notes a slot that is null at rest (the reference tracer's). What somebody puts there before it is armed stays there. */
int arming_add_empty(struct arming *arming, raddr_t slot, raddr_t alias);

/* Arms every noted slot. -ESTALE if one holds neither its function nor its alias any more: those armed so far are restored. */
int arming_arm(struct arming *arming, struct err *err);
/* Restores every slot that holds its alias; leaves what somebody else put there, but follows hooks that were laid over a slot
 * meanwhile and saved the alias (tracemalloc, debug hooks). 0, or -ESRCH when the process is gone (nothing to restore). */
int arming_disarm(struct arming *arming);
/* For another process that is to disarm (trace/watchdog.h): as bytes, and the descriptor of the target's memory, which stays arming's. Returns the
 * bytes. */
#define ARMING_PACKED_MAX 1024
size_t arming_pack(const struct arming *arming, void *buf, size_t size, int *ret_fd);
/* Takes fd over, also on failure. */
int arming_unpack(const void *buf, size_t size, int fd, struct arming **ret_arming);
bool arming_is_empty(const struct arming *arming);   /* nothing was noted */
bool arming_is_armed(const struct arming *arming);
/* Allocator slots whose value is not their alias now: taken over by the target. */
size_t arming_count_lost(struct arming *arming);
/* A slot noted by arming_add_empty() that does not hold its alias now. */
bool arming_empty_lost(const struct arming *arming);

/* Restores the slots of a forked child, which copied them armed: same addresses, other process. */
int arming_disarm_child(const struct arming *arming, pid_t child);

/* Restores slots that a killed tracer left armed. Returns how many were, or a negative errno. */
int arming_restore_left(pid_t pid, const struct slots *slots, struct err *err);
