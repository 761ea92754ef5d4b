/* SPDX-License-Identifier: MIT */
/* leaksnoop ps: every Python process of the host. */
#include <errno.h>
#include <string.h>

#include "base/term.h"
#include "cmd/describe.h"
#include "cmd/verb.h"
#include "interp/obmalloc.h"
#include "report/table.h"
#include "report/write.h"
#include "target/proc.h"

struct ps_opts {
	int format;
};

static const struct option_row rows[] = {
	OPTION(struct ps_opts, format, CHOICE, 'f', "format", NULL, "text", "how the list and errors are written", .choices = "text|json"),
	{ 0 }
};

static const struct column columns[] = {
	{ "pid", "PID", CELL_TEXT },
	{ "python", "PYTHON", CELL_TEXT },
	{ "build", "BUILD", CELL_TEXT },
	{ "allocator", "ALLOCATOR", CELL_TEXT },
	{ "rss_bytes", "RSS", CELL_SIZE },
	{ "pss_bytes", "PSS", CELL_SIZE },
	{ "arenas", "ARENAS", CELL_COUNT },
	{ "container", "CONTAINER", CELL_TEXT },
	{ "command", "COMMAND", CELL_REST },
	{ 0 }
};

static json_t *known_u64(int error, uint64_t value)
{
	return error ? json_null() : json_integer((json_int_t)value);
}

/* A row, or NULL when the process is no Python, or gone. */
static json_t *ps_row(pid_t pid)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct obmalloc_totals totals = { 0 };
	struct proc_memory memory = { 0 };
	struct slots slots;
	struct err err = { 0 };
	json_t *row, *command;
	int r, no_arenas, no_memory;

	r = python_open(pid, &python, &err);
	if (r == -ENOEXEC || r == -ESRCH || r == -EACCES || r == -EPERM)
		return NULL;
	command = describe_command(pid);
	if (!command)
		return NULL;
	no_memory = proc_memory_read(pid, &memory);
	no_arenas = r ? r : obmalloc_totals(python, &totals, NULL);
	row = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "pid", (int)pid,
			"python", json_text(r ? NULL : python_version(python)),
			"build", r ? json_null() : describe_build(python),
			"allocator", r || slots_read(python, &slots, NULL) ? json_null() : describe_allocator(&slots),
			"rss_bytes", known_u64(no_memory, memory.rss_bytes), "pss_bytes", known_u64(no_memory, memory.pss_bytes),
			"arenas", known_u64(no_arenas, totals.arenas), "container", describe_container(pid),
			"command", command, "error", json_text(r ? err.what : NULL));
	return row;
}

static int print(json_t *list, const struct ps_opts *opts)
{
	struct strbuf text = STRBUF_INIT;
	struct term term;
	json_t *row;
	size_t i;
	int r;

	if (opts->format)
		return write_json(list, true, stdout);
	term_inspect(STDOUT_FILENO, &term);
	table_append(&text, json_object_get(list, "processes"), columns, term.width);
	json_array_foreach(json_object_get(list, "processes"), i, row) {
		if (json_is_null(json_object_get(row, "error")))
			continue;
		strbuf_appendf(&text, "%lld: ", (long long)json_integer_value(json_object_get(row, "pid")));
		table_cell(&text, json_object_get(row, "error"), CELL_TEXT, 0);
		strbuf_append_c(&text, '\n');
	}
	r = write_strbuf(&text, stdout);
	strbuf_free(&text);
	return r;
}

static int run(const void *opts, int argc, char **argv, struct err *err)
{
	_cleanup_(freep) pid_t *pids = NULL;
	json_t *processes, *list;
	size_t count;
	int r;

	(void)argc;
	(void)argv;
	if (geteuid() != 0) {
		err_set(err, -EPERM, "no permission to look into other processes");
		err_hint(err, "run as root");
		return -EPERM;
	}
	r = proc_list(&pids, &count);
	if (r)
		return err_set(err, r, "cannot list processes: %s", strerror(-r));
	processes = json_array();
	for (size_t i = 0; i < count; i++) {
		json_t *row = ps_row(pids[i]);

		if (row)
			json_array_append_new(processes, row);
	}
	list = json_pack("{s:s, s:o}", "schema", "leaksnoop.ps/1", "processes", processes);
	r = print(list, opts);
	json_decref(list);
	return r ? err_set(err, r, "cannot write the list: %s", strerror(-r)) : EXIT_REPORT;
}

const struct verb verb_ps = {
	.name = "ps",
	.summary = "list every Python process: version, build, allocator, memory, container",
	.rows = rows,
	.opts_size = sizeof(struct ps_opts),
	.run = run,
};
