/* SPDX-License-Identifier: MIT */
/*
 * What became of the processes of a command, in its last line:
 *
 *     leaksnoop: 25 Python processes: 2 reported (1 of them a leak), 23 ended too early to say anything
 *     leaksnoop: no Python among the 3 programs that ran
 *
 * or, for machines:
 *
 *     {"schema": "leaksnoop.run/1", "exit_status": 0, "signal": null, "programs": 3, "pythons": 2, "reported": 2, "leaks": 1, ...}
 */
#include <errno.h>
#include <jansson.h>
#include <sys/wait.h>

#include "base/fmt.h"
#include "base/strbuf.h"
#include "cmd/run.h"
#include "report/write.h"

static int summary_json(const struct run *run, int status)
{
	struct json_builder b = { 0 };
	json_t *object = json_object();
	int r;

	json_set(&b, object, "schema", json_text("leaksnoop.run/1"));
	json_set(&b, object, "exit_status", WIFEXITED(status) ? json_integer(WEXITSTATUS(status)) : json_null());
	json_set(&b, object, "signal", WIFSIGNALED(status) ? json_integer(WTERMSIG(status)) : json_null());
	json_set(&b, object, "programs", json_number(run->programs));
	json_set(&b, object, "pythons", json_number(run->pythons));
	json_set(&b, object, "reported", json_number(run->reports));
	json_set(&b, object, "leaks", json_number(run->leaks));
	json_set(&b, object, "quiet", json_number(run->quiet + run->early));
	json_set(&b, object, "crowded", json_number(run->crowded));
	json_set(&b, object, "untraced", json_number(run->untraced));
	json_set(&b, object, "why_untraced", json_text(run->untraced ? run->why_untraced : NULL));
	r = b.failed ? -ENOMEM : write_json(object, false, run->output.file);
	json_decref(object);
	return r;
}

int run_summary(struct run *run, int status)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	uint64_t quiet = run->quiet + run->early;

	if (run->error)
		return run->error;
	if (run->opts->format)
		return summary_json(run, status);
	if (!run->pythons) {
		strbuf_appendf(&buf, "leaksnoop: no Python among the %s program%s that ran", fmt_count(run->programs).s, run->programs == 1 ? "" : "s");
	} else {
		strbuf_appendf(&buf, "leaksnoop: %s Python process%s: %s reported", fmt_count(run->pythons).s, run->pythons == 1 ? "" : "es",
			       fmt_count(run->reports).s);
		if (run->leaks)
			strbuf_appendf(&buf, " (%s of them a leak)", fmt_count(run->leaks).s);
	}
	if (quiet)
		strbuf_appendf(&buf, ", %s ended too early to say anything", fmt_count(quiet).s);
	if (run->crowded)
		strbuf_appendf(&buf, ", %s not traced, for %d were already", fmt_count(run->crowded).s, RUN_TARGETS_MAX);
	if (run->untraced) {
		strbuf_appendf(&buf, ", %s could not be traced (", fmt_count(run->untraced).s);
		fmt_escape(&buf, run->why_untraced, 300);
		strbuf_append(&buf, ")");
	}
	strbuf_append(&buf, "\n");
	return write_strbuf(&buf, run->output.file);
}
