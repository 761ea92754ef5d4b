/* SPDX-License-Identifier: MIT */
/*
 * Snapshot files: any bytes are refused with a reason, or are a census in order, whose sums hold and which survives being compared and
 * written. The first byte of the input says what the rest is: a file, its text (which the fuzzer could hardly compress by itself), or the text
 * of a file that has its head already.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "heap/compare.h"
#include "heap/snapshot.h"
#include "report/heap.h"

#define HEAD "{\"schema\":\"leaksnoop.heap-snapshot/1\",\"time\":\"2026-11-21T11:53:51.042Z\",\"target\":{\"pid\":4242,\"start_ticks\":7}," \
	     "\"totals\":{\"block_bytes\":10,\"retries\":1,\"refused\":2,\"read_bytes\":3,\"seconds\":0.5}}\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t pack(const char *head, const uint8_t *data, size_t size, uint8_t **ret_packed)
{
	size_t len = strlen(head), bound;
	z_stream z = { 0 };

	if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	bound = deflateBound(&z, len + size) + 64;
	*ret_packed = malloc(bound);
	z.next_out = *ret_packed;
	z.avail_out = (uInt)bound;
	z.next_in = (Bytef *)head;
	z.avail_in = (uInt)len;
	deflate(&z, Z_NO_FLUSH);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)size;
	if (deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	deflateEnd(&z);
	return z.total_out;
}

static void check_census(const struct census *c)
{
	uint64_t objects = 0, bytes = 0;

	for (size_t i = 0; i < c->n_types; i++) {
		if (i && strcmp(c->types[i - 1].name, c->types[i].name) >= 0)
			abort();
		if (__builtin_add_overflow(objects, c->types[i].count, &objects) || __builtin_add_overflow(bytes, c->types[i].bytes, &bytes))
			abort();
	}
	if (objects != c->objects || bytes != c->bytes)
		abort();
}

static void report(const struct snapshot *now, const struct snapshot *before)
{
	struct heap_report r = { .now = now, .before = before, .seconds = before ? 2 : NAN, .frozen_seconds = NAN, .top = 5, .loaded = true };
	_cleanup_(comparison_freep) struct comparison *c = NULL;
	struct report_style style = { .width = 80 };
	FILE *f = fopen("/dev/null", "w");

	if (!f || comparison_new(before ? before->census : NULL, now->census, r.seconds, &c))
		abort();
	r.comparison = c;
	if (heap_write_text(&r, &style, f) || heap_write_json(&r, &style, f))
		abort();
	fclose(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(snapshot_freep) struct snapshot *s = NULL, *empty = NULL;
	_cleanup_(freep) uint8_t *packed = NULL, *nothing = NULL;
	struct err err = { 0 };
	size_t len, none;
	int r;

	if (!size)
		return 0;
	len = pack(data[0] % 3 == 2 ? HEAD : "", data + 1, size - 1, &packed);
	r = data[0] % 3 ? snapshot_parse(packed, len, "it", &s, &err) : snapshot_parse(data + 1, size - 1, "it", &s, &err);
	if (r) {
		if (r != err.code || !err.what[0] || s)
			abort();
		return 0;
	}
	check_census(s->census);
	none = pack(HEAD, (const uint8_t *)"{\"end\":0}\n", 10, &nothing);
	if (snapshot_parse(nothing, none, "none", &empty, NULL))
		abort();
	snapshot_same_process(s, empty);
	report(s, NULL);
	report(s, empty);
	report(empty, s);
	return 0;
}
