/* SPDX-License-Identifier: MIT */
/* Metrics of processes with hostile names and any numbers: each line is a comment or one whole sample, and no sample is there twice. */
#include <ctype.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "report/metrics.h"

#define PROCESSES 3
#define LINES_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const uint8_t *data;
	size_t size;
};

static void take(struct source *s, void *to, size_t n)
{
	size_t have = s->size < n ? s->size : n;

	memset(to, 0, n);
	if (have)
		memcpy(to, s->data, have);
	s->data += have;
	s->size -= have;
}

/* Ends where the data says, and is text to no more than that. */
static void take_text(struct source *s, char *to, size_t size)
{
	uint8_t len;

	take(s, &len, 1);
	take(s, to, len < size ? len : size - 1);
	to[len < size ? len : size - 1] = '\0';
}

static const char *skip_name(const char *c, const char *end)
{
	while (c < end && (islower((unsigned char)*c) || *c == '_'))
		c++;
	return c;
}

/* {name="value",...} */
static const char *skip_labels(const char *c, const char *end)
{
	do {
		const char *name = ++c;

		c = skip_name(c, end);
		if (c == name || end - c < 2 || c[0] != '=' || c[1] != '"')
			abort();
		for (c += 2; c < end && *c != '"'; c++) {
			if ((unsigned char)*c < 0x20)
				abort();
			if (*c == '\\' && c[1] != '\\' && c[1] != '"')
				abort();
			c += *c == '\\';
		}
		c++;
	} while (c < end && *c == ',');
	if (c >= end || *c != '}')
		abort();
	return c + 1;
}

/* Returns where the value begins. */
static const char *check_sample(const char *line, const char *end)
{
	const char *c = skip_name(line, end);
	char *rest;
	double x;

	if (strncmp(line, "leaksnoop_", 10))
		abort();
	if (c < end && *c == '{')
		c = skip_labels(c, end);
	if (c >= end || *c != ' ')
		abort();
	x = strtod(c + 1, &rest);
	if (rest != end || !isfinite(x))
		abort();
	return c;
}

static void check(const struct strbuf *buf)
{
	static const char *starts[LINES_MAX];
	static size_t lens[LINES_MAX];
	size_t n = 0;

	for (size_t i = 0, len; i < buf->len; i += len) {
		uint32_t c;

		len = utf8_decode(buf->s + i, buf->len - i, &c);
		if (c == UTF8_INVALID)
			abort();
	}
	for (const char *line = buf->s, *end; *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			abort();
		if (*line == '#')
			continue;
		if (n == LINES_MAX)
			abort();
		starts[n] = line;
		lens[n] = (size_t)(check_sample(line, end) - line);
		for (size_t i = 0; i < n; i++)
			if (lens[i] == lens[n] && !memcmp(starts[i], line, lens[n]))
				abort();
		n++;
	}
}

static void take_process(struct source *s, struct watched *w, char argv[3][64], const char **cmdline)
{
	uint8_t kinds[WATCHED_FINDINGS + 3];

	/* Numbers of any size; flags and kinds are made valid after that. */
	take(s, &w->id, sizeof(w->id));
	take(s, &w->memory, offsetof(struct report_memory, has_parts));
	take(s, &w->arenas, offsetof(struct watched, sampled_now) - offsetof(struct watched, arenas));
	take(s, &w->confidence, sizeof(w->confidence));
	take(s, kinds, sizeof(kinds));
	w->id.pid &= 3;
	w->memory.has_parts = kinds[0] & 1;
	w->has_verdict = kinds[0] & 2;
	w->alert = kinds[0] & 4;
	w->end = kinds[0] & 8 ? PROCESS_EXITED : PROCESS_RUNS;
	w->verdict = (enum verdict_kind)(kinds[1] % (VERDICT_unknown + 1));
	w->n_findings = kinds[2] % (WATCHED_FINDINGS + 1);
	take_text(s, w->comm, sizeof(w->comm));
	take_text(s, w->python, sizeof(w->python));
	for (int i = 0; i < 3; i++) {
		take_text(s, argv[i], sizeof(argv[i]));
		cmdline[i] = argv[i];
	}
	w->cmdline = kinds[0] & 16 ? NULL : cmdline;
	w->container = kinds[0] & 32 ? argv[1] : NULL;
	for (size_t i = 0; i < w->n_findings; i++) {
		struct watched_finding *f = &w->findings[i];

		f->kind = (enum finding_kind)(kinds[3 + i] % (FINDING_fragmentation + 1));
		take(s, &f->line, sizeof(f->line));
		take(s, &f->bytes_per_second, sizeof(f->bytes_per_second));
		take_text(s, f->file, sizeof(f->file));
		take_text(s, f->function, sizeof(f->function));
	}
}

static int compare_pid(const void *a, const void *b)
{
	return (*(const struct watched *const *)a)->id.pid - (*(const struct watched *const *)b)->id.pid;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct watched processes[PROCESSES];
	static char argv[PROCESSES][3][64];
	const char *cmdlines[PROCESSES][4] = { 0 };
	const struct watched *pointers[PROCESSES];
	struct watch_view view = { .processes = pointers, .n = PROCESSES };
	struct source s = { data, size };
	struct strbuf buf = STRBUF_INIT;

	memset(processes, 0, sizeof(processes));
	take(&s, &view.self, offsetof(struct watch_self, history_ok));
	for (size_t i = 0; i < PROCESSES; i++) {
		take_process(&s, &processes[i], argv[i], cmdlines[i]);
		pointers[i] = &processes[i];
	}
	qsort(pointers, PROCESSES, sizeof(pointers[0]), compare_pid);
	metrics_append(&buf, &view);
	if (strbuf_error(&buf))
		abort();
	check(&buf);
	strbuf_free(&buf);
	return 0;
}
