/* SPDX-License-Identifier: MIT */
/*
 * Lines through gzip into a file beside the one that is wanted, which is put in its place once it is on disk. Memory does not grow with the
 * census: a line at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/fmt.h"
#include "base/strbuf.h"
#include "base/utf8.h"
#include "heap/snapshot_impl.h"

/* NULL gives null. NULL: no memory. */
static json_t *text_json(const char *s)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	size_t len;

	if (!s)
		return json_null();
	len = strnlen(s, SNAPSHOT_NAME_MAX + 1);
	if (len > SNAPSHOT_NAME_MAX)
		/* Back to the edge of a character. */
		for (len = SNAPSHOT_NAME_MAX; len > SNAPSHOT_NAME_MAX - 4 && (s[len] & 0xc0) == 0x80; len--)
			;
	utf8_append_valid(&buf, s, len);
	return strbuf_error(&buf) ? NULL : json_string(strbuf_str(&buf));
}

static json_t *number_json(uint64_t n)
{
	return json_integer((json_int_t)(n < SNAPSHOT_NUMBER_MAX ? n : SNAPSHOT_NUMBER_MAX));
}

/* What does not fit any more becomes "…". */
static json_t *cmdline_json(char **argv)
{
	json_t *array = json_array();
	size_t bytes = 0;

	for (; argv && *argv; argv++) {
		bytes += strnlen(*argv, SNAPSHOT_NAME_MAX) + 4;
		json_array_append_new(array, bytes > SNAPSHOT_ARGV_MAX ? json_string("…") : text_json(*argv));
		if (bytes > SNAPSHOT_ARGV_MAX)
			break;
	}
	return array;
}

static int write_line(gzFile gz, json_t *line)
{
	_cleanup_(freep) char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(line);
	if (!text)
		return -ENOMEM;
	text[len++] = '\n';   /* in place of the NUL */
	errno = 0;
	if (gzwrite(gz, text, (unsigned)len) != (int)len)
		return errno > 0 ? -errno : -EIO;
	return 0;
}

static int write_head(gzFile gz, const struct snapshot *s)
{
	const struct census *c = s->census;
	json_t *target, *totals;

	target = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "pid", (int)s->pid, "python", text_json(s->python), "cmdline",
			   cmdline_json(s->cmdline), "container", text_json(s->container), "host", text_json(s->host), "boot_id",
			   text_json(s->boot_id), "start_ticks", number_json(s->start_ticks));
	totals = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:b}", "objects", number_json(c->objects), "bytes", number_json(c->bytes),
			   "block_bytes", number_json(c->block_bytes), "retries", number_json(c->retries), "refused",
			   number_json(c->refused), "read_bytes", number_json(c->read_bytes), "seconds", c->seconds,
			   "small_only", c->small_only);
	return write_line(gz, json_pack("{s:s+, s:s, s:o, s:o}", "schema", SNAPSHOT_SCHEMA, "1", "time", fmt_time(s->wall).s, "target",
					target, "totals", totals));
}

static int write_rows(gzFile gz, const struct census *c)
{
	int r = 0;

	for (size_t i = 0; !r && i < c->n_types; i++)
		r = write_line(gz, json_pack("{s:o, s:o, s:o, s:o}", "type", text_json(c->types[i].name), "count",
					     number_json(c->types[i].count), "bytes", number_json(c->types[i].bytes), "owned_bytes",
					     number_json(c->types[i].owned_bytes)));
	for (int k = 0; !r && k < CENSUS_NON_OBJECT_COUNT; k++)
		r = write_line(gz, json_pack("{s:s, s:o, s:o}", "non_object", census_non_object_name((enum census_non_object)k), "count",
					     number_json(c->non_objects[k].count), "bytes", number_json(c->non_objects[k].bytes)));
	return r;
}

/* fd stays open, so that it can be synced. */
static int write_all(int fd, const struct snapshot *s)
{
	_cleanup_(closep) int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	gzFile gz = copy < 0 ? NULL : gzdopen(copy, "wb6");
	int r, closed;

	if (!gz)
		return copy < 0 ? -errno : -ENOMEM;
	take_fd(&copy);
	r = write_head(gz, s);
	if (!r)
		r = write_rows(gz, s->census);
	if (!r)
		r = write_line(gz, json_pack("{s:I}", "end", (json_int_t)(s->census->n_types + CENSUS_NON_OBJECT_COUNT)));
	errno = 0;
	closed = gzclose(gz);
	if (!r && closed != Z_OK)
		r = closed == Z_ERRNO && errno > 0 ? -errno : -EIO;
	if (!r && fsync(fd))
		r = -errno;
	return r;
}

/* The new name lasts only once the directory is on disk, too. Some file systems cannot do that: then it is as good as it gets. */
static void sync_directory(const char *path)
{
	_cleanup_(freep) char *copy = strdup(path);
	_cleanup_(closep) int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		(void)fsync(fd);
}

/* Neither a device nor a link, which a rename would replace, not write to. */
static int check_place(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	if (S_ISREG(st.st_mode))
		return 0;
	err_set(err, -EEXIST, "cannot write %s: it exists and is no ordinary file", path);
	err_hint(err, "give the name of a file; --format json writes to standard output");
	return -EEXIST;
}

int snapshot_save(const struct snapshot *snapshot, const char *path, struct err *err)
{
	_cleanup_(strbuf_free) struct strbuf part = STRBUF_INIT;
	_cleanup_(closep) int fd = -1;
	int r = check_place(path, err);

	if (r)
		return r;
	if (snapshot->census->n_types > SNAPSHOT_TYPES_MAX)
		return err_set(err, -EFBIG, "cannot write %s: more types than a snapshot can have", path);
	strbuf_appendf(&part, "%s.XXXXXX", path);
	if (strbuf_error(&part))
		return err_set(err, -ENOMEM, "out of memory");
	fd = mkostemp(part.s, O_CLOEXEC);   /* mode 0600 */
	if (fd < 0)
		return err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	r = write_all(fd, snapshot);
	if (!r && rename(part.s, path))
		r = -errno;
	if (r) {
		unlink(part.s);
		return err_set(err, r, "cannot write %s: %s", path, strerror(-r));
	}
	sync_directory(path);
	return 0;
}
