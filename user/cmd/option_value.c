/* SPDX-License-Identifier: MIT */
/*
 * Values of options: text to number, with bounds. Errors name the option, the
 * value and what would do:
 *
 *     error: --frames 1000: must be from 1 to 128
 *     error: --format xml: must be text or json
 */
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "cmd/options.h"

#define STRINGS_MAX 4096

struct unit {
	const char *suffix;
	double factor;
};

static const struct unit size_units[] = {
	{ "", 1 }, { "b", 1 }, { "k", 0x1p10 }, { "kb", 0x1p10 }, { "kib", 0x1p10 }, { "m", 0x1p20 }, { "mb", 0x1p20 },
	{ "mib", 0x1p20 }, { "g", 0x1p30 }, { "gb", 0x1p30 }, { "gib", 0x1p30 }, { NULL, 0 },
};

static const struct unit duration_units[] = {
	{ "", 1 }, { "ms", 1e-3 }, { "s", 1 }, { "m", 60 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 }, { NULL, 0 },
};

static const struct unit no_units[] = { { "", 1 }, { NULL, 0 } };

/* A plain decimal number (no hex, no nan, no blanks) and one of the units behind it. */
static int parse_number(const char *text, const struct unit *units, double *ret_value)
{
	const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
	size_t len = strspn(digits, "0123456789.");
	char *end;
	double value;

	if (!len || len > 40 || !strspn(digits + (*digits == '.'), "0123456789"))
		return -EINVAL;
	/* Stop strtod() from reading an exponent or hex digits as part of the number. */
	if (digits[len] && strchr("eExXpP", digits[len]))
		return -EINVAL;
	value = strtod(text, &end);
	if (end != digits + len || !isfinite(value))
		return -EINVAL;
	for (; units->suffix; units++) {
		if (!strcasecmp(end, units->suffix)) {
			*ret_value = value * units->factor;
			return 0;
		}
	}
	return -EINVAL;
}

static int refuse(const struct option_row *row, const char *value, struct err *err, const char *must)
{
	return err_set(err, -EUSAGE, "--%s %.100s: must be %s", row->name, value, must);
}

static int check_bounds(const struct option_row *row, const char *value, double number, struct err *err)
{
	char must[128], low[32], high[32];
	bool any = row->min == 0 && row->max == 0;

	if (any ? number >= 0 : number >= row->min && number <= row->max)
		return 0;
	snprintf(low, sizeof(low), "%.15g", row->min);
	snprintf(high, sizeof(high), "%.15g", row->max);
	if (any)
		snprintf(must, sizeof(must), "0 or more");
	else
		snprintf(must, sizeof(must), "from %s to %s%s", low, high,
			 row->type == OPTION_DURATION ? " seconds" : row->type == OPTION_SIZE ? " bytes" : "");
	return refuse(row, value, err, must);
}

static int store_number(const struct option_row *row, const char *value, void *field, struct err *err)
{
	static const struct {
		const struct unit *units;
		const char *must;
		double max;
		bool whole;
	} kinds[OPTION_TYPE_COUNT] = {
		[OPTION_INT] = { no_units, "a whole number", INT_MAX, true },
		[OPTION_DOUBLE] = { no_units, "a number", HUGE_VAL, false },
		[OPTION_SIZE] = { size_units, "a size, as 4096, 64k, 16m or 2g", 0x1p53, true },
		[OPTION_DURATION] = { duration_units, "a time, as 30, 1.5s, 200ms, 5m, 2h or 1d", 1e9, false },
	};
	double number;
	int r;

	if (parse_number(value, kinds[row->type].units, &number) < 0 || fabs(number) > kinds[row->type].max ||
	    (kinds[row->type].whole && number != floor(number)))
		return refuse(row, value, err, kinds[row->type].must);
	r = check_bounds(row, value, number, err);
	if (r < 0)
		return r;
	if (row->type == OPTION_INT)
		*(int *)field = (int)number;
	else if (row->type == OPTION_SIZE)
		*(uint64_t *)field = (uint64_t)number;
	else
		*(double *)field = number;
	return 0;
}

const char *option_choice(const struct option_row *row, int i, size_t *ret_len)
{
	const char *word = row->choices ? row->choices : "";

	for (; i > 0 && *word; i--) {
		word += strcspn(word, "|");
		word += *word == '|';
	}
	*ret_len = i < 0 ? 0 : strcspn(word, "|");
	return i < 0 ? "" : word;
}

static int store_choice(const struct option_row *row, const char *value, int *field, struct err *err)
{
	_cleanup_(strbuf_free) struct strbuf must = STRBUF_INIT;
	const char *word;
	size_t len;

	for (int i = 0; word = option_choice(row, i, &len), len; i++) {
		if (strlen(value) == len && !memcmp(value, word, len)) {
			*field = i;
			return 0;
		}
		strbuf_append(&must, i ? (word[len] ? ", " : " or ") : "");
		strbuf_append_n(&must, word, len);
	}
	return refuse(row, value, err, strbuf_str(&must));
}

static int store_string(const struct option_row *row, const char *value, struct strings *field, struct err *err)
{
	const char **v;

	if (field->n >= STRINGS_MAX)
		return err_set(err, -EUSAGE, "--%s: given more than %d times", row->name, STRINGS_MAX);
	v = reallocarray(field->v, field->n + 2, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	field->v = v;
	field->v[field->n++] = value;
	field->v[field->n] = NULL;
	return 0;
}

int option_store(const struct option_row *row, const char *value, void *opts, struct err *err)
{
	void *field = (char *)opts + row->offset;

	switch (row->type) {
	case OPTION_FLAG:
		*(bool *)field = true;
		return 0;
	case OPTION_INT:
	case OPTION_DOUBLE:
	case OPTION_SIZE:
	case OPTION_DURATION:
		return store_number(row, value, field, err);
	case OPTION_STRING:
		*(const char **)field = value;
		return 0;
	case OPTION_CHOICE:
		return store_choice(row, value, field, err);
	case OPTION_STRINGS:
		return store_string(row, value, field, err);
	case OPTION_END:
	case OPTION_TYPE_COUNT:
		break;
	}
	return err_set(err, -EINVAL, "--%s: no such type of option", row->name);
}

int option_pid(const char *text, pid_t *ret_pid, struct err *err)
{
	size_t len = strspn(text, "0123456789");
	long pid = len && len <= 7 && !text[len] ? strtol(text, NULL, 10) : 0;

	if (pid < 1 || pid > 4194304) {
		err_set(err, -EUSAGE, "%.100s: not a PID", text);
		err_hint(err, "'leaksnoop ps' lists the Python processes");
		return -EUSAGE;
	}
	*ret_pid = (pid_t)pid;
	return 0;
}
