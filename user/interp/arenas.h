/* SPDX-License-Identifier: MIT */
/* The address ranges of pymalloc's arenas, as a sorted copy: is an address in pymalloc at all? */
#pragma once

#include "interp/python.h"

struct arenas;

int arenas_new(const struct python *python, struct arenas **ret_arenas);
void arenas_free(struct arenas *arenas);
DEFINE_CLEANUP(struct arenas, arenas_free)

/* Reads them anew. 0, also when the process does not use pymalloc (then there are none); on an error the old copy stays. */
int arenas_refresh(struct arenas *arenas);
bool arenas_hold(struct arenas *arenas, raddr_t addr);
size_t arenas_count(const struct arenas *arenas);
