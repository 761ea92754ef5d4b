/* SPDX-License-Identifier: MIT */
/*
 * Errors, for people:
 *
 *     error: cannot attach to 4242: Python 3.16 is not known
 *     hint: this build knows 3.8 to 3.15; 'leaksnoop doctor 4242' tells more
 *
 * and for programs, on one line:
 *
 *     {"schema": "leaksnoop.error/1", "error": "cannot attach to 4242: ...", "hint": "this build knows ..."}
 */
#include <errno.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"
#include "report/write.h"

static int error_json(const char *what, const char *hint, FILE *file)
{
	_cleanup_(json_decrefp) json_t *object = json_object();

	if (!object || json_object_set_new(object, "schema", json_string("leaksnoop.error/1")) ||
	    json_object_set_new(object, "error", json_text(what)) || json_object_set_new(object, "hint", json_text(hint)))
		return -ENOMEM;
	return write_json(object, false, file);
}

static void error_line(struct strbuf *buf, const char *label, const char *colour, const char *text)
{
	strbuf_appendf(buf, "%s%s:%s ", colour ? colour : "", label, colour ? "\033[0m" : "");
	fmt_escape(buf, text, 0);
	strbuf_append_c(buf, '\n');
}

int report_error(const char *format, const struct err *err, bool colours, FILE *file)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	const char *what = err->what[0] ? err->what : strerror(err->code < 0 ? -err->code : EIO);

	if (format && !strcmp(format, "json"))
		return error_json(what, err->hint[0] ? err->hint : NULL, file);
	error_line(&buf, "error", colours ? "\033[1;31m" : NULL, what);
	if (err->hint[0])
		error_line(&buf, "hint", colours ? "\033[1m" : NULL, err->hint);
	return write_strbuf(&buf, file);
}
