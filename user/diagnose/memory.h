/* SPDX-License-Identifier: MIT */
/* Balance sheets over time: how fast each part grows, and what is certain enough to advise. */
#pragma once

#include "base/cleanup.h"
#include "diagnose/model.h"
#include "heap/balance.h"

struct memory_series;

int memory_series_new(struct memory_series **ret_series);
void memory_series_free(struct memory_series *series);
DEFINE_CLEANUP(struct memory_series, memory_series_free)
/* Bytes that a series takes, however long. */
size_t memory_series_bytes(void);

/* t: seconds, later than those before. A series of years keeps some hundred sheets. */
void memory_series_add(struct memory_series *series, double t, const struct balance *balance);
size_t memory_series_count(const struct memory_series *series);
/* The last sheet and the one before; NULL: there is none. */
const struct balance *memory_series_last(const struct memory_series *series);
const struct balance *memory_series_before(const struct memory_series *series);
/*
 * Parts of the last sheet, and rates between the first and the last (where there are many: means of some at either end, so that one odd
 * sheet says little). The rates of the parts add up to that of RSS. NAN with one sheet.
 */
void memory_series_report(const struct memory_series *series, struct report_memory *ret_memory);
/* The part that grows fastest, if it grows by 1 % of RSS or 1 MiB in the time seen; -1: none. */
int memory_series_grows(const struct memory_series *series);

/* One sentence of advice where it is certain, else false and "". */
bool memory_advice(const struct balance *balance, pid_t pid, char *buf, size_t size);
