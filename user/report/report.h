/* SPDX-License-Identifier: MIT */
/* One model in, many writers out: a new output is one new file and one row in report.c. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "diagnose/model.h"

struct report_style {
	bool colours;     /* text: ANSI colours */
	unsigned width;   /* text: columns of the terminal; 0: none, cut only what is absurd */
	bool pretty;      /* JSON: indented; else one object on one line */
};

struct report_writer {
	const char *name;      /* what --format says */
	const char *summary;
	/* 0, -ENOMEM, or the errno of the stream. Writes one report, ending in a newline, and flushes. */
	int (*write)(const struct report *report, const struct report_style *style, FILE *file);
};

/* NULL if there is no such format. */
const struct report_writer *report_writer_find(const char *format);
/* All of them, NULL-terminated. */
const struct report_writer *const *report_writers(void);

int report_write(const struct report_writer *writer, const struct report *report, const struct report_style *style,
		 FILE *file);

/* leaksnoop.report/1. NULL: out of memory. */
json_t *report_to_json(const struct report *report);

/* An error (or usage error) the way format asks for: "json" gives {"schema": "leaksnoop.error/1", ...} on one line, anything else,
 * NULL too, the two lines "error: ..." and "hint: ...". What names come from outside are escaped. */
int report_error(const char *format, const struct err *err, bool colours, FILE *file);

extern const struct report_writer report_json, report_text;
