/* SPDX-License-Identifier: MIT */
/* What watch says, and to whom: events to standard output and into the history, a table on a terminal, alerts to a command. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fmt.h"
#include "cmd/service.h"
#include "cmd/watch.h"
#include "report/write.h"

#define SECOND_NS 1000000000ull
/* A process goes into the history when it changed, and once in so long anyway. */
#define STORE_NS (60 * SECOND_NS)
#define STORE_RETRY_NS (10 * SECOND_NS)
/* What counts as a change of RSS: so much of it, and at least so many bytes. */
#define RSS_SHARE 0.02
#define RSS_BYTES (1.0 * (1 << 20))

#define RECENT (sizeof(((struct watch *)0)->recent) / sizeof(char *))

void watch_warn(const char *fmt, ...)
{
	_cleanup_(strbuf_free) struct strbuf text = STRBUF_INIT, line = STRBUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	strbuf_vappendf(&text, fmt, ap);
	va_end(ap);
	strbuf_append(&line, "leaksnoop: ");
	fmt_escape(&line, strbuf_str(&text), 0);
	strbuf_append_c(&line, '\n');
	write_strbuf(&line, stderr);
}

static void keep_recent(struct watch *w, const struct strbuf *line)
{
	char *text = strdup(strbuf_str(line));

	free(w->recent[0]);
	memmove(&w->recent[0], &w->recent[1], (RECENT - 1) * sizeof(char *));
	w->recent[RECENT - 1] = text;
}

static void print(struct watch *w, enum watch_event kind, const struct process *p, const char *why, struct timespec now)
{
	_cleanup_(strbuf_free) struct strbuf line = STRBUF_INIT;
	_cleanup_(json_decrefp) json_t *event = NULL;
	int r;

	if (w->opts->format) {
		event = watch_event_json(kind, &p->w, why, now);
		r = event ? write_json(event, false, stdout) : -ENOMEM;
	} else {
		watch_event_text(&line, kind, &p->w, why, now);
		if (w->table && kind != WATCH_summary) {
			keep_recent(w, &line);
			return;
		}
		r = w->table ? 0 : write_strbuf(&line, stdout);
	}
	if (r == -EPIPE)
		w->stop = true;
	else if (r && !w->output_failed)
		watch_warn("cannot write to standard output: %s", strerror(-r));
	w->output_failed = r != 0;
}

static void store(struct watch *w, struct process *p, struct timespec now, uint64_t now_ns)
{
	if (!w->store)
		return;
	store_put_process(w->store, &p->w, now);
	p->stored_ns = now_ns;
}

void watch_say(struct watch *w, enum watch_event kind, struct process *p, const char *why)
{
	struct timespec now = clock_wall(&clock_real);

	print(w, kind, p, why, now);
	if (!w->store || kind == WATCH_summary)
		return;
	store(w, p, now, clock_mono_ns(&clock_real));
	store_put_event(w->store, &p->w, watch_event_name(kind), why ?: p->w.has_verdict ? p->w.why : "", now);
	/* What the kernel may end next must be on the disk. */
	if (kind != WATCH_start)
		store_tick(w->store, now);
}

static void tell_alert(struct watch *w, struct process *p, enum alert_change change, const char *why)
{
	enum watch_event kind = change == ALERT_RAISED ? WATCH_alert : WATCH_alert_end;
	_cleanup_(json_decrefp) json_t *event = NULL;
	struct err err = { 0 };

	if (change == ALERT_NONE)
		return;
	w->self.alerts += change == ALERT_RAISED;
	watch_say(w, kind, p, why);
	if (!w->opts->on_alert)
		return;
	event = watch_event_json(kind, &p->w, why, clock_wall(&clock_real));
	if (event && service_command(w->opts->on_alert, event, &err))
		watch_warn("the alert's command could not be run: %s", err.what);
}

void watch_alert_look(struct watch *w, struct process *p, uint64_t now_ns)
{
	char why[512];

	tell_alert(w, p, alerts_look(w->alerts, &p->w, p->fresh, now_ns, why, sizeof(why)), why);
	p->fresh = false;
}

void watch_alert_gone(struct watch *w, struct process *p, uint64_t now_ns)
{
	char why[512];

	tell_alert(w, p, alerts_gone(w->alerts, &p->w, now_ns, why, sizeof(why)), why);
}

static struct shown shown_of(const struct watched *w)
{
	return (struct shown){
		.rss_bytes = w->memory.rss_bytes == REPORT_UNKNOWN ? 0 : w->memory.rss_bytes,
		.has_verdict = w->has_verdict,
		.sampled_now = w->sampled_now,
		.alert = w->alert,
		.grows = w->growth > 0,
		.verdict = w->verdict,
	};
}

static bool has_changed(const struct shown *now, const struct shown *before)
{
	double rss = (double)now->rss_bytes, was = (double)before->rss_bytes;

	return fabs(rss - was) > fmax(RSS_SHARE * was, RSS_BYTES) || now->has_verdict != before->has_verdict ||
	       now->verdict != before->verdict || now->sampled_now != before->sampled_now || now->alert != before->alert ||
	       now->grows != before->grows;
}

static void refresh_table(struct watch *w)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	struct watch_view view = watch_view(w);
	unsigned events = RECENT;

	/* Home, and each line clears what stood behind it; at last the rest of the screen. */
	strbuf_append(&buf, "\033[H\033[2J");
	watch_table(&buf, &view, w->width, w->rows > events + 4 ? w->rows - events - 2 : 4);
	strbuf_append_c(&buf, '\n');
	for (size_t i = 0; i < RECENT; i++) {
		_cleanup_(strbuf_free) struct strbuf line = STRBUF_INIT;

		if (!w->recent[i])
			continue;
		strbuf_append_n(&line, w->recent[i], strcspn(w->recent[i], "\n"));
		fmt_escape(&buf, strbuf_str(&line), w->width);
		strbuf_append_c(&buf, '\n');
	}
	if (write_strbuf(&buf, stdout))
		w->stop = true;
}

void watch_store_anew(struct watch *w)
{
	for (size_t i = 0; i < w->n; i++)
		w->processes[i]->stored_ns = 0;
}

/* That it was damaged or moved, and one is begun anew. */
static void tell_notice(struct watch *w)
{
	const char *notice = store_take_notice(w->store);

	if (!notice || !notice[0])
		return;
	watch_warn("%s", notice);
	watch_store_anew(w);
}

int watch_store_open(struct watch *w, struct err *err)
{
	struct store_options options = { .path = w->opts->history, .retain_seconds = w->opts->retain };
	int r = store_open(&options, &w->store, err);

	w->next_store_ns = clock_mono_ns(&clock_real) + STORE_RETRY_NS;
	if (!r)
		tell_notice(w);
	return r;
}

static void try_store_again(struct watch *w, uint64_t now_ns)
{
	struct err err = { 0 };

	if (!w->opts->no_history && now_ns >= w->next_store_ns && !watch_store_open(w, &err))
		watch_store_anew(w);
}

/* The history says once that it cannot be written, and once that it can again. */
static void check_store(struct watch *w)
{
	bool ok = store_is_ok(w->store);

	tell_notice(w);
	if (w->self.history_ok && !ok)
		watch_warn("the history cannot be written, watching goes on: %s", store_error(w->store));
	if (!w->self.history_ok && ok)
		watch_warn("the history is written again");
	w->self.history_ok = ok;
	w->self.history_errors = store_errors(w->store);
}

/* What 'systemctl status' shows. */
static void tell_status(const struct watch *w)
{
	char text[128];
	size_t leaks = 0;

	for (size_t i = 0; i < w->n; i++)
		leaks += w->processes[i]->w.has_verdict && w->processes[i]->w.verdict == VERDICT_leak;
	snprintf(text, sizeof(text), "Python processes: %zu, of which leak: %zu", w->n, leaks);
	service_status(text);
}

void watch_say_interval(struct watch *w, uint64_t now_ns)
{
	struct timespec now = clock_wall(&clock_real);

	if (!w->store)
		try_store_again(w, now_ns);
	for (size_t i = 0; i < w->n; i++) {
		struct process *p = w->processes[i];
		struct shown shown = shown_of(&p->w);
		bool changed = has_changed(&shown, &p->shown);

		if (!p->passive)
			continue;
		watch_alert_look(w, p, now_ns);
		if (changed) {
			print(w, WATCH_summary, p, NULL, now);
			p->shown = shown_of(&p->w);
		}
		if (w->store && (changed || !p->stored_ns || now_ns >= p->stored_ns + STORE_NS))
			store(w, p, now, now_ns);
	}
	if (w->store) {
		store_tick(w->store, now);
		check_store(w);
	}
	if (w->table)
		refresh_table(w);
	tell_status(w);
}
