/* SPDX-License-Identifier: MIT */
/*
 * The reader of snapshot files. They may come from anywhere: each line, number, name and sum is bounded, the whole is inflated in pieces and
 * never held, and nothing is believed before gzip's checksum was right.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/strbuf.h"
#include "heap/snapshot_impl.h"

#define NO_SNAPSHOT "it is no snapshot of a heap"
#define PIECE 65536u
#define GZIP_ONLY (15 + 16)   /* inflateInit2: the largest window, a gzip header, no other */

struct loader {
	const char *name;            /* of the file */
	struct err *err;
	struct snapshot *snapshot;
	size_t types_size;           /* allocated in census->types */
	uint64_t line, rows;         /* lines seen, types and non-objects among them */
	size_t text_bytes;
	bool has_head, ended;
	struct strbuf rest;          /* a line that has not ended yet */
};

static int refuse(struct loader *l, int code, const char *why)
{
	if (code == -ENOMEM)
		return err_set(l->err, code, "cannot load %s: out of memory", l->name);
	err_set(l->err, code, "cannot load %s: %s", l->name, why);
	if (code == -ENOTSUP)
		err_hint(l->err, "load it with a newer leaksnoop");
	else if (!l->has_head && code == -EBADMSG)
		err_hint(l->err, "'leaksnoop heap PID --save FILE' writes a snapshot");
	else
		err_hint(l->err, "copy it again from where it was made, or take a new one");
	return code;
}

static int refuse_line(struct loader *l, const char *why)
{
	char text[160];

	if (!l->has_head)
		return refuse(l, -EBADMSG, NO_SNAPSHOT);
	snprintf(text, sizeof(text), "it is damaged: line %llu: %s", (unsigned long long)l->line, why);
	return refuse(l, -EBADMSG, text);
}

static bool get_number(const json_t *object, const char *key, uint64_t *ret_value)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0 || (uint64_t)json_integer_value(value) > SNAPSHOT_NUMBER_MAX)
		return false;
	*ret_value = (uint64_t)json_integer_value(value);
	return true;
}

/* null, or nothing at all, is NULL. */
static int get_text(const json_t *object, const char *key, char **ret_text)
{
	const json_t *value = json_object_get(object, key);

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value) || json_string_length(value) > SNAPSHOT_NAME_MAX * 3)
		return -EBADMSG;
	*ret_text = strdup(json_string_value(value));
	return *ret_text ? 0 : -ENOMEM;
}

static int get_cmdline(const json_t *target, char ***ret_argv)
{
	const json_t *array = json_object_get(target, "cmdline"), *item;
	size_t i;

	if (!array || json_is_null(array))
		return 0;
	if (!json_is_array(array))
		return -EBADMSG;
	*ret_argv = calloc(json_array_size(array) + 1, sizeof(**ret_argv));
	if (!*ret_argv)
		return -ENOMEM;
	json_array_foreach(array, i, item) {
		(*ret_argv)[i] = strdup(json_is_string(item) ? json_string_value(item) : "");
		if (!(*ret_argv)[i])
			return -ENOMEM;
	}
	return 0;
}

static bool get_time(const json_t *head, struct timespec *ret_wall)
{
	const char *text = json_string_value(json_object_get(head, "time"));
	struct tm tm = { 0 };
	int year, month, day, hour, minute, second, ms, n = 0;

	if (!text || sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second, &ms, &n) != 7 || text[n])
		return false;
	if (n < 20 || year < 1970 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
	    second < 0 || second > 60 || ms < 0)
		return false;
	tm = (struct tm){ .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute, .tm_sec = second };
	*ret_wall = (struct timespec){ .tv_sec = timegm(&tm), .tv_nsec = ms * 1000000l };
	return true;
}

/* The version behind the schema's slash, or -1 if it is another schema. */
static long schema_version(const json_t *head)
{
	const char *schema = json_string_value(json_object_get(head, "schema")), *digits;

	if (!schema || strncmp(schema, SNAPSHOT_SCHEMA, strlen(SNAPSHOT_SCHEMA)) != 0)
		return -1;
	digits = schema + strlen(SNAPSHOT_SCHEMA);
	if (!*digits || strlen(digits) > 9 || digits[strspn(digits, "0123456789")])
		return -1;
	return strtol(digits, NULL, 10);
}

static int take_target(struct snapshot *s, const json_t *target)
{
	uint64_t pid;
	int r;

	if (!json_is_object(target) || !get_number(target, "pid", &pid) || pid > INT32_MAX || !get_number(target, "start_ticks", &s->start_ticks))
		return -EBADMSG;
	s->pid = (pid_t)pid;
	r = get_text(target, "python", &s->python);
	if (!r)
		r = get_text(target, "container", &s->container);
	if (!r)
		r = get_text(target, "host", &s->host);
	if (!r)
		r = get_text(target, "boot_id", &s->boot_id);
	return r ? r : get_cmdline(target, &s->cmdline);
}

static int take_head(struct loader *l, const json_t *head)
{
	struct snapshot *s = l->snapshot;
	struct census *c = s->census;
	const json_t *totals = json_object_get(head, "totals");
	long version = schema_version(head);
	char why[80];
	int r;

	if (version < 1)
		return refuse_line(l, "");
	if (version > SNAPSHOT_VERSION) {
		snprintf(why, sizeof(why), "it is a snapshot of version %ld, and this leaksnoop knows %d", version, SNAPSHOT_VERSION);
		return refuse(l, -ENOTSUP, why);
	}
	l->has_head = true;
	if (!get_time(head, &s->wall) || !get_number(totals, "block_bytes", &c->block_bytes) || !get_number(totals, "retries", &c->retries) ||
	    !get_number(totals, "refused", &c->refused) || !get_number(totals, "read_bytes", &c->read_bytes))
		return refuse(l, -EBADMSG, "it is damaged: its head lacks a field");
	c->small_only = json_is_true(json_object_get(totals, "small_only"));
	c->seconds = json_number_value(json_object_get(totals, "seconds"));
	if (!isfinite(c->seconds) || c->seconds < 0)
		return refuse(l, -EBADMSG, "it is damaged: its head makes no sense");
	r = take_target(s, json_object_get(head, "target"));
	return r ? refuse(l, r, "it is damaged: its target makes no sense") : 0;
}

static bool get_counts(const json_t *line, struct census_row *row)
{
	return get_number(line, "count", &row->count) && get_number(line, "bytes", &row->bytes);
}

static int take_type(struct loader *l, const json_t *line)
{
	struct census *c = l->snapshot->census;
	struct census_row row = { 0 };
	int r;

	if (!get_counts(line, &row) || !get_number(line, "owned_bytes", &row.owned_bytes))
		return refuse_line(l, "a number is missing or out of bounds");
	if (c->n_types >= SNAPSHOT_TYPES_MAX)
		return refuse(l, -EFBIG, "it has more types than a snapshot can have");
	if (c->n_types == l->types_size) {
		size_t size = l->types_size ? l->types_size * 2 : 256;
		struct census_row *types = reallocarray(c->types, size, sizeof(*types));

		if (!types)
			return refuse(l, -ENOMEM, "");
		c->types = types;
		l->types_size = size;
	}
	if (__builtin_add_overflow(c->objects, row.count, &c->objects) || __builtin_add_overflow(c->bytes, row.bytes, &c->bytes) ||
	    c->objects > SNAPSHOT_NUMBER_MAX || c->bytes > SNAPSHOT_NUMBER_MAX)
		return refuse_line(l, "the sums are absurd");
	r = get_text(line, "type", &row.name);
	if (r || !row.name)
		return r == -ENOMEM ? refuse(l, r, "") : refuse_line(l, "its name makes no sense");
	c->types[c->n_types++] = row;
	return 0;
}

/* Kinds that only later versions of this format know are unknown to this one. */
static int take_non_object(struct loader *l, const json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "non_object"));
	struct census_row row = { 0 }, *sum = &l->snapshot->census->non_objects[CENSUS_UNKNOWN];

	if (!name || !get_counts(line, &row))
		return refuse_line(l, "a number is missing or out of bounds");
	for (int k = 0; k < CENSUS_NON_OBJECT_COUNT; k++)
		if (!strcmp(name, census_non_object_name((enum census_non_object)k)))
			sum = &l->snapshot->census->non_objects[k];
	if (sum->count + row.count > SNAPSHOT_NUMBER_MAX || sum->bytes + row.bytes > SNAPSHOT_NUMBER_MAX)
		return refuse_line(l, "the sums are absurd");
	sum->count += row.count;
	sum->bytes += row.bytes;
	return 0;
}

static int take_end(struct loader *l, const json_t *line)
{
	uint64_t rows;

	if (!get_number(line, "end", &rows) || rows != l->rows)
		return refuse_line(l, "lines are missing");
	l->ended = true;
	return 0;
}

static int take_line(struct loader *l, const char *text, size_t len)
{
	_cleanup_(json_decrefp) json_t *line = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);

	l->line++;
	if (l->ended)
		return refuse_line(l, "something comes after the end");
	if (!json_is_object(line))
		return refuse_line(l, "it is no JSON object");
	if (l->line == 1)
		return take_head(l, line);
	if (json_object_get(line, "end"))
		return take_end(l, line);
	l->rows++;
	return json_object_get(line, "type") ? take_type(l, line) : take_non_object(l, line);
}

/* Cuts what was inflated into lines. */
static int take_text(struct loader *l, const char *text, size_t len)
{
	const char *newline;
	int r = 0;

	l->text_bytes += len;
	if (l->text_bytes > SNAPSHOT_TEXT_MAX)
		return refuse(l, -EFBIG, "it unpacks to more than a snapshot can hold");
	while (!r && len && (newline = memchr(text, '\n', len))) {
		size_t n = (size_t)(newline - text);

		if (l->rest.len) {
			strbuf_append_n(&l->rest, text, n);
			r = strbuf_error(&l->rest) ? refuse(l, -ENOMEM, "") : take_line(l, strbuf_str(&l->rest), l->rest.len);
			strbuf_truncate(&l->rest, 0);
		} else {
			r = take_line(l, text, n);
		}
		text += n + 1;
		len -= n + 1;
	}
	if (r || !len)
		return r;
	strbuf_append_n(&l->rest, text, len);
	if (strbuf_error(&l->rest))
		return refuse(l, -ENOMEM, "");
	return l->rest.len > SNAPSHOT_LINE_MAX ? refuse(l, -EFBIG, "a line is longer than any can be") : 0;
}

static int inflate_all(struct loader *l, z_stream *z)
{
	_cleanup_(freep) char *piece = malloc(PIECE);
	int status = Z_OK, r = 0;

	if (!piece)
		return refuse(l, -ENOMEM, "");
	while (!r && status == Z_OK) {
		z->next_out = (Bytef *)piece;
		z->avail_out = PIECE;
		status = inflate(z, Z_NO_FLUSH);
		if (status == Z_OK || status == Z_STREAM_END)
			r = take_text(l, piece, PIECE - z->avail_out);
	}
	if (r)
		return r;
	if (status == Z_BUF_ERROR)
		return refuse(l, -ENODATA, "it breaks off in the middle");
	if (status == Z_MEM_ERROR)
		return refuse(l, -ENOMEM, "");
	if (status != Z_STREAM_END)
		return refuse(l, -EBADMSG, l->has_head ? "it is damaged: its checksum or its compression is wrong" : NO_SNAPSHOT);
	if (z->avail_in)
		return refuse(l, -EBADMSG, "it is damaged: something comes after its end");
	if (!l->ended || l->rest.len)
		return refuse(l, -EBADMSG, l->has_head ? "it is damaged: its end is missing" : NO_SNAPSHOT);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct census_row *)a)->name, ((const struct census_row *)b)->name);
}

/* As a census is: by name, no name twice. */
static void sort_types(struct census *c)
{
	size_t n = 0;

	if (!c->n_types)
		return;
	qsort(c->types, c->n_types, sizeof(*c->types), by_name);
	for (size_t i = 1; i < c->n_types; i++) {
		if (strcmp(c->types[n].name, c->types[i].name) != 0) {
			c->types[++n] = c->types[i];
			continue;
		}
		c->types[n].count += c->types[i].count;   /* the sums of all are bounded already */
		c->types[n].bytes += c->types[i].bytes;
		if (__builtin_add_overflow(c->types[n].owned_bytes, c->types[i].owned_bytes, &c->types[n].owned_bytes))
			c->types[n].owned_bytes = SNAPSHOT_NUMBER_MAX;
		free(c->types[i].name);
	}
	c->n_types = n + 1;
}

int snapshot_parse(const void *data, size_t size, const char *name, struct snapshot **ret_snapshot, struct err *err)
{
	_cleanup_(snapshot_freep) struct snapshot *s = calloc(1, sizeof(*s));
	struct loader l = { .name = name, .err = err, .snapshot = s };
	z_stream z = { .next_in = (Bytef *)data, .avail_in = (uInt)size };
	int r;

	if (s)
		s->census = calloc(1, sizeof(*s->census));
	if (!s || !s->census)
		return refuse(&l, -ENOMEM, "");
	if (!size)
		return refuse(&l, -EBADMSG, "it is empty");
	if (size > SNAPSHOT_FILE_MAX)
		return refuse(&l, -EFBIG, "it is larger than a snapshot can be");
	if (inflateInit2(&z, GZIP_ONLY) != Z_OK)
		return refuse(&l, -ENOMEM, "");
	r = inflate_all(&l, &z);
	inflateEnd(&z);
	strbuf_free(&l.rest);
	if (r)
		return r;
	sort_types(s->census);
	*ret_snapshot = take_ptr(s);
	return 0;
}

static int read_whole(int fd, char *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		ssize_t n = read(fd, data + at, size - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		at += (size_t)n;
	}
	return 0;
}

int snapshot_load(const char *path, struct snapshot **ret_snapshot, struct err *err)
{
	/* A pipe without a writer must not hang us. */
	_cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(freep) char *data = NULL;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st)) {
		r = -errno;
		err_set(err, r, "cannot load %s: %s", path, strerror(-r));
		if (r == -EACCES)
			err_hint(err, "snapshots are readable to who took them: as root, chown or copy it");
		return r;
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EBADMSG, "cannot load %s: it is no ordinary file", path);
	if ((uint64_t)st.st_size > SNAPSHOT_FILE_MAX)
		return err_set(err, -EFBIG, "cannot load %s: it is larger than a snapshot can be", path);
	data = malloc((size_t)st.st_size + 1);
	if (!data)
		return err_set(err, -ENOMEM, "cannot load %s: out of memory", path);
	r = read_whole(fd, data, (size_t)st.st_size);
	if (r)
		return err_set(err, r, "cannot load %s: %s", path, strerror(-r));
	return snapshot_parse(data, (size_t)st.st_size, path, ret_snapshot, err);
}
