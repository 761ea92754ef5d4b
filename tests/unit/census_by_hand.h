/* SPDX-License-Identifier: MIT */
/* Censuses and snapshots for tests, filled in by hand. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "heap/snapshot.h"

struct hand_row {
	const char *name;   /* NULL ends the list; sorted */
	uint64_t count, bytes, owned_bytes;
};

static inline struct census *census_by_hand(const struct hand_row *rows)
{
	struct census *c = calloc(1, sizeof(*c));
	size_t n = 0;

	while (rows[n].name)
		n++;
	c->types = calloc(n + 1, sizeof(*c->types));
	for (size_t i = 0; i < n; i++) {
		assert_true(!i || strcmp(rows[i - 1].name, rows[i].name) < 0);
		c->types[i] = (struct census_row){ strdup(rows[i].name), rows[i].count, rows[i].bytes, rows[i].owned_bytes };
		c->objects += rows[i].count;
		c->bytes += rows[i].bytes;
	}
	c->n_types = n;
	c->block_bytes = c->bytes + 1024;
	c->read_bytes = c->bytes + 4096;
	c->seconds = 0.0205;
	return c;
}

static inline char **argv_by_hand(const char *const *words)
{
	char **argv = calloc(64, sizeof(*argv));

	for (size_t i = 0; words[i]; i++)
		argv[i] = strdup(words[i]);
	return argv;
}

/* Takes the census. 2026-11-21T11:53:51.042Z, and more seconds. */
static inline struct snapshot *snapshot_by_hand(struct census *census, pid_t pid, time_t more)
{
	static const char *const words[] = { "python3", "app.py", "--port", "80", NULL };
	struct snapshot *s = calloc(1, sizeof(*s));

	*s = (struct snapshot){
		.census = census, .pid = pid, .python = strdup("3.11.2"), .cmdline = argv_by_hand(words), .host = strdup("web-3"),
		.boot_id = strdup("0f2c5e1a-7d43-4bb7-9a86-d1f4a8c30b55"), .start_ticks = 123456, .wall = { 1795262031 + more, 42000000 },
	};
	return s;
}
