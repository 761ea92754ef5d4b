/* SPDX-License-Identifier: MIT */
/* Snapshot files: what is written is read again; what is anything else is refused by name; what was there stays until the new one is whole. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>
#include <cmocka.h>

#include "census_by_hand.h"
#include "heap/snapshot_impl.h"
#include "pytarget.h"

#define HEAD "{\"schema\":\"leaksnoop.heap-snapshot/1\",\"time\":\"2026-11-21T11:53:51.042Z\",\"target\":{\"pid\":4242,\"start_ticks\":7}," \
	     "\"totals\":{\"block_bytes\":10,\"retries\":1,\"refused\":2,\"read_bytes\":3,\"seconds\":0.5}}\n"

static char dir[64], path[96];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/leaksnoop-snapshot-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/heap", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(dir);   /* fails if something was left lying there */
}

static const struct hand_row some[] = {
	{ "app.Session", 1204, 231168, 134848 }, { "dict", 3, 700, 512 }, { "str", 100000, 7000000, 12 }, { NULL }
};

static void test_round_trip(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *s = snapshot_by_hand(census_by_hand(some), 4242, 0), *back = NULL;
	struct err err = { 0 };
	struct stat st;

	(void)state;
	s->container = strdup("docker:0123456789ab");
	s->census->retries = 17;
	s->census->small_only = true;
	s->census->refused = 4;
	s->census->non_objects[CENSUS_DICT_KEYS] = (struct census_row){ .count = 9, .bytes = 1152 };
	s->census->non_objects[CENSUS_UNKNOWN] = (struct census_row){ .count = 1, .bytes = 32 };
	assert_int_equal(snapshot_save(s, path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(snapshot_load(path, &back, &err), 0);
	assert_int_equal(back->census->n_types, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(back->census->types[i].name, some[i].name);
		assert_int_equal(back->census->types[i].count, some[i].count);
		assert_int_equal(back->census->types[i].bytes, some[i].bytes);
		assert_int_equal(back->census->types[i].owned_bytes, some[i].owned_bytes);
	}
	for (int k = 0; k < CENSUS_NON_OBJECT_COUNT; k++) {
		assert_int_equal(back->census->non_objects[k].count, s->census->non_objects[k].count);
		assert_int_equal(back->census->non_objects[k].bytes, s->census->non_objects[k].bytes);
	}
	assert_int_equal(back->census->objects, s->census->objects);
	assert_int_equal(back->census->bytes, s->census->bytes);
	assert_int_equal(back->census->block_bytes, s->census->block_bytes);
	assert_int_equal(back->census->retries, 17);
	assert_true(back->census->small_only);
	assert_int_equal(back->census->refused, 4);
	assert_int_equal(back->census->read_bytes, s->census->read_bytes);
	assert_true(back->census->seconds == s->census->seconds);
	assert_int_equal(back->pid, 4242);
	assert_string_equal(back->python, "3.11.2");
	assert_string_equal(back->cmdline[3], "80");
	assert_null(back->cmdline[4]);
	assert_string_equal(back->container, "docker:0123456789ab");
	assert_string_equal(back->host, "web-3");
	assert_int_equal(back->wall.tv_sec, s->wall.tv_sec);
	assert_int_equal(back->wall.tv_nsec, s->wall.tv_nsec);
	assert_true(snapshot_same_process(s, back));
	assert_true(snapshot_seconds_between(s, back) == 0);
}

/* Names that are no UTF-8, or absurd, or equal once they are made UTF-8; a command line that fits no line; facts that nobody knows. */
static void test_hostile_names(void **state)
{
	static char huge[200001];
	static const struct hand_row rows[] = {
		{ "", 1, 1, 1 }, { "a\n\033[2J\"\\", 2, 2, 2 }, { huge, 3, 3, 3 }, { "z\xfe", 4, 4, 4 }, { "z\xff", 5, 5, 5 }, { NULL }
	};
	_cleanup_(snapshot_freep) struct snapshot *s = NULL, *back = NULL;
	struct err err = { 0 };

	(void)state;
	memset(huge, 'm', sizeof(huge) - 1);
	s = snapshot_by_hand(census_by_hand(rows), 1, 0);
	strcpy(s->cmdline[0], "\001\002\003");
	for (int i = 4; i < 60; i++)
		s->cmdline[i] = strdup(huge);
	free(s->host);
	free(s->boot_id);
	s->host = s->boot_id = NULL;
	assert_int_equal(snapshot_save(s, path, &err), 0);
	assert_int_equal(snapshot_load(path, &back, &err), 0);
	assert_int_equal(back->census->n_types, 4);
	assert_string_equal(back->census->types[0].name, "");
	assert_string_equal(back->census->types[1].name, rows[1].name);
	assert_int_equal(strlen(back->census->types[2].name), SNAPSHOT_NAME_MAX);
	assert_string_equal(back->census->types[3].name, "z\xef\xbf\xbd");
	assert_int_equal(back->census->types[3].count, 9);
	assert_int_equal(back->census->types[3].owned_bytes, 9);
	assert_int_equal(back->census->objects, 15);
	assert_null(back->host);
	assert_string_equal(back->cmdline[0], "\001\002\003");
	assert_false(snapshot_same_process(back, back));
}

/* gzip of text into a new buffer. */
static size_t pack(const char *text, size_t len, uint8_t **ret_data)
{
	z_stream z = { .next_in = (Bytef *)text, .avail_in = (uInt)len };
	size_t size;

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	size = deflateBound(&z, len);
	*ret_data = malloc(size);
	z.next_out = *ret_data;
	z.avail_out = (uInt)size;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	size = z.total_out;
	deflateEnd(&z);
	return size;
}

static void refuse_bytes(const void *data, size_t size, int code, const char *why)
{
	struct snapshot *s = NULL;
	struct err err = { 0 };

	assert_int_equal(snapshot_parse(data, size, "it.heap", &s, &err), code);
	assert_null(s);
	assert_int_equal(err.code, code);
	if (strncmp(err.what, "cannot load it.heap: ", 21) != 0 || !strstr(err.what, why) || !err.hint[0])
		fail_msg("'%s' ('%s') is not about '%s'", err.what, err.hint, why);
}

static void refuse_text(const char *text, int code, const char *why)
{
	_cleanup_(freep) uint8_t *data = NULL;
	size_t size = pack(text, strlen(text), &data);

	refuse_bytes(data, size, code, why);
}

static void accept_text(const char *text)
{
	_cleanup_(snapshot_freep) struct snapshot *s = NULL;
	_cleanup_(freep) uint8_t *data = NULL;
	size_t size = pack(text, strlen(text), &data);
	struct err err = { 0 };

	if (snapshot_parse(data, size, "it.heap", &s, &err))
		fail_msg("%s", err.what);
}

static void test_refusals(void **state)
{
	static const char *const bad_lines[] = {
		"{\"type\":\"a\",\"count\":1,\"bytes\":1}", "{\"type\":\"a\",\"count\":-1,\"bytes\":1,\"owned_bytes\":0}",
		"{\"type\":\"a\",\"count\":1.5,\"bytes\":1,\"owned_bytes\":0}", "{\"type\":\"a\",\"count\":\"1\",\"bytes\":1,\"owned_bytes\":0}",
		"{\"type\":\"a\",\"count\":9223372036854775807,\"bytes\":1,\"owned_bytes\":0}",
		"{\"type\":\"a\",\"count\":99999999999999999999,\"bytes\":1,\"owned_bytes\":0}",
		"{\"type\":7,\"count\":1,\"bytes\":1,\"owned_bytes\":0}", "{\"type\":\"a\\u0000b\",\"count\":1,\"bytes\":1,\"owned_bytes\":0}",
		"{\"type\":\"a\",\"count\":1,\"count\":1,\"bytes\":1,\"owned_bytes\":0}", "[]", "7", "", "{}", "{\"non_object\":\"code\",\"count\":1}",
		"{\"type\":null,\"count\":1,\"bytes\":1,\"owned_bytes\":0}", "{\"end\":7}", "{\"type\":\"a\"", "nonsense",
	};
	char text[1024];

	(void)state;
	accept_text(HEAD "{\"end\":0}\n");
	accept_text(HEAD "{\"type\":\"a\",\"count\":1,\"bytes\":2,\"owned_bytes\":0,\"new\":[]}\n{\"end\":1}\n");
	for (size_t i = 0; i < sizeof(bad_lines) / sizeof(*bad_lines); i++) {
		snprintf(text, sizeof(text), HEAD "%s\n{\"end\":1}\n", bad_lines[i]);
		refuse_text(text, -EBADMSG, "damaged: line 2: ");
	}
	refuse_text(HEAD, -EBADMSG, "its end is missing");
	refuse_text(HEAD "{\"end\":0}", -EBADMSG, "its end is missing");
	refuse_text(HEAD "{\"end\":0}\n{\"end\":0}\n", -EBADMSG, "after the end");
	refuse_text("", -EBADMSG, "no snapshot");
	refuse_text("hello\n", -EBADMSG, "no snapshot");
	refuse_text("{\"schema\":\"leaksnoop.heap/1\"}\n", -EBADMSG, "no snapshot");
	refuse_text("{\"schema\":\"leaksnoop.heap-snapshot/0\"}\n", -EBADMSG, "no snapshot");
	refuse_text("{\"schema\":\"leaksnoop.heap-snapshot/1x\"}\n", -EBADMSG, "no snapshot");
	refuse_text("{\"schema\":\"leaksnoop.heap-snapshot/2\",\"new\":1}\n", -ENOTSUP, "of version 2, and this leaksnoop knows 1");
	refuse_text("{\"schema\":\"leaksnoop.heap-snapshot/1\"}\n{\"end\":0}\n", -EBADMSG, "its head lacks a field");
	refuse_bytes("", 0, -EBADMSG, "empty");
	refuse_bytes("plain text, no gzip at all", 26, -EBADMSG, "no snapshot");
	refuse_bytes("\x1f\x8b\x08\0\0\0\0\0\0\3", 10, -ENODATA, "breaks off");
	refuse_bytes("\x1f\x8b", 2, -ENODATA, "breaks off");
}

/* Sums that no heap can have, from numbers that are each allowed; kinds of blocks that a later version may know. */
static void test_sums(void **state)
{
	static const char row[] = "{\"type\":\"a\",\"count\":4611686018427387904,\"bytes\":0,\"owned_bytes\":4611686018427387904}\n";
	static const char kind[] = "{\"non_object\":\"tape\",\"count\":4611686018427387903,\"bytes\":1}\n";
	char text[2048];

	(void)state;
	snprintf(text, sizeof(text), HEAD "%s{\"end\":1}\n", row);
	accept_text(text);
	snprintf(text, sizeof(text), HEAD "%s%s{\"end\":2}\n", row, row);
	refuse_text(text, -EBADMSG, "line 3: the sums are absurd");
	snprintf(text, sizeof(text), HEAD "%s{\"end\":1}\n", kind);
	accept_text(text);
	snprintf(text, sizeof(text), HEAD "%s%s{\"end\":2}\n", kind, kind);
	refuse_text(text, -EBADMSG, "line 3: the sums are absurd");
}

/* A small file cannot make a large one: one long line, many lines, or endless types. */
static void test_bombs(void **state)
{
	static const char row[] = "{\"type\":\"a\",\"count\":0,\"bytes\":0,\"owned_bytes\":0}\n";
	size_t len = SNAPSHOT_LINE_MAX + (1 << 18), n_rows = SNAPSHOT_TYPES_MAX + 1;
	char *text = malloc(sizeof(HEAD) + n_rows * sizeof(row) + len);
	uint8_t *data;
	size_t size, at = sizeof(HEAD) - 1;

	(void)state;
	memset(text, '[', len);
	size = pack(text, len, &data);
	refuse_bytes(data, size, -EFBIG, "a line is longer");
	free(data);
	memcpy(text, HEAD, at);
	for (size_t i = 0; i < n_rows; i++, at += sizeof(row) - 1)
		memcpy(text + at, row, sizeof(row) - 1);
	size = pack(text, at, &data);
	assert_true(size < at / 100);
	refuse_bytes(data, size, -EFBIG, "more types");
	free(data);
	free(text);
}

static void test_too_much_text(void **state)
{
	/* Non-objects may come in any number: 300 MiB of them, packed line by line. */
	static char piece[1 << 20];
	static const char row[] = "{\"non_object\":\"code\",\"count\":0,\"bytes\":0,\"note\":\"\"}";
	z_stream z = { .next_in = (Bytef *)HEAD, .avail_in = sizeof(HEAD) - 1 };
	_cleanup_(freep) uint8_t *data = malloc(4 << 20);

	(void)state;
	memset(piece, ' ', sizeof(piece));
	memcpy(piece, row, sizeof(row) - 1);
	piece[sizeof(piece) / 2] = piece[sizeof(piece) - 1] = '\n';
	memcpy(piece + sizeof(piece) / 2 + 1, row, sizeof(row) - 1);
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = data;
	z.avail_out = 4 << 20;
	deflate(&z, Z_NO_FLUSH);
	for (size_t i = 0; i < SNAPSHOT_TEXT_MAX / sizeof(piece) + 1; i++) {
		z.next_in = (Bytef *)piece;
		z.avail_in = sizeof(piece);
		assert_int_equal(deflate(&z, Z_NO_FLUSH), Z_OK);
	}
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	refuse_bytes(data, z.total_out, -EFBIG, "unpacks to more");
}

static size_t read_file(uint8_t *data, size_t size)
{
	_cleanup_(fclosep) FILE *f = fopen(path, "r");

	assert_non_null(f);
	return fread(data, 1, size, f);
}

static bool says_the_same(const struct snapshot *a, const struct snapshot *b)
{
	bool same = a->census->n_types == b->census->n_types;

	for (size_t i = 0; i < a->census->n_types && same; i++)
		same = !strcmp(a->census->types[i].name, b->census->types[i].name) && a->census->types[i].count == b->census->types[i].count &&
		       a->census->types[i].bytes == b->census->types[i].bytes;
	return same;
}

/*
 * Every cut of a real file breaks off; every flipped bit is noticed, or changes nothing: in gzip's header (time, system), or where the same
 * text can be packed in two ways.
 */
static void test_every_byte(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *s = snapshot_by_hand(census_by_hand(some), 4242, 0);
	uint8_t data[4096];
	size_t size, accepted = 0;

	(void)state;
	assert_int_equal(snapshot_save(s, path, NULL), 0);
	size = read_file(data, sizeof(data));
	assert_true(size > 100 && size < sizeof(data));
	for (size_t cut = 1; cut < size; cut++) {
		_cleanup_(freep) uint8_t *copy = malloc(cut);

		memcpy(copy, data, cut);
		refuse_bytes(copy, cut, -ENODATA, "breaks off");
	}
	for (size_t i = 0; i < size * 8; i++) {
		_cleanup_(snapshot_freep) struct snapshot *back = NULL;

		data[i / 8] ^= (uint8_t)(1 << i % 8);
		if (!snapshot_parse(data, size, "it", &back, NULL)) {
			assert_true(says_the_same(s, back));
			accepted++;
		}
		data[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_true(accepted < 10 * 8);
	data[size] = 0;
	refuse_bytes(data, size + 1, -EBADMSG, "something comes after its end");
}

static void expect_save(const struct snapshot *s, const char *to, int code, const char *why)
{
	struct err err = { 0 };

	assert_int_equal(snapshot_save(s, to, &err), code);
	if (!strstr(err.what, why))
		fail_msg("'%s' is not about '%s'", err.what, why);
}

static void test_places(void **state)
{
	_cleanup_(snapshot_freep) struct snapshot *s = snapshot_by_hand(census_by_hand(some), 4242, 0), *back = NULL;
	struct err err = { 0 };
	struct stat st;
	char link[128];

	(void)state;
	expect_save(s, "/nonexistent/heap", -ENOENT, "cannot write /nonexistent/heap: No such file");
	expect_save(s, dir, -EEXIST, "no ordinary file");
	expect_save(s, "/dev/null", -EEXIST, "no ordinary file");
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(symlink("/etc/hostname", link), 0);
	expect_save(s, link, -EEXIST, "no ordinary file");
	unlink(link);
	assert_int_equal(mkfifo(link, 0600), 0);
	assert_int_equal(snapshot_load(link, &back, &err), -EBADMSG);
	unlink(link);
	assert_int_equal(snapshot_load(dir, &back, &err), -EBADMSG);
	assert_int_equal(snapshot_load("/nonexistent", &back, &err), -ENOENT);
	assert_int_equal(snapshot_load("/dev/zero", &back, &err), -EBADMSG);
	assert_null(back);
}

/* The disk is full in the middle: the old file is still there, and nothing beside it (the directory is removed at the end). */
static void test_keeps_the_old_one(void **state)
{
	static char names[20000][16];
	static struct hand_row rows[20001];
	struct rlimit limit, small;
	_cleanup_(snapshot_freep) struct snapshot *s = snapshot_by_hand(census_by_hand(some), 4242, 0), *large = NULL, *back = NULL;
	struct err err = { 0 };

	(void)state;
	for (uint32_t i = 0; i < 20000; i++) {
		snprintf(names[i], sizeof(names[i]), "t%05u", i);
		rows[i] = (struct hand_row){ names[i], i * 2654435761u, i * 2246822519u, 0 };
	}
	large = snapshot_by_hand(census_by_hand(rows), 4242, 0);
	assert_int_equal(snapshot_save(s, path, &err), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	small = (struct rlimit){ 20000, limit.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	expect_save(large, path, -EFBIG, "File too large");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(snapshot_load(path, &back, &err), 0);
	assert_int_equal(back->census->n_types, 3);
	assert_int_equal(snapshot_save(large, path, &err), 0);
	snapshot_free(take_ptr(back));
	assert_int_equal(snapshot_load(path, &back, &err), 0);
	assert_int_equal(back->census->n_types, 20000);
}

static void start(const struct pyinterp *interp, const char *program, struct pytarget *target)
{
	char line[32];

	assert_int_equal(pytarget_start(interp, program, NULL, target), 0);
	assert_true(pytarget_line(target, line, sizeof(line)));
}

static struct snapshot *take(pid_t pid, time_t wall)
{
	_cleanup_(python_freep) struct python *python = NULL;
	struct snapshot *s = NULL;
	struct err err = { 0 };

	if (python_open(pid, &python, &err))
		fail_msg("%s", err.what);
	assert_int_equal(snapshot_new(census_by_hand(some), python, (struct timespec){ .tv_sec = wall }, &s), 0);
	return s;
}

/* The facts of a real process; what tells it from another one. */
static void test_facts(void **state)
{
	const char *const program = "import sys; print('ready', flush=True); sys.stdin.read()";
	_cleanup_(snapshot_freep) struct snapshot *s = NULL, *later = NULL, *other = NULL;
	struct pytarget a, b;
	size_t count;
	const struct pyinterp *interps = pyinterps(&count);

	(void)state;
	assert_true(count > 0);
	start(&interps[0], program, &a);
	start(&interps[0], program, &b);
	s = take(a.pid, 100);
	later = take(a.pid, 130);
	other = take(b.pid, 100);
	assert_int_equal(s->pid, a.pid);
	assert_string_equal(s->cmdline[0], interps[0].argv[0]);
	assert_true(s->python && strncmp(s->python, "3.", 2) == 0);
	assert_true(s->start_ticks > 0);
	assert_non_null(s->host);
	assert_true(strlen(s->boot_id) == 36);
	assert_true(snapshot_same_process(s, later));
	assert_false(snapshot_same_process(s, other));
	assert_true(snapshot_seconds_between(s, later) == 30);
	assert_true(snapshot_seconds_between(later, s) == -30);
	pytarget_stop(&a);
	pytarget_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_hostile_names, make_dir, remove_dir),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_too_much_text),
		cmocka_unit_test_setup_teardown(test_every_byte, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_places, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_keeps_the_old_one, make_dir, remove_dir),
		cmocka_unit_test(test_facts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
