/* SPDX-License-Identifier: MIT */
/* Inside report/: what the writers share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
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
/* An object under construction: a failure (no memory) sticks, and is asked for once at the end. */
struct json_builder {
	bool failed;
};
/* Steal value; object, array and value may be NULL after a failure. */
void json_set(struct json_builder *b, json_t *object, const char *key, json_t *value);
void json_push(struct json_builder *b, json_t *array, json_t *value);
/* What is unknown, and what no JSON reader could hold, is null. */
json_t *json_number(uint64_t n);
json_t *json_finite(double x);
/* "memory" of the JSON contract; null for NULL. NULL: no memory. */
json_t *report_memory_json(const struct report_memory *memory);
