/* SPDX-License-Identifier: MIT */
/* The history of 'watch' for people, drawn from the JSON that programs get (leaksnoop.history/1). */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "report/report.h"

enum past_view {
	PAST_PROCESSES,    /* a table, a line a process */
	PAST_EVENTS,       /* what happened, in order of time */
	PAST_DETAILS,      /* each process: hour by hour, its events, its last report */
};

/* top: processes shown, 0: all. 0, -ENOMEM, or the errno of the stream. history may be anything. */
int past_write_text(const json_t *history, enum past_view view, size_t top, const struct report_style *style, FILE *file);
