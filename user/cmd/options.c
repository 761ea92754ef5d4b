/* SPDX-License-Identifier: MIT */
/*
 * Rows to argp and back. argp is kept from speaking and from exiting: it
 * walks the command line, hands over keys, and lays out --help. What getopt
 * would say of a bad option is found out again by complain(), so that it can
 * name the nearest option and be printed as JSON.
 *
 * Keys: row i has KEY_ROW + i, and its short letter where it has one.
 */
#include "cmd/options.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/strbuf.h"
#include "cmd/nearest.h"
#include "cmd/verb.h"

#define KEY_ROW 0x1000
#define KEY_HELP 'h'
#define KEY_DUMP 0xfff
#define DOCS_MAX 64   /* options of one verb */

/* argp's view of a verb, and what parsing has found so far. */
struct parse {
	const struct verb *verb;
	struct argp_option options[DOCS_MAX + 3];
	char *docs[DOCS_MAX];
	char *text;              /* summary and details */
	struct argp argp;
	void *opts;
	struct options_found found;
	struct err *err;
	int error;               /* what the parser returned first */
};

static const char *const type_values[] = {
	[OPTION_END] = "",
#define X(id, name, value) [OPTION_##id] = (value),
	OPTION_TYPES(X)
#undef X
};

static const char *const type_names[] = {
	[OPTION_END] = "",
#define X(id, name, value) [OPTION_##id] = (name),
	OPTION_TYPES(X)
#undef X
};

static size_t rows_count(const struct verb *verb)
{
	size_t n = 0;

	while (verb->rows && verb->rows[n].name && n < DOCS_MAX)
		n++;
	return n;
}

static const char *row_value(const struct option_row *row)
{
	if (row->type == OPTION_FLAG)
		return NULL;
	return row->arg ? row->arg : row->choices ? row->choices : type_values[row->type];
}

static int row_doc(const struct option_row *row, char **ret_doc)
{
	struct strbuf buf = STRBUF_INIT;

	strbuf_append(&buf, row->help ? row->help : "");
	if (row->init && !row->quiet)
		strbuf_appendf(&buf, " (default %s)", row->init);
	if (row->type == OPTION_STRINGS)
		strbuf_append(&buf, "; may be repeated");
	return strbuf_take(&buf, ret_doc);
}

static error_t parse_key(int key, char *arg, struct argp_state *state);

/* Leaves out argp's remark that arguments of long options are those of short ones too. */
static char *help_filter(int key, const char *text, void *input)
{
	(void)input;
	return key == ARGP_KEY_HELP_DUP_ARGS_NOTE ? NULL : (char *)text;
}

static int parse_init(struct parse *p, const struct verb *verb)
{
	struct strbuf text = STRBUF_INIT;
	size_t n = rows_count(verb);
	int r;

	p->verb = verb;
	for (size_t i = 0; i < n; i++) {
		const struct option_row *row = &verb->rows[i];

		r = row_doc(row, &p->docs[i]);
		if (r < 0)
			return r;
		p->options[i] = (struct argp_option){
			.name = row->name, .key = row->key ? row->key : KEY_ROW + (int)i, .arg = row_value(row),
			.doc = p->docs[i], .flags = row->hidden ? OPTION_HIDDEN : 0,
		};
	}
	p->options[n] = (struct argp_option){ .name = "help", .key = KEY_HELP, .doc = "this text", .group = -1 };
	p->options[n + 1] = (struct argp_option){ .name = "dump-options", .key = KEY_DUMP, .flags = OPTION_HIDDEN };
	strbuf_append(&text, verb->summary);
	if (verb->details)
		strbuf_appendf(&text, "\v%s", verb->details);
	r = strbuf_take(&text, &p->text);
	p->argp = (struct argp){
		.options = p->options, .parser = parse_key, .args_doc = verb->args_doc, .doc = p->text, .help_filter = help_filter,
	};
	return r;
}

static void parse_done(struct parse *p)
{
	for (size_t i = 0; i < DOCS_MAX; i++)
		free(p->docs[i]);
	free(p->text);
	free(p->found.args);
}

/* Adds to err what is wrong with the long option word; false if nothing is. */
static bool complain_long(struct parse *p, const char *word)
{
	size_t len = strcspn(word, "="), matches = 0;
	_cleanup_(freep) char *name = strndup(word, len);
	struct nearest nearest = { .word = name ? name : "" };
	const struct argp_option *match = NULL;
	_cleanup_(strbuf_free) struct strbuf list = STRBUF_INIT;

	for (const struct argp_option *o = p->options; o->name; o++) {
		if (!(o->flags & OPTION_HIDDEN))
			nearest_try(&nearest, o->name);
		if (strncmp(o->name, nearest.word, len) != 0)
			continue;
		strbuf_appendf(&list, "%s--%s", matches++ ? ", " : "", o->name);
		match = o;
		if (strlen(o->name) == len) {
			matches = 1;
			break;
		}
	}
	if (!matches) {
		err_set(p->err, -EUSAGE, "%s: there is no option --%.60s", p->verb->name, nearest.word);
		if (nearest.best)
			err_hint(p->err, "did you mean --%s?", nearest.best);
	} else if (matches > 1) {
		err_set(p->err, -EUSAGE, "%s: --%.60s could be %s", p->verb->name, nearest.word, strbuf_str(&list));
	} else if (match->arg && !word[len]) {
		err_set(p->err, -EUSAGE, "%s: --%s needs a value (%s)", p->verb->name, match->name, match->arg);
	} else if (!match->arg && word[len]) {
		err_set(p->err, -EUSAGE, "%s: --%s takes no value", p->verb->name, match->name);
	} else {
		return false;
	}
	return true;
}

/* The same of a bundle of short options. */
static bool complain_short(struct parse *p, const char *word)
{
	for (; *word; word++) {
		const struct argp_option *o = p->options;

		while (o->name && o->key != *word)
			o++;
		if (!o->name) {
			err_set(p->err, -EUSAGE, "%s: there is no option -%.1s", p->verb->name, word);
			return true;
		}
		if (!o->arg)
			continue;
		if (!word[1])
			err_set(p->err, -EUSAGE, "%s: -%c needs a value (%s)", p->verb->name, *word, o->arg);
		return !word[1];
	}
	return false;
}

static bool complain_word(struct parse *p, const char *word)
{
	if (word[0] != '-' || !word[1])
		return false;
	return word[1] == '-' ? complain_long(p, word + 2) : complain_short(p, word + 1);
}

/* getopt stopped at an option and said nothing: it is the word before next, or, inside a bundle of short ones, next itself. */
static void complain(struct parse *p, const struct argp_state *state)
{
	int r = err_set(p->err, -EUSAGE, "%s: an option makes no sense", p->verb->name);

	if (!(state->next > 0 && state->next <= state->argc && complain_word(p, state->argv[state->next - 1])) &&
	    state->next < state->argc)
		complain_word(p, state->argv[state->next]);
	if (p->err && !p->err->hint[0])
		err_hint(p->err, "'leaksnoop %s --help' lists the options", p->verb->name);
	p->error = r;
}

static const struct option_row *row_of_key(const struct verb *verb, int key)
{
	size_t n = rows_count(verb);

	if (key >= KEY_ROW)
		return (size_t)(key - KEY_ROW) < n ? &verb->rows[key - KEY_ROW] : NULL;
	for (size_t i = 0; i < n; i++)
		if (verb->rows[i].key && verb->rows[i].key == key)
			return &verb->rows[i];
	return NULL;
}

static error_t stop(struct parse *p, int r)
{
	p->error = r;
	return ECANCELED;
}

static int add_arg(struct parse *p, char *arg)
{
	if (p->found.n_args >= p->verb->max_args) {
		err_set(p->err, -EUSAGE, "%s: '%.100s' is one argument too many", p->verb->name, arg);
		err_hint(p->err, "usage: leaksnoop %s [OPTION...] %s", p->verb->name, p->verb->args_doc ? p->verb->args_doc : "");
		return -EUSAGE;
	}
	p->found.args[p->found.n_args++] = arg;
	return 0;
}

static error_t parse_key(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;
	const struct option_row *row;
	int r = 0;

	if (key == ARGP_KEY_ERROR) {
		if (!p->error && !p->found.help && !p->found.dump)
			complain(p, state);
		return 0;
	}
	if (key == KEY_HELP || key == KEY_DUMP) {
		p->found.help = key == KEY_HELP;
		p->found.dump = key == KEY_DUMP;
		return ECANCELED;
	}
	if (key == ARGP_KEY_ARG) {
		r = add_arg(p, arg);
		while (!r && p->verb->command && state->next < state->argc)
			r = add_arg(p, state->argv[state->next++]);
		return r < 0 ? stop(p, r) : 0;
	}
	row = row_of_key(p->verb, key);
	if (!row)
		return ARGP_ERR_UNKNOWN;
	r = option_store(row, arg, p->opts, p->err);
	return r < 0 ? stop(p, r) : 0;
}

static int store_defaults(const struct verb *verb, void *opts, struct err *err)
{
	size_t n = rows_count(verb);
	int r = 0;

	if (verb->opts_size)
		memset(opts, 0, verb->opts_size);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (verb->rows[i].init)
			r = option_store(&verb->rows[i], verb->rows[i].init, opts, err);
	return r;
}

/* What argp cannot know: enough arguments. */
static int check_args(struct parse *p)
{
	if (p->found.n_args >= p->verb->min_args)
		return 0;
	err_set(p->err, -EUSAGE, "%s: %s is missing", p->verb->name, p->verb->args_doc ? p->verb->args_doc : "an argument");
	err_hint(p->err, "usage: leaksnoop %s [OPTION...] %s", p->verb->name, p->verb->args_doc ? p->verb->args_doc : "");
	return -EUSAGE;
}

int options_parse(const struct verb *verb, int argc, char **argv, void *opts, struct options_found *ret_found,
		  struct err *err)
{
	_cleanup_(parse_done) struct parse p = { .opts = opts, .err = err };
	int r = store_defaults(verb, opts, err);

	if (r >= 0)
		r = parse_init(&p, verb);
	if (r < 0)
		return r;
	p.found.args = calloc((size_t)argc + 1, sizeof(*p.found.args));
	if (!p.found.args)
		return -ENOMEM;
	r = argp_parse(&p.argp, argc, argv, ARGP_NO_EXIT | ARGP_NO_ERRS | ARGP_NO_HELP | (verb->command ? ARGP_IN_ORDER : 0), NULL, &p);
	if (p.error)
		return p.error;
	if (r && !p.found.help && !p.found.dump)
		return err_set(err, r == ENOMEM ? -ENOMEM : -EUSAGE, "%s: cannot read the options: %s", verb->name, strerror(r));
	r = p.found.help || p.found.dump ? 0 : check_args(&p);
	if (r < 0)
		return r;
	*ret_found = p.found;
	p.found.args = NULL;
	return 0;
}

void options_free(const struct verb *verb, void *opts)
{
	size_t n = rows_count(verb);

	for (size_t i = 0; opts && i < n; i++) {
		struct strings *field = (void *)((char *)opts + verb->rows[i].offset);

		if (verb->rows[i].type == OPTION_STRINGS) {
			free(field->v);
			*field = (struct strings){ 0 };
		}
	}
}

int options_help(const struct verb *verb, FILE *file)
{
	_cleanup_(parse_done) struct parse p = { 0 };
	char name[64];
	int r = parse_init(&p, verb);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "leaksnoop %s", verb->name);
	argp_help(&p.argp, file, ARGP_HELP_SHORT_USAGE | ARGP_HELP_PRE_DOC | ARGP_HELP_LONG | ARGP_HELP_POST_DOC, name);
	return fflush(file) == 0 && !ferror(file) ? 0 : -EIO;
}

int options_dump(const struct verb *verb, FILE *file)
{
	size_t n = rows_count(verb);

	for (size_t i = 0; i < n; i++) {
		const struct option_row *row = &verb->rows[i];
		const char *value = row_value(row), letter[2] = { row->key, '\0' };

		if (row->hidden)
			continue;
		fprintf(file, "%s\t%s\t%s\t%s\t%s\t", row->name, letter, type_names[row->type], value ? value : "",
			row->init ? row->init : "");
		if (row->choices)
			fprintf(file, "%s", row->choices);
		else if (row->min != 0 || row->max != 0)
			fprintf(file, "%.15g..%.15g", row->min, row->max);
		fprintf(file, "\t%s\n", row->help ? row->help : "");
	}
	return fflush(file) == 0 && !ferror(file) ? 0 : -EIO;
}

const char *options_format(const struct verb *verb, int argc, char **argv)
{
	const char *format = NULL;
	size_t n = rows_count(verb);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(verb->rows[i].name, "format"))
			format = "text";
	for (int i = 1; format && i < argc && strcmp(argv[i], "--") != 0; i++) {
		const char *value = NULL;

		if (!strncmp(argv[i], "--format=", 9))
			value = argv[i] + 9;
		else if (!strcmp(argv[i], "--format") && i + 1 < argc)
			value = argv[i + 1];
		if (value)
			format = strcmp(value, "json") ? "text" : "json";
	}
	return format;
}
