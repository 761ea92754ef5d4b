/* SPDX-License-Identifier: MIT */
/*
 * Sampled mode, from 3.13: the key table of a dict whose creation was seen is charged to the dict's line. Such tables go through a free list
 * that no hook sees, so that who allocated one says little of who has it now (track/owners.h does the same for exact mode).
 */
#pragma once

#include "interp/blocks.h"
#include "track/survivors.h"

/*
 * Asks all surviving dicts for their key tables, and has survivors tell of the tables of table_size bytes (dict_keys_free_list_size())
 * with what is known of the dicts, until the next call. A table of several dicts is nobody's. 0, -ESRCH, -EPERM, -ENOMEM.
 */
int key_tables_charge(struct survivors *survivors, struct types *types, struct blocks *blocks, uint64_t table_size);
