/* SPDX-License-Identifier: MIT */
/* Command lines: NUL-separated words for each verb in turn. What is accepted keeps its bounds; what is refused says why. */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/attach.h"
#include "cmd/options.h"
#include "cmd/verb.h"

#define WORDS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_attach(const struct attach_opts *o)
{
	if (o->frames < 1 || o->top < 0 || !(o->duration >= 0) || !(o->interval >= 0) || !(o->min_age >= 0) || isinf(o->duration) ||
	    o->ring_size < 65536 || o->ring_size > 1u << 30)
		abort();
	if (o->include.n && (!o->include.v || o->include.v[o->include.n]))
		abort();
}

static void parse(const struct verb *verb, int argc, char **argv)
{
	struct options_found found = { 0 };
	struct err err = { 0 };
	void *opts = calloc(1, verb->opts_size + 1);
	const char *format = options_format(verb, argc, argv);
	pid_t pid;
	int r;

	if (format && strcmp(format, "json") && strcmp(format, "text"))
		abort();
	r = options_parse(verb, argc, argv, opts, &found, &err);
	if (r && (r != -EUSAGE || !err.what[0]))
		abort();
	if (!r && !found.help && !found.dump && verb == &verb_attach)
		check_attach(opts);
	for (int i = 0; !r && i < found.n_args; i++)
		if (option_pid(found.args[i], &pid, &err) == 0 && pid < 1)
			abort();
	if (!r)
		free(found.args);
	options_free(verb, opts);
	free(opts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct verb *const verbs[] = { &verb_attach, &verb_arenas, &verb_ps, &verb_doctor };
	char *text = malloc(size + 1), *argv[WORDS_MAX + 1];
	int argc = 0;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (size_t v = 0; v < sizeof(verbs) / sizeof(verbs[0]); v++) {
		argc = 0;
		argv[argc++] = (char *)(uintptr_t)verbs[v]->name;
		for (char *word = text; word < text + size && argc < WORDS_MAX; word += strlen(word) + 1)
			argv[argc++] = word;
		argv[argc] = NULL;
		parse(verbs[v], argc, argv);
	}
	free(text);
	return 0;
}
