/* SPDX-License-Identifier: MIT */
#include "cmd/describe.h"

#include <inttypes.h>

#include "base/strbuf.h"
#include "report/write.h"
#include "target/proc.h"

json_t *describe_command(pid_t pid)
{
	struct strbuf text = STRBUF_INIT;
	struct proc_stat stat;
	char **argv = NULL;
	json_t *value;

	if (!proc_cmdline_read(pid, &argv))
		for (char **arg = argv; *arg; arg++)
			strbuf_appendf(&text, "%s%s", arg == argv ? "" : " ", *arg);
	if (!text.len && !proc_stat_read(pid, &stat))
		strbuf_appendf(&text, "[%s]", stat.comm);
	value = text.len ? json_text(strbuf_str(&text)) : NULL;
	strbuf_free(&text);
	strv_free(argv);
	return value;
}

json_t *describe_container(pid_t pid)
{
	_cleanup_(freep) char *name = NULL;

	proc_container(pid, &name);
	return json_text(name);
}

json_t *describe_build(const struct python *python)
{
	return json_sprintf("%s%s", python_is_optimised(python) ? "PGO" : "plain", python_is_debug(python) ? " debug" : "");
}

json_t *describe_allocator(const struct slots *slots)
{
	return json_text(slots->text);
}

json_t *describe_addr(raddr_t addr)
{
	return addr.v ? json_sprintf("0x%" PRIx64, addr.v) : json_null();
}

json_t *describe_target(pid_t pid, const struct python *python)
{
	json_t *cmdline = json_array();
	char **argv = NULL;

	if (!proc_cmdline_read(pid, &argv))
		for (char **arg = argv; *arg; arg++)
			json_array_append_new(cmdline, json_text(*arg));
	strv_free(argv);
	return json_pack("{s:i, s:o, s:o, s:o}", "pid", (int)pid, "python", json_text(python ? python_version(python) : NULL),
			 "cmdline", cmdline, "container", describe_container(pid));
}
