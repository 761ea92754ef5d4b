/* SPDX-License-Identifier: MIT */
/* Growing strings. Invariant: s == NULL and len == size == 0, or len < size and s[len] == 0. */
#include "base/strbuf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for more bytes and the NUL. False if an error stands, or does now. */
static bool strbuf_reserve(struct strbuf *buf, size_t more)
{
	size_t size = buf->size ? buf->size : 64;
	char *s;

	if (buf->error)
		return false;
	if (more >= STRBUF_MAX - buf->len) {
		buf->error = -E2BIG;
		return false;
	}
	while (size <= buf->len + more)
		size *= 2;
	if (size == buf->size)
		return true;
	s = realloc(buf->s, size);
	if (!s) {
		buf->error = -ENOMEM;
		return false;
	}
	if (!buf->s)
		s[0] = '\0';
	buf->s = s;
	buf->size = size;
	return true;
}

void strbuf_append_n(struct strbuf *buf, const char *s, size_t n)
{
	if (!n || !strbuf_reserve(buf, n))
		return;
	memcpy(buf->s + buf->len, s, n);
	buf->len += n;
	buf->s[buf->len] = '\0';
}

void strbuf_append(struct strbuf *buf, const char *s)
{
	strbuf_append_n(buf, s, strlen(s));
}

void strbuf_append_c(struct strbuf *buf, char c)
{
	strbuf_append_n(buf, &c, 1);
}

void strbuf_pad(struct strbuf *buf, char c, size_t n)
{
	if (!n || !strbuf_reserve(buf, n))
		return;
	memset(buf->s + buf->len, c, n);
	buf->len += n;
	buf->s[buf->len] = '\0';
}

void strbuf_vappendf(struct strbuf *buf, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0) {
		if (!buf->error)
			buf->error = -EINVAL;
		return;
	}
	if (!n || !strbuf_reserve(buf, (size_t)n))
		return;
	vsnprintf(buf->s + buf->len, (size_t)n + 1, fmt, ap);
	buf->len += (size_t)n;
}

void strbuf_appendf(struct strbuf *buf, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vappendf(buf, fmt, ap);
	va_end(ap);
}

void strbuf_truncate(struct strbuf *buf, size_t len)
{
	if (len >= buf->len)
		return;
	buf->len = len;
	buf->s[len] = '\0';
}

const char *strbuf_str(const struct strbuf *buf)
{
	return buf->s ? buf->s : "";
}

int strbuf_error(const struct strbuf *buf)
{
	return buf->error;
}

int strbuf_take(struct strbuf *buf, char **ret_s)
{
	int error;

	if (!buf->s)
		(void)strbuf_reserve(buf, 0);
	error = buf->error;
	if (!error)
		*ret_s = take_ptr(buf->s);
	strbuf_free(buf);
	return error;
}

void strbuf_free(struct strbuf *buf)
{
	if (!buf)
		return;
	free(buf->s);
	*buf = STRBUF_INIT;
}
