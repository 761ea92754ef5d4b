/* SPDX-License-Identifier: MIT */
/*
 * smaps is maps with lines of "Name: number kB" behind each mapping's. The
 * lines of mappings are left to maps_parse(), which bounds and sorts them; the
 * numbers are joined to its list by the start address. Invariant: as many
 * usages as mappings. Limits: mappings are of different moments when the text
 * takes several reads.
 */
#include "target/smaps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "target/procfile.h"

#define TEXT_MAX (256u << 20)       /* some 350,000 mappings */
#define KIB_MAX (1ull << 47 >> 10)  /* more than an address space */

struct row {
	uint64_t start;
	struct smaps_usage usage;
};

struct smaps {
	struct maps *maps;
	struct smaps_usage *usage;
};

struct rows {
	struct row *row;
	size_t count, room;
};

void smaps_free(struct smaps *smaps)
{
	if (smaps) {
		maps_free(smaps->maps);
		free(smaps->usage);
	}
	free(smaps);
}

static bool is_mapping(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static int add_row(struct rows *rows, const char *line)
{
	if (rows->count == rows->room) {
		size_t room = rows->room ? 2 * rows->room : 256;
		struct row *grown = reallocarray(rows->row, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		rows->row = grown;
		rows->room = room;
	}
	rows->row[rows->count++] = (struct row){ .start = strtoull(line, NULL, 16) };
	return 0;
}

/* "Rss:                   8 kB": what is not looked for, or makes no sense, is passed over. */
static void take_number(struct smaps_usage *usage, const char *line, size_t len)
{
	static const struct {
		const char *name;
		size_t offset;
	} fields[] = {
		{ "Rss:", offsetof(struct smaps_usage, rss) },
		{ "Pss:", offsetof(struct smaps_usage, pss) },
		{ "Anonymous:", offsetof(struct smaps_usage, anonymous) },
		{ "Swap:", offsetof(struct smaps_usage, swap) },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		size_t n = strlen(fields[i].name);
		uint64_t kib = 0;

		if (len < n || memcmp(line, fields[i].name, n) != 0)
			continue;
		while (n < len && line[n] == ' ')
			n++;
		for (; n < len && line[n] >= '0' && line[n] <= '9' && kib <= KIB_MAX; n++)
			kib = kib * 10 + (uint64_t)(line[n] - '0');
		if (kib <= KIB_MAX)
			memcpy((char *)usage + fields[i].offset, &(uint64_t){ kib << 10 }, sizeof(uint64_t));
		return;
	}
}

/* Splits the text: mappings' lines to the front of copy, numbers to rows. Returns the bytes of the former, or a negative errno. */
static ssize_t split(const char *text, size_t len, char *copy, struct rows *rows)
{
	size_t kept = 0;

	for (size_t at = 0, end; at < len; at = end + 1) {
		const char *newline = memchr(text + at, '\n', len - at);
		int r;

		end = newline ? (size_t)(newline - text) : len;
		if (!is_mapping(text[at])) {
			if (rows->count)
				take_number(&rows->row[rows->count - 1].usage, text + at, end - at);
			continue;
		}
		if (!newline)
			break;   /* torn */
		memcpy(copy + kept, text + at, end + 1 - at);
		r = add_row(rows, copy + kept);
		if (r < 0)
			return r;
		kept += end + 1 - at;
	}
	return (ssize_t)kept;
}

static int by_start(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Both are sorted; maps may have dropped what overlaps. */
static void join(struct smaps *smaps, struct rows *rows)
{
	size_t row = 0;

	if (rows->count)
		qsort(rows->row, rows->count, sizeof(rows->row[0]), by_start);
	for (size_t i = 0; i < maps_count(smaps->maps); i++) {
		const struct map *map = maps_get(smaps->maps, i);

		while (row < rows->count && rows->row[row].start < map->start)
			row++;
		if (row < rows->count && rows->row[row].start == map->start)
			smaps->usage[i] = rows->row[row].usage;
		/* no more of it can be in memory than there is */
		if (smaps->usage[i].rss > map->end - map->start)
			smaps->usage[i].rss = map->end - map->start;
	}
}

int smaps_parse(const char *text, size_t len, struct smaps **ret_smaps)
{
	_cleanup_(smaps_freep) struct smaps *smaps = calloc(1, sizeof(*smaps));
	_cleanup_(freep) char *copy = NULL;
	struct rows rows = { 0 };
	ssize_t kept;
	int r;

	if (len > TEXT_MAX || (len && (memchr(text, '\0', len) || !is_mapping(text[0]))))
		return -EINVAL;
	copy = malloc(len + 1);
	if (!smaps || !copy)
		return -ENOMEM;
	copy[0] = '\0';
	kept = split(text, len, copy, &rows);
	r = kept < 0 ? (int)kept : maps_parse(copy, (size_t)kept, &smaps->maps);
	if (r == 0) {
		smaps->usage = calloc(maps_count(smaps->maps) + 1, sizeof(*smaps->usage));
		r = smaps->usage ? 0 : -ENOMEM;
	}
	if (r == 0)
		join(smaps, &rows);
	free(rows.row);
	if (r < 0)
		return r;
	*ret_smaps = take_ptr(smaps);
	return 0;
}

int smaps_load(pid_t pid, struct smaps **ret_smaps)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = procfile_read(pid, "smaps", TEXT_MAX, &text, &len);

	return r < 0 ? r : smaps_parse(text, len, ret_smaps);
}

const struct maps *smaps_maps(const struct smaps *smaps)
{
	return smaps->maps;
}

const struct smaps_usage *smaps_usage(const struct smaps *smaps, size_t index)
{
	return &smaps->usage[index];
}

struct smaps_usage smaps_total(const struct smaps *smaps)
{
	struct smaps_usage total = { 0 };

	for (size_t i = 0; i < maps_count(smaps->maps); i++) {
		total.rss += smaps->usage[i].rss;
		total.pss += smaps->usage[i].pss;
		total.anonymous += smaps->usage[i].anonymous;
		total.swap += smaps->usage[i].swap;
	}
	return total;
}
