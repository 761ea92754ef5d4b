/* SPDX-License-Identifier: MIT */
/*
 * Typed option rows. One row is all there is to say of an option: parsing,
 * storage, bounds, default, --help, the dump for completion and the tests all
 * come from it. glibc's argp does the walking.
 *
 *     struct attach_opts { double duration; int frames; int format; struct strings include; };
 *     static const struct option_row attach_rows[] = {
 *             OPTION(struct attach_opts, duration, DURATION, 0, "duration", "S", "30s", "how long to trace"),
 *             OPTION(struct attach_opts, frames, INT, 0, "frames", "N", "25", "frames of a stack", .min = 1, .max = 128),
 *             OPTION(struct attach_opts, format, CHOICE, 0, "format", NULL, "text", "text or JSON", .choices = "text|json"),
 *             OPTION(struct attach_opts, include, STRINGS, 0, "include", "GLOB", NULL, "only files that match"),
 *             { 0 }
 *     };
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"

/* Beyond every errno: the command line makes no sense; exit status 2. */
#define EUSAGE 4096

/* X(id, name in dumps, what help calls a value) */
#define OPTION_TYPES(X)                 \
	X(FLAG, "flag", "")             \
	X(INT, "int", "N")              \
	X(DOUBLE, "double", "X")        \
	X(SIZE, "size", "SIZE")         \
	X(DURATION, "duration", "TIME") \
	X(STRING, "string", "TEXT")     \
	X(CHOICE, "choice", "WORD")     \
	X(STRINGS, "strings", "TEXT")

/* An option given several times. v points into argv and ends in NULL (v is NULL if it was not given); the array is freed by
 * options_free(). */
struct strings {
	const char **v;
	size_t n;
};

enum option_type {
	OPTION_END,
#define X(id, name, value) OPTION_##id,
	OPTION_TYPES(X)
#undef X
	OPTION_TYPE_COUNT
};

/* How each type is stored. */
#define OPTION_STORED_FLAG bool
#define OPTION_STORED_INT int
#define OPTION_STORED_DOUBLE double
#define OPTION_STORED_SIZE uint64_t        /* bytes: 4096, 64k, 16m, 2g (powers of 1024) */
#define OPTION_STORED_DURATION double      /* seconds: 30, 1.5s, 200ms, 5m, 2h, 1d */
#define OPTION_STORED_STRING const char *  /* points into argv, or at the default */
#define OPTION_STORED_CHOICE int           /* index into choices */
#define OPTION_STORED_STRINGS struct strings

struct option_row {
	const char *name;        /* long name; NULL ends the table */
	char key;                /* short option, or 0 */
	enum option_type type;
	size_t offset;           /* where in the opts struct */
	const char *arg;         /* what help calls the value; NULL: the choices, or the type's own word */
	const char *init;        /* default, written as a user would; NULL: all zero bytes. Parsed like a value, shown in help */
	const char *help;
	double min, max;         /* inclusive, of numbers, sizes and durations; both 0: not negative, else any */
	const char *choices;     /* "text|json" */
	bool hidden;             /* not in --help */
	bool quiet;              /* the default is not shown in --help: its text says it */
};

/* Names a field and checks at compile time that its type is the one the kind stores. */
#define OPTION(opts, field, kind, short_name, long_name, value, dflt, text, ...)            \
	{                                                                                   \
		.name = (long_name), .key = (short_name), .type = OPTION_##kind,            \
		.offset = offsetof(opts, field) + 0 * sizeof(_Generic(&((opts *)0)->field, OPTION_STORED_##kind * : 1)), \
		.arg = (value), .init = (dflt), .help = (text), __VA_ARGS__                 \
	}

struct verb;

/* What parsing found besides the options themselves. */
struct options_found {
	bool help, dump;    /* --help, --dump-options: nothing else was checked */
	char **args;        /* other arguments, pointing into argv; owned: free() the array */
	int n_args;
};

/* opts: verb->opts_size bytes, filled with the defaults first. -EUSAGE with err filled, -ENOMEM. Prints nothing. */
int options_parse(const struct verb *verb, int argc, char **argv, void *opts, struct options_found *ret_found,
		  struct err *err);
void options_free(const struct verb *verb, void *opts);
/* --help. 0 or a negative errno of the stream. */
int options_help(const struct verb *verb, FILE *file);
/* One row a line, tab-separated: long name, short, type, value, default, bounds or choices, help. For completion and tests. */
int options_dump(const struct verb *verb, FILE *file);
/* What --format says on a command line that may be broken otherwise: "json", "text", or NULL if the verb has no --format. */
const char *options_format(const struct verb *verb, int argc, char **argv);

/* The word of the i-th choice, by value of a CHOICE; "" if there is none. Not NUL-terminated: *ret_len bytes. */
const char *option_choice(const struct option_row *row, int i, size_t *ret_len);
/* One value into *opts. -EUSAGE with err filled. */
int option_store(const struct option_row *row, const char *value, void *opts, struct err *err);

/* A PID argument: digits, 1 to 4194304. -EUSAGE with err filled. */
int option_pid(const char *text, pid_t *ret_pid, struct err *err);
