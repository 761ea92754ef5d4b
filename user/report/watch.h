/* SPDX-License-Identifier: MIT */
/* What 'watch' says: events ("leaksnoop.event/1"), and a table of all processes. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <time.h>

#include "base/strbuf.h"
#include "diagnose/watched.h"

#define WATCH_EVENTS(X) X(start, "start") X(exit, "exit") X(killed, "killed") X(oom, "oom") X(verdict, "verdict") X(alert, "alert") \
	X(alert_end, "alert-end") X(summary, "summary")
enum watch_event {
#define X(id, name) WATCH_##id,
	WATCH_EVENTS(X)
#undef X
};

const char *watch_event_name(enum watch_event kind);

/* why: one sentence; NULL none. NULL: out of memory. */
json_t *watch_event_json(enum watch_event kind, const struct watched *w, const char *why, struct timespec now);
/* One line for people:
 *   2026-11-21T21:44:00.000Z  verdict    4242 app.py         +71.2 KiB/s  leak: app.py:42 keeps 71 KiB/s ... */
void watch_event_text(struct strbuf *buf, enum watch_event kind, const struct watched *w, const char *why, struct timespec now);

/* Those that grow fastest first; as many lines as rows allows (0: all), each cut to width (0: not cut). */
void watch_table(struct strbuf *buf, const struct watch_view *view, unsigned width, unsigned rows);

/* What a report says becomes what is known of w. 0 or -ENOMEM, and w is as it was. */
int watched_take_report(struct watched *w, const struct report *report, struct timespec now);
