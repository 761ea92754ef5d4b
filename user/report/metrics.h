/* SPDX-License-Identifier: MIT */
/* 'watch' for Prometheus: text exposition format 0.0.4. Names begin with leaksnoop_, units are base units (bytes, seconds, ratios). */
#pragma once

#include "base/strbuf.h"
#include "diagnose/watched.h"

/* Processes beyond METRICS_PROCESSES_MAX (least growing first) are left out and counted, so that a scrape stays small. */
#define METRICS_PROCESSES_MAX 500

/* Appends all metrics of view. Labels are bounded: WATCHED_FINDINGS findings a process, texts cut; UTF-8 made valid. */
void metrics_append(struct strbuf *buf, const struct watch_view *view);
