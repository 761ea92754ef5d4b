/* SPDX-License-Identifier: MIT */
/* Inside report/: what the writers share. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

/* Writes the buffer and flushes; a sticky error of the buffer is returned instead. */
int write_strbuf(const struct strbuf *buf, FILE *file);
/* One JSON value and a newline, ASCII only (escapes keep hostile text from a terminal); indented if pretty. */
int write_json(const json_t *value, bool pretty, FILE *file);
/* A string that jansson accepts: NULL gives null, invalid UTF-8 becomes U+FFFD, absurd lengths are cut with "…". NULL: no memory. */
json_t *json_text(const char *s);
