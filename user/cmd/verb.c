/* SPDX-License-Identifier: MIT */
/*
 * The table of verbs, and the one place where a verb's error is printed.
 *
 *     error: there is no verb 'atach'
 *     hint: did you mean 'attach'?
 */
#include "cmd/verb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/term.h"
#include "cmd/nearest.h"
#include "report/report.h"

static const struct verb *const table[] = {
	&verb_attach, &verb_run, &verb_watch, &verb_history, &verb_heap, &verb_arenas, &verb_memory, &verb_ps, &verb_doctor, NULL,
};

const struct verb *const *verbs(void)
{
	return table;
}

const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; table[i]; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

int verb_unknown(const char *name, struct err *err)
{
	struct nearest nearest = { .word = name };

	for (size_t i = 0; table[i]; i++)
		nearest_try(&nearest, table[i]->name);
	err_set(err, -EUSAGE, "there is no %s '%.60s'", name[0] == '-' ? "option" : "verb", name);
	if (nearest.best)
		err_hint(err, "did you mean '%s'?", nearest.best);
	else
		err_hint(err, "'leaksnoop help' lists what there is");
	return -EUSAGE;
}

void verbs_help(FILE *file)
{
	fprintf(file, "Usage: leaksnoop VERB [OPTION...] [ARGUMENT...]\n"
		      "Finds memory leaks in running CPython processes, without a restart.\n\n");
	for (size_t i = 0; table[i]; i++)
		fprintf(file, "  %-8s %-7.7s %s\n", table[i]->name, table[i]->args_doc ? table[i]->args_doc : "",
			table[i]->summary);
	fprintf(file, "\n'leaksnoop help VERB' tells more of one. 'leaksnoop --version' prints the version.\n"
		      "Exit status: 0 done, 1 error, 2 usage, 3 a leak was found and --fail-on-leak was given.\n");
}

/* Returns the exit status for an error, having said what it is. */
static int fail(const char *format, int code, struct err *err)
{
	struct term term;

	if (!err->what[0])
		err->code = code;
	term_inspect(STDERR_FILENO, &term);
	(void)report_error(format, err, term.colours, stderr);
	return code == -EUSAGE ? EXIT_USAGE : EXIT_ERROR;
}

int verb_main(const struct verb *verb, int argc, char **argv)
{
	_cleanup_(freep) void *opts = calloc(1, verb->opts_size ? verb->opts_size : 1);
	const char *format = options_format(verb, argc, argv);
	struct options_found found = { 0 };
	struct err err = { 0 };
	int r = -ENOMEM;

	if (opts)
		r = options_parse(verb, argc, argv, opts, &found, &err);
	if (r >= 0 && found.help)
		r = options_help(verb, stdout);
	else if (r >= 0 && found.dump)
		r = options_dump(verb, stdout);
	else if (r >= 0)
		r = verb->run(opts, found.n_args, found.args, &err);
	free(found.args);
	options_free(verb, opts);
	return r < 0 ? fail(format, r, &err) : r;
}
