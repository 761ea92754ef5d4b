/* SPDX-License-Identifier: MIT */
/* The balance sheet for people and for programs: one JSON value in, two writers out. */
#pragma once

#include <jansson.h>
#include <stdio.h>
#include <time.h>

#include "diagnose/memory.h"
#include "report/report.h"

struct memory_report {
	json_t *target;                        /* of the JSON contract; borrowed */
	struct timespec time;
	double seconds;                        /* from the first sheet to this one */
	const struct memory_series *series;    /* at least one sheet */
	const char *advice;                    /* NULL: none */
};

/* leaksnoop.memory/1. NULL: out of memory. */
json_t *memory_report_json(const struct memory_report *report);
/* 0, -ENOMEM, or the errno of the stream. Write one report, ending in a newline, and flush. */
int memory_write_json(const struct memory_report *report, const struct report_style *style, FILE *file);
int memory_write_text(const struct memory_report *report, const struct report_style *style, FILE *file);
