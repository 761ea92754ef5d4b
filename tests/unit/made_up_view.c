/* SPDX-License-Identifier: MIT */
#include "made_up_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const cmdline[] = { "/usr/bin/python3", "-u", "/srv/app/app.py", "--port", "80", NULL };

static void made_up_process(struct watched *w, size_t i)
{
	*w = (struct watched){
		.id = { 100 + (pid_t)i, 5000 + i }, .ppid = 1, .group = 100, .uid = 33, .comm = "python3", .cmdline = cmdline,
		.container = "0123456789ab", .python = "3.11.2", .first_seen = { 1795262031, 500000000 },
		.memory = { .rss_bytes = 88290099, .pss_bytes = 83991000, .growth_bytes_per_second = 419840, .explained_ratio = 0.97, .has_parts = true },
		.arenas = 56, .arena_bytes = 58720256, .live_blocks = 32807, .live_bytes = 2741248, .fragmentation = 0.25, .growth = (double)i,
		.sampled_now = true, .sampled_seconds = 61.5, .overhead_ratio = 0.008, .has_verdict = true, .verdict = VERDICT_leak,
		.confidence = 0.88, .n_findings = WATCHED_FINDINGS, .dropped = 3, .alert = true,
	};
	for (int part = 0; part < MEMORY_PART_COUNT; part++)
		w->memory.part[part].bytes = 4096u * (unsigned)(part + 1);
	for (int f = 0; f < WATCHED_FINDINGS; f++) {
		struct watched_finding *finding = &w->findings[f];

		finding->kind = f == 4 ? FINDING_mmap : FINDING_python;
		snprintf(finding->file, sizeof(finding->file), "/srv/app/cache%d.py", f);
		snprintf(finding->function, sizeof(finding->function), "Cache.put%d", f);
		finding->line = 41 + f;
		finding->bytes_per_second = (struct report_estimate){ 1000.5 - f, 900, 1100 };
		finding->live_bytes = 1048576u - (unsigned)f;
	}
}

void made_up_view_new(struct made_up_view *v, size_t n)
{
	v->processes = calloc(n + 1, sizeof(*v->processes));
	v->pointers = calloc(n + 1, sizeof(*v->pointers));
	assert_non_null(v->processes);
	assert_non_null(v->pointers);
	for (size_t i = 0; i < n; i++) {
		made_up_process(&v->processes[i], i);
		v->pointers[i] = &v->processes[i];
	}
	v->view = (struct watch_view){
		.processes = v->pointers, .n = n,
		.self = { .seconds = 3600.25, .cpu_seconds = 61.5, .rss_bytes = 41943040, .processes = n, .sampled_now = 2, .starts = 12000, .ends = 11900,
			  .samplings = 40, .missed = 1, .dropped = 7, .turned_away = 2, .alerts = 5, .history_errors = 0, .history_ok = true },
	};
}

void made_up_view_free(struct made_up_view *v)
{
	free(v->processes);
	free(v->pointers);
}
