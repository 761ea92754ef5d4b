/* SPDX-License-Identifier: MIT */
/* The threads that the holder of a freeze has. Private to freeze.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct hold;

/* Seizes and stops all threads of pid. The caller exits on an error, and the kernel lets go what was seized. */
int hold_begin(pid_t pid, struct hold **ret_hold, struct err *err);
/* Notes threads that were killed, so that their parent learns of it. Returns how many are left. */
uint32_t hold_reap(struct hold *hold);
/* false: there is a thread that was not there before, so that something has run. It is seized, too. */
bool hold_watch(struct hold *hold);
/* Lets all go that are stopped; the kernel does the rest when the caller exits. */
void hold_end(struct hold *hold);
