/* SPDX-License-Identifier: MIT */
/* Inside report/: what the writers share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

struct report_memory;

/* Writes the buffer and flushes; a sticky error of the buffer is returned instead. */
int write_strbuf(const struct strbuf *buf, FILE *file);
/* One JSON value and a newline, ASCII only (escapes keep hostile text from a terminal); indented if pretty. */
int write_json(const json_t *value, bool pretty, FILE *file);
/* A string that jansson accepts: NULL gives null, invalid UTF-8 becomes U+FFFD, absurd lengths are cut with "…". NULL: no memory. */
json_t *json_text(const char *s);
/* "memory" of the JSON contract; null for NULL. NULL: no memory. */
json_t *report_memory_json(const struct report_memory *memory);
