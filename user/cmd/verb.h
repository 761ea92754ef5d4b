/* SPDX-License-Identifier: MIT */
/* A verb is a row: its name, its options, what it does. A new one is one file in cmd/ and one row in verb.c. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"
#include "cmd/options.h"

/* Exit statuses; they are part of the interface. */
enum {
	EXIT_REPORT = 0,   /* did what was asked */
	EXIT_ERROR = 1,
	EXIT_USAGE = 2,
	EXIT_LEAK = 3,     /* report made, its verdict is a leak, and --fail-on-leak was given */
};

struct verb {
	const char *name;
	const char *args_doc;    /* "PID", "[PID]", NULL: takes no arguments */
	const char *summary;     /* one line, no full stop */
	const char *details;     /* printed below the options of --help: examples; NULL */
	const struct option_row *rows;  /* ends in an all-zero row; NULL: no options but --help */
	size_t opts_size;        /* of the struct the rows store into */
	int min_args, max_args;  /* arguments that are no options */
	bool command;            /* the arguments are a command: what follows its first word is the command's, whatever it looks like */
	/* opts: as the rows filled it; argv: the argc other arguments. Returns an exit status, or a negative errno (or -EUSAGE) with
	 * err filled, which main() prints once, in the format of --format. Both outlive the call. */
	int (*run)(const void *opts, int argc, char **argv, struct err *err);
};

extern const struct verb verb_attach, verb_run, verb_watch, verb_history, verb_heap, verb_arenas, verb_memory, verb_ps, verb_doctor;

/* All verbs, in the order of help, NULL-terminated. */
const struct verb *const *verbs(void);
const struct verb *verb_find(const char *name);
/* -EUSAGE, with the nearest verb as the hint. */
int verb_unknown(const char *name, struct err *err);
void verbs_help(FILE *file);
/* Parses what stands behind the verb (argv[0] is the verb itself), runs it, prints its error. Returns the exit status. */
int verb_main(const struct verb *verb, int argc, char **argv);
