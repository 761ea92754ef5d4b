/* SPDX-License-Identifier: MIT */
/* Options as in python(1): what takes an argument takes the rest of its word, or the next word. */
#include "target/program_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The last part of a path, without what slashes end it. *ret_len: its length. */
static const char *base_name(const char *path, size_t *ret_len)
{
	size_t end = strlen(path), start;

	while (end > 1 && path[end - 1] == '/')
		end--;
	for (start = end; start > 0 && path[start - 1] != '/'; start--)
		;
	*ret_len = end - start;
	return path + start;
}

/* "python", "python3.11", "python3-dbg", "/venv/bin/python3", "-python3" (a login shell, of all things) */
static bool is_interpreter(const char *argv0)
{
	size_t len;
	const char *base = base_name(argv0, &len);

	if (*base == '-')
		base++;
	return !strncmp(base, "python", 6);
}

/*
 * Looks at one option word. 1: it ends the options and *ret_name is the name (NULL: in the next word); 0: options go on, *ret_skip words
 * after it belong to it.
 */
static int look_at_option(const char *word, const char **ret_name, size_t *ret_skip)
{
	*ret_skip = 0;
	if (!strncmp(word, "--", 2)) {
		*ret_skip = !strcmp(word, "--check-hash-based-pycs");
		return 0;
	}
	for (const char *c = word + 1; *c; c++) {
		switch (*c) {
		case 'm':
			*ret_name = c[1] ? c + 1 : NULL;
			return 1;
		case 'c':
			*ret_name = "-c";
			return 1;
		case 'W':
		case 'X':
		case 'Q':
			*ret_skip = !c[1];
			return 0;
		default:
			break;
		}
	}
	return 0;
}

const char *program_file(const char *const *cmdline, size_t *ret_len)
{
	return cmdline && cmdline[0] && *cmdline[0] ? base_name(cmdline[0], ret_len) : NULL;
}

const char *program_script(const char *const *cmdline, size_t *ret_len)
{
	const char *name;
	size_t skip;

	if (!cmdline || !cmdline[0])
		return NULL;
	for (const char *const *word = cmdline + 1; *word; word++) {
		if (!**word || !strcmp(*word, "--") || !strcmp(*word, "-"))
			return NULL;
		if (**word != '-')
			return base_name(*word, ret_len);
		if (look_at_option(*word, &name, &skip)) {
			name = name ?: word[1];
			*ret_len = name ? strlen(name) : 0;
			return *ret_len ? name : NULL;
		}
		while (skip-- && word[1])
			word++;
	}
	return NULL;
}

int program_name(const char *const *cmdline, const char *comm, char **ret_name)
{
	const char *argv0 = cmdline ? cmdline[0] : NULL, *name = NULL;
	size_t len;

	if (argv0 && is_interpreter(argv0))
		name = program_script(cmdline, &len);
	/* "gunicorn: worker [/srv/app]": a title that the program gave itself is no path. */
	if (!name && argv0 && strchr(argv0, ' ')) {
		name = argv0;
		len = strlen(argv0);
	}
	if (!name)
		name = program_file(cmdline, &len);
	*ret_name = name ? strndup(name, len) : strdup(comm);
	return *ret_name ? 0 : -ENOMEM;
}
