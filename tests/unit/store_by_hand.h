/* SPDX-License-Identifier: MIT */
/* Processes as 'watch' would hand them to the history, written by hand with fixed times; and a folder to keep a history in. */
#pragma once

#include <jansson.h>

#include "report/store.h"

#define NIGHT 1795208400           /* 2026-11-20T21:00:00Z */
#define MIB(n) ((uint64_t)(n) << 20)

extern char store_dir[64], store_path[96];

/* cmocka's setup and teardown: an empty folder; all that lies in it goes. */
int store_make_dir(void **state);
int store_remove_dir(void **state);

struct store *store_open_here(const struct store_options *options);
/* A healthy process without a verdict. */
struct watched watched_by_hand(pid_t pid);
/* Gives it a verdict of leak, two findings and a report made at seconds. report: to be freed by its caller. */
void watched_leaks(struct watched *w, double seconds, json_t *report);
json_t *report_by_hand(pid_t pid, size_t findings);
struct timespec at(double seconds);

/* What a reader finds; fails the test if it finds an error. */
json_t *history_here(const struct store_query *query);
/* Rows of SELECT count(*) and the like, through a connection of its own. */
long long sql_number(const char *path, const char *sql);
void check_integrity(const char *path);

/* One process, put; and ticked. */
int put_one(struct store *store, pid_t pid, double seconds);
void put_and_tick(struct store *store, pid_t pid, double seconds);
size_t processes_here(void);
void write_file(const char *path, const char *data, size_t size);
/* At most 4 MiB; to be freed. */
char *read_file(const char *path, size_t *ret_size);
