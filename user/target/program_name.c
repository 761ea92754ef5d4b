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

/* A script or module among an interpreter's arguments; NULL: there is none. */
static const char *find_script(const char *const *cmdline, bool *ret_is_path)
{
	const char *name;
	size_t skip;

	*ret_is_path = false;
	for (const char *const *word = cmdline + 1; *word; word++) {
		if (!strcmp(*word, "--") || !strcmp(*word, "-"))
			return NULL;
		if (**word != '-') {
			*ret_is_path = true;
			return *word;
		}
		if (look_at_option(*word, &name, &skip))
			return name ? name : word[1];
		while (skip-- && word[1])
			word++;
	}
	return NULL;
}

int program_name(const char *const *cmdline, const char *comm, char **ret_name)
{
	const char *argv0 = cmdline ? cmdline[0] : NULL, *name = NULL;
	bool is_path = true;
	size_t len;

	if (argv0 && is_interpreter(argv0))
		name = find_script(cmdline, &is_path);
	if (!name || !*name) {
		name = argv0 && *argv0 ? argv0 : comm;
		/* "gunicorn: worker [/srv/app]": a title that the program gave itself is no path. */
		is_path = name == argv0 && !strchr(name, ' ');
	}
	if (is_path)
		name = base_name(name, &len);
	else
		len = strlen(name);
	*ret_name = strndup(name, len);
	return *ret_name ? 0 : -ENOMEM;
}
