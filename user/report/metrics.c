/* SPDX-License-Identifier: MIT */
/*
 * The Prometheus text format, 0.0.4:
 *
 *     # HELP leaksnoop_process_resident_memory_bytes Memory of the process that is in RAM (RSS).
 *     # TYPE leaksnoop_process_resident_memory_bytes gauge
 *     leaksnoop_process_resident_memory_bytes{pid="4242",app="app.py"} 88290099
 *
 * One table row a metric. Labels: pid and app (the program's name) stand at every metric of a process, so that "sum by (app)" works; what
 * else describes it stands once, in leaksnoop_process_info, to be joined on (instance, pid). A number that is not known is no sample:
 * the series ends, as does that of a process that is gone. No two samples have the same labels, whatever the names in them.
 *
 * Limits: METRICS_PROCESSES_MAX processes; those with an alert, those with a verdict of leak and those that grow most are kept.
 */
#include "report/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "base/version.h"
#include "target/program_name.h"

#define NAME_COLUMNS 64
#define PATH_COLUMNS 128

/* A process that is shown, with what stands in the braces of its samples. */
struct shown {
	const struct watched *w;
	char *labels;                      /* pid="4242",app="app.py" */
};

struct shown_list {
	struct shown *shown;
	size_t n;
};

static void shown_list_free(struct shown_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->shown[i].labels);
	free(list->shown);
}

/* ---- text ---- */

/* An untrusted string between quotes: nothing in it can steer a terminal, end the value or the line. */
static void append_label(struct strbuf *buf, const char *name, const char *text, size_t max_columns, bool tail)
{
	_cleanup_(strbuf_free) struct strbuf safe = STRBUF_INIT;

	if (text && *text)
		(tail ? fmt_escape_tail : fmt_escape)(&safe, text, max_columns);
	strbuf_appendf(buf, "%s=\"", name);
	for (const char *s = strbuf_str(&safe); *s; s++) {
		if (*s == '\\' || *s == '"')
			strbuf_append_c(buf, '\\');
		strbuf_append_c(buf, *s);
	}
	strbuf_append_c(buf, '"');
}

static void append_head(struct strbuf *buf, const char *name, const char *type, const char *help)
{
	strbuf_appendf(buf, "# HELP leaksnoop_%s %s\n# TYPE leaksnoop_%s %s\n", name, help, name, type);
}

/* What is not known (NAN) makes no sample. */
static void append_value(struct strbuf *buf, double x)
{
	if (x == floor(x) && fabs(x) < 9007199254740992.0)
		strbuf_appendf(buf, " %.0f\n", x == 0 ? 0 : x);
	else
		strbuf_appendf(buf, " %.12g\n", x);
}

static double number(uint64_t n)
{
	return n == REPORT_UNKNOWN ? NAN : (double)n;
}

/* ---- leaksnoop itself ---- */

struct self_metric {
	const char *name, *type, *help;
	double (*value)(const struct watch_self *self);
};

#define SELF(function, expression)                                     \
	static double function(const struct watch_self *self)          \
	{                                                              \
		return expression;                                     \
	}

SELF(self_seconds, self->seconds)
SELF(self_cpu, self->cpu_seconds)
SELF(self_rss, number(self->rss_bytes))
SELF(self_processes, number(self->processes))
SELF(self_sampled, number(self->sampled_now))
SELF(self_starts, number(self->starts))
SELF(self_ends, number(self->ends))
SELF(self_samplings, number(self->samplings))
SELF(self_missed, number(self->missed))
SELF(self_dropped, number(self->dropped))
SELF(self_turned_away, number(self->turned_away))
SELF(self_alerts, number(self->alerts))
SELF(self_history_errors, number(self->history_errors))
SELF(self_history_ok, self->history_ok)

static const struct self_metric self_metrics[] = {
	{ "uptime_seconds", "gauge", "Time since leaksnoop began to watch.", self_seconds },
	{ "cpu_seconds_total", "counter", "Processor time that leaksnoop has used, its children included.", self_cpu },
	{ "resident_memory_bytes", "gauge", "Memory of leaksnoop itself that is in RAM.", self_rss },
	{ "processes", "gauge", "Python processes that are watched.", self_processes },
	{ "processes_sampled", "gauge", "Processes whose allocations are sampled now.", self_sampled },
	{ "process_starts_total", "counter", "Python processes that were found.", self_starts },
	{ "process_ends_total", "counter", "Python processes that were let go.", self_ends },
	{ "samplings_total", "counter", "Times that a process was chosen to have its allocations sampled.", self_samplings },
	{ "notices_missed_total", "counter", "Notices of started and ended processes that were lost; all were listed anew then.", self_missed },
	{ "events_dropped_total", "counter", "Records of sampled allocations that were lost.", self_dropped },
	{ "processes_turned_away_total", "counter", "Processes that were not watched, for want of room or right.", self_turned_away },
	{ "alerts_total", "counter", "Alerts that were raised.", self_alerts },
	{ "history_errors_total", "counter", "Writes to the history that failed.", self_history_errors },
	{ "history_ok", "gauge", "Whether the last write to the history succeeded.", self_history_ok },
};

static void append_self(struct strbuf *buf, const struct watch_self *self)
{
	for (size_t i = 0; i < sizeof(self_metrics) / sizeof(self_metrics[0]); i++) {
		const struct self_metric *m = &self_metrics[i];
		double x = m->value(self);

		if (!isfinite(x))
			continue;
		append_head(buf, m->name, m->type, m->help);
		strbuf_appendf(buf, "leaksnoop_%s", m->name);
		append_value(buf, x);
	}
}

/* ---- a process, one number each ---- */

struct process_metric {
	const char *name, *type, *help;
	double (*value)(const struct watched *w);
};

#define PROCESS(function, expression)                                  \
	static double function(const struct watched *w)                \
	{                                                              \
		return expression;                                     \
	}

PROCESS(process_first_seen, w->first_seen.tv_sec ? (double)w->first_seen.tv_sec + (double)w->first_seen.tv_nsec / 1e9 : NAN)
PROCESS(process_rss, number(w->memory.rss_bytes))
PROCESS(process_pss, number(w->memory.pss_bytes))
PROCESS(process_explained, w->memory.explained_ratio)
PROCESS(process_growth, w->growth)
PROCESS(process_live_bytes, number(w->live_bytes))
PROCESS(process_live_blocks, number(w->live_blocks))
PROCESS(process_arenas, number(w->arenas))
PROCESS(process_arena_bytes, number(w->arena_bytes))
PROCESS(process_fragmentation, w->fragmentation)
PROCESS(process_sampled, w->sampled_now)
PROCESS(process_sampled_seconds, w->sampled_seconds)
PROCESS(process_overhead, w->overhead_ratio)
PROCESS(process_dropped, number(w->dropped))
PROCESS(process_confidence, w->has_verdict ? w->confidence : NAN)
PROCESS(process_alert, w->alert)

static const struct process_metric process_metrics[] = {
	{ "process_first_seen_timestamp_seconds", "gauge", "When the process was first seen; a PID used again is another process.", process_first_seen },
	{ "process_resident_memory_bytes", "gauge", "Memory of the process that is in RAM (RSS).", process_rss },
	{ "process_proportional_memory_bytes", "gauge", "The same with shared memory divided among those that share it (PSS).", process_pss },
	{ "process_memory_explained_ratio", "gauge", "Share of RSS whose owner is known.", process_explained },
	{ "process_growth_bytes_per_second", "gauge", "Memory that the process keeps more of, of late; negative if it shrinks.", process_growth },
	{ "process_live_bytes", "gauge", "Bytes in live blocks of pymalloc.", process_live_bytes },
	{ "process_live_blocks", "gauge", "Live blocks of pymalloc.", process_live_blocks },
	{ "process_arenas", "gauge", "Arenas of pymalloc.", process_arenas },
	{ "process_arena_bytes", "gauge", "Size of all arenas of pymalloc.", process_arena_bytes },
	{ "process_fragmentation_ratio", "gauge", "Share of the memory that blocks have had in arenas and that is held for nothing.", process_fragmentation },
	{ "process_sampled", "gauge", "Whether the allocations of the process are sampled now.", process_sampled },
	{ "process_sampled_seconds_total", "counter", "Time that the process has been sampled.", process_sampled_seconds },
	{ "process_overhead_ratio", "gauge", "What sampling costs the process while it is sampled, as a share of a processor.", process_overhead },
	{ "process_events_dropped_total", "counter", "Records of the allocations of the process that were lost.", process_dropped },
	{ "process_verdict_confidence_ratio", "gauge", "How sure the verdict is.", process_confidence },
	{ "process_alert", "gauge", "Whether an alert is on.", process_alert },
};

static void append_process_metric(struct strbuf *buf, const struct shown_list *list, const struct process_metric *m)
{
	bool any = false;

	for (size_t i = 0; i < list->n; i++) {
		double x = m->value(list->shown[i].w);

		if (!isfinite(x))
			continue;
		if (!any)
			append_head(buf, m->name, m->type, m->help);
		any = true;
		strbuf_appendf(buf, "leaksnoop_%s{%s}", m->name, list->shown[i].labels);
		append_value(buf, x);
	}
}

/* ---- a process, with more labels ---- */

static void append_info(struct strbuf *buf, const struct shown_list *list)
{
	if (list->n)
		append_head(buf, "process_info", "gauge", "What describes the process; join on (instance, pid).");
	for (size_t i = 0; i < list->n; i++) {
		const struct watched *w = list->shown[i].w;

		strbuf_appendf(buf, "leaksnoop_process_info{%s,start_ticks=\"%" PRIu64 "\",parent=\"%d\",group=\"%d\",uid=\"%u\",",
			       list->shown[i].labels, w->id.start_ticks, (int)w->ppid, (int)w->group, (unsigned)w->uid);
		append_label(buf, "comm", w->comm, NAME_COLUMNS, false);
		strbuf_append_c(buf, ',');
		append_label(buf, "container", w->container, NAME_COLUMNS, false);
		strbuf_append_c(buf, ',');
		append_label(buf, "python", w->python, NAME_COLUMNS, false);
		strbuf_append(buf, "} 1\n");
	}
}

static void append_parts(struct strbuf *buf, const struct shown_list *list)
{
	bool any = false;

	for (size_t i = 0; i < list->n; i++) {
		const struct report_memory *memory = &list->shown[i].w->memory;

		for (int part = 0; memory->has_parts && part < MEMORY_PART_COUNT; part++) {
			if (memory->part[part].bytes == REPORT_UNKNOWN)
				continue;
			if (!any)
				append_head(buf, "process_memory_bytes", "gauge", "RSS by what it is used for, as of the last balance sheet.");
			any = true;
			strbuf_appendf(buf, "leaksnoop_process_memory_bytes{%s,part=\"%s\"}", list->shown[i].labels,
				       memory_part_name((enum memory_part)part));
			append_value(buf, (double)memory->part[part].bytes);
		}
	}
}

/* A state set: the state that holds is 1, the others are 0, so that a change is no new series. */
static void append_verdicts(struct strbuf *buf, const struct shown_list *list)
{
	bool any = false;

	for (size_t i = 0; i < list->n; i++) {
		if (!list->shown[i].w->has_verdict)
			continue;
		if (!any)
			append_head(buf, "process_verdict", "gauge", "The verdict on the process: 1 for the one that holds.");
		any = true;
		for (size_t kind = 0; kind < VERDICT_KIND_COUNT; kind++)
			strbuf_appendf(buf, "leaksnoop_process_verdict{%s,verdict=\"%s\"} %d\n", list->shown[i].labels, verdict_name((enum verdict_kind)kind),
				       list->shown[i].w->verdict == (enum verdict_kind)kind);
	}
}

/* ---- findings ---- */

static void append_finding_labels(struct strbuf *buf, const struct watched_finding *f)
{

	strbuf_appendf(buf, "kind=\"%s\",", finding_kind_name(f->kind));
	append_label(buf, "file", f->file, PATH_COLUMNS, true);
	strbuf_appendf(buf, ",line=\"%d\",", f->line > 0 ? f->line : 0);
	append_label(buf, "function", f->function, NAME_COLUMNS, false);
}

static double finding_growth(const struct watched_finding *f)
{
	return f->bytes_per_second.estimate;
}

static double finding_live(const struct watched_finding *f)
{
	return number(f->live_bytes);
}

/* The findings of a process. Those whose labels are the same (a line with two stacks, names that were cut) are one sample, the sum. */
static void append_findings_of(struct strbuf *buf, const char *name, const struct shown *shown, double (*value)(const struct watched_finding *f))
{
	struct strbuf labels[WATCHED_FINDINGS] = { 0 };
	double sums[WATCHED_FINDINGS];
	size_t n = 0;

	for (size_t i = 0; i < shown->w->n_findings && i < WATCHED_FINDINGS; i++) {
		const struct watched_finding *f = &shown->w->findings[i];
		double x = value(f);
		size_t same = 0;

		if (!isfinite(x))
			continue;
		append_finding_labels(&labels[n], f);
		while (same < n && strcmp(strbuf_str(&labels[same]), strbuf_str(&labels[n])))
			same++;
		if (same < n) {
			sums[same] += x;
			strbuf_truncate(&labels[n], 0);
		} else {
			sums[n++] = x;
		}
	}
	for (size_t i = 0; i < WATCHED_FINDINGS; i++) {
		if (i < n) {
			strbuf_appendf(buf, "leaksnoop_%s{%s,%s}", name, shown->labels, strbuf_str(&labels[i]));
			append_value(buf, sums[i]);
		}
		strbuf_free(&labels[i]);
	}
}

static void append_findings(struct strbuf *buf, const struct shown_list *list, const char *name, const char *help,
			    double (*value)(const struct watched_finding *f))
{
	size_t start = buf->len, after_head;

	append_head(buf, name, "gauge", help);
	after_head = buf->len;
	for (size_t i = 0; i < list->n; i++)
		append_findings_of(buf, name, &list->shown[i], value);
	if (buf->len == after_head)
		strbuf_truncate(buf, start);
}

/* ---- which processes ---- */

/* Those that matter most first; a total order. */
static int compare_weight(const void *a, const void *b)
{
	const struct watched *x = ((const struct shown *)a)->w, *y = ((const struct shown *)b)->w;
	bool leak_x = x->has_verdict && x->verdict == VERDICT_leak, leak_y = y->has_verdict && y->verdict == VERDICT_leak;
	double growth_x = isfinite(x->growth) ? x->growth : 0, growth_y = isfinite(y->growth) ? y->growth : 0;

	if (x->alert != y->alert)
		return x->alert ? -1 : 1;
	if (leak_x != leak_y)
		return leak_x ? -1 : 1;
	if (growth_x != growth_y)
		return growth_x > growth_y ? -1 : 1;
	return x->id.pid < y->id.pid ? -1 : x->id.pid > y->id.pid;
}

static int compare_pid(const void *a, const void *b)
{
	pid_t x = ((const struct shown *)a)->w->id.pid, y = ((const struct shown *)b)->w->id.pid;

	return x < y ? -1 : x > y;
}

static char *process_labels(const struct watched *w)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	_cleanup_(freep) char *app = NULL;
	char *labels = NULL;

	if (program_name(w->cmdline, w->comm, &app) < 0)
		return NULL;
	strbuf_appendf(&buf, "pid=\"%d\",", (int)w->id.pid);
	append_label(&buf, "app", app, NAME_COLUMNS, false);
	strbuf_take(&buf, &labels);
	return labels;
}

/* Chooses among those that run. Two under one PID (the older has ended, unnoticed yet) would be a sample twice: the younger is shown. */
static int choose(const struct watch_view *view, struct shown_list *list, size_t *ret_left_out)
{
	size_t n = 0, running;

	list->shown = calloc(view->n + 1, sizeof(*list->shown));
	if (!list->shown)
		return -ENOMEM;
	for (size_t i = 0; i < view->n; i++) {
		const struct watched *w = view->processes[i], *last = n ? list->shown[n - 1].w : NULL;

		if (w->end != PROCESS_RUNS)
			continue;
		if (!last || last->id.pid != w->id.pid)
			list->shown[n++].w = w;
		else if (w->id.start_ticks > last->id.start_ticks)
			list->shown[n - 1].w = w;
	}
	running = n;
	if (n > METRICS_PROCESSES_MAX) {
		qsort(list->shown, n, sizeof(*list->shown), compare_weight);
		n = METRICS_PROCESSES_MAX;
		qsort(list->shown, n, sizeof(*list->shown), compare_pid);
	}
	for (; list->n < n; list->n++) {
		list->shown[list->n].labels = process_labels(list->shown[list->n].w);
		if (!list->shown[list->n].labels)
			return -ENOMEM;
	}
	*ret_left_out = running - n;
	return 0;
}

void metrics_append(struct strbuf *buf, const struct watch_view *view)
{
	_cleanup_(shown_list_free) struct shown_list list = { 0 };
	size_t left_out = 0;

	append_head(buf, "build_info", "gauge", "The version of leaksnoop.");
	strbuf_append(buf, "leaksnoop_build_info{version=\"" LEAKSNOOP_VERSION "\"} 1\n");
	append_self(buf, &view->self);
	if (choose(view, &list, &left_out) < 0) {
		if (!buf->error)
			buf->error = -ENOMEM;
		return;
	}
	append_head(buf, "processes_not_shown", "gauge", "Processes that are watched and left out here, those that grow least.");
	strbuf_appendf(buf, "leaksnoop_processes_not_shown %zu\n", left_out);
	append_info(buf, &list);
	for (size_t i = 0; i < sizeof(process_metrics) / sizeof(process_metrics[0]); i++)
		append_process_metric(buf, &list, &process_metrics[i]);
	append_parts(buf, &list);
	append_verdicts(buf, &list);
	append_findings(buf, &list, "process_finding_growth_bytes_per_second",
			"What a line of the program keeps more of, an estimate of the last sampling.", finding_growth);
	append_findings(buf, &list, "process_finding_live_bytes", "What a line allocated while it was sampled and is alive.", finding_live);
}
