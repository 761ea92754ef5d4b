/* SPDX-License-Identifier: MIT */
/* argv -> verb -> run. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/term.h"
#include "base/version.h"
#include "cmd/verb.h"
#include "report/report.h"

static int unknown(const char *name)
{
	struct err err = { 0 };
	struct term term;

	verb_unknown(name, &err);
	term_inspect(STDERR_FILENO, &term);
	(void)report_error(NULL, &err, term.colours, stderr);
	return EXIT_USAGE;
}

static int help(const char *name)
{
	const struct verb *verb = name ? verb_find(name) : NULL;

	if (name && !verb)
		return unknown(name);
	if (verb)
		return options_help(verb, stdout) < 0 ? EXIT_ERROR : EXIT_REPORT;
	verbs_help(stdout);
	return EXIT_REPORT;
}

static bool is(const char *word, const char *a, const char *b)
{
	return !strcmp(word, a) || !strcmp(word, b);
}

int main(int argc, char **argv)
{
	const struct verb *verb;

	if (argc < 2) {
		verbs_help(stderr);
		return EXIT_USAGE;
	}
	if (is(argv[1], "--version", "-V")) {
		printf("leaksnoop %s\n", LEAKSNOOP_VERSION);
		return EXIT_REPORT;
	}
	if (is(argv[1], "help", "--help") || is(argv[1], "-h", "-?"))
		return help(argc > 2 ? argv[2] : NULL);
	verb = verb_find(argv[1]);
	return verb ? verb_main(verb, argc - 1, argv + 1) : unknown(argv[1]);
}
