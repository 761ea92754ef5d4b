/* SPDX-License-Identifier: MIT */
/*
 * A string that grows. Errors stick: appending after one does nothing, and
 * strbuf_take() (or strbuf_error()) reports it once, at the end, so that a
 * writer needs one check instead of fifty. Start with STRBUF_INIT.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

#define STRBUF_MAX ((size_t)1 << 30)  /* bytes; longer is -E2BIG */

struct strbuf {
	char *s;       /* NULL while empty; else ends in NUL */
	size_t len;    /* without the NUL */
	size_t size;   /* allocated */
	int error;     /* 0, -ENOMEM, -E2BIG, -EINVAL (a format that cannot be printed) */
};

#define STRBUF_INIT ((struct strbuf){ 0 })

void strbuf_append(struct strbuf *buf, const char *s);
void strbuf_append_n(struct strbuf *buf, const char *s, size_t n);
void strbuf_append_c(struct strbuf *buf, char c);
void strbuf_appendf(struct strbuf *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vappendf(struct strbuf *buf, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Appends n copies of c. */
void strbuf_pad(struct strbuf *buf, char c, size_t n);
/* Cuts to len bytes; longer than it is does nothing. */
void strbuf_truncate(struct strbuf *buf, size_t len);

/* What is there so far; never NULL. Good until the next change. */
const char *strbuf_str(const struct strbuf *buf);
int strbuf_error(const struct strbuf *buf);
/* Hands the string over (free() it) and empties the buffer. On an error nothing is handed over and the buffer is emptied too. */
int strbuf_take(struct strbuf *buf, char **ret_s);
/* Works as _cleanup_(strbuf_free) on the buffer itself. */
void strbuf_free(struct strbuf *buf);
