/* SPDX-License-Identifier: MIT */
/* What the writers share: streams that may fail, and strings that may be anything. */
#include "report/write.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"

#define TEXT_MAX 16384  /* bytes of one string in JSON */

static int stream_error(void)
{
	return errno > 0 ? -errno : -EIO;
}

int write_strbuf(const struct strbuf *buf, FILE *file)
{
	if (strbuf_error(buf))
		return strbuf_error(buf);
	errno = 0;
	if (fwrite(strbuf_str(buf), 1, buf->len, file) != buf->len || fflush(file) != 0)
		return stream_error();
	return 0;
}

int write_json(const json_t *value, bool pretty, FILE *file)
{
	size_t flags = JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12) | (pretty ? JSON_INDENT(2) : 0);
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(freep) char *text = json_dumps(value, flags);

	if (!text)
		return -ENOMEM;
	strbuf_append(&buf, text);
	strbuf_append_c(&buf, '\n');
	return write_strbuf(&buf, file);
}

json_t *json_text(const char *s)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	size_t len;

	if (!s)
		return json_null();
	len = strnlen(s, TEXT_MAX + 1);
	if (len > TEXT_MAX) {
		/* Back to the edge of a character. */
		for (len = TEXT_MAX; len > TEXT_MAX - 4 && (s[len] & 0xc0) == 0x80; len--)
			;
		utf8_append_valid(&buf, s, len);
		strbuf_append(&buf, "…");
	} else {
		utf8_append_valid(&buf, s, len);
	}
	return strbuf_error(&buf) ? NULL : json_string(strbuf_str(&buf));
}

void json_set(struct json_builder *b, json_t *object, const char *key, json_t *value)
{
	if (json_object_set_new(object, key, value) < 0)
		b->failed = true;
}

void json_push(struct json_builder *b, json_t *array, json_t *value)
{
	if (json_array_append_new(array, value) < 0)
		b->failed = true;
}

json_t *json_number(uint64_t n)
{
	return n > INT64_MAX ? json_null() : json_integer((json_int_t)n);
}

json_t *json_finite(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}
