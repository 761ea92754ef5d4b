/* SPDX-License-Identifier: MIT */
/* Inside cmd/watch*.c: every Python process of the host, from its options to its events. */
#pragma once

#include "cmd/attachment.h"
#include "cmd/options.h"
#include "cmd/server.h"
#include "diagnose/alerts.h"
#include "diagnose/passive.h"
#include "diagnose/rota.h"
#include "report/metrics.h"
#include "report/store.h"
#include "report/watch.h"
#include "trace/finder.h"

#define WATCH_PROCESSES_MAX 2000
#define WATCH_SAMPLED_MAX 2
#define WATCH_LISTEN_MAX 4

struct watch_opts {
	struct strings pids, comms, cgroups, users, listen;
	double budget, host_budget;           /* per cent */
	double interval, retain, settle, turn;   /* seconds */
	const char *history, *on_alert;
	uint64_t alert_rate;                  /* bytes an hour; 0: none */
	int format;
	bool no_history;
};

/* What a change of makes a line. */
struct shown {
	uint64_t rss_bytes;                   /* 0: unknown */
	bool has_verdict, sampled_now, alert, grows;
	enum verdict_kind verdict;
};

/* A process that is watched. */
struct process {
	struct watched w;
	struct passive *passive;              /* NULL: not opened (yet) */
	uint64_t open_ns;                     /* when to try (again) */
	int tries;                            /* that failed */
	struct attachment *attachment;        /* while it is sampled; else NULL */
	uint64_t began_ns, interim_ns;        /* its turn; when to look at it next */
	double sampled_before;                /* seconds of earlier turns */
	bool fresh;                           /* its report is new since the alerts looked */
	bool turn_told;                       /* this turn gave a report that stands */
	struct shown shown;                   /* as last printed */
	uint64_t stored_ns;                   /* last put into the history */
};

struct watch {
	const struct watch_opts *opts;
	struct finder *finder;
	struct tracer *tracer;
	struct rota *rota;
	struct alerts *alerts;
	struct store *store;                  /* NULL: --no-history */
	struct server *servers[WATCH_LISTEN_MAX];   /* one a --listen */
	size_t n_servers;
	struct process **processes;           /* in order of PID */
	size_t n, cap;
	uint64_t start_ns;
	uint64_t cpu_ns;                      /* used by us and our children, as of the last second */
	uint64_t next_choice_ns, next_interval_ns, next_alive_ns;
	uint64_t next_store_ns;               /* a history that could not be opened is tried again */
	uint64_t next_reading_ns;             /* readings are made together: not before */
	struct watch_self self;
	uint64_t turned_away;                 /* here; the finder has its own count */
	uint64_t unload_ns;                   /* when the kernel side is given back; 0: it is not loaded, or wanted */
	bool stop, output_failed;
	bool table;                           /* a terminal: a table that refreshes, events below */
	unsigned width, rows;
	char *recent[8];                      /* last lines of events under the table */
};

/* ---- watch_processes.c: found and lost, looked at from outside ---- */
extern const struct finder_events watch_finder_events;   /* ctx: a struct watch, to be set */
void watch_processes_step(struct watch *w, uint64_t now_ns);
uint64_t watch_processes_next_ns(const struct watch *w);
void watch_processes_free(struct watch *w);
struct process *watch_process(const struct watch *w, struct process_id id);
/* All of them; good until the next change. */
struct watch_view watch_view(const struct watch *w);

/* ---- watch_sampling.c: windows for those that grow ---- */
void watch_sampling_choose(struct watch *w, uint64_t now_ns);
void watch_sampling_step(struct watch *w, uint64_t now_ns);
uint64_t watch_sampling_next_ns(const struct watch *w);
/* The last report is drawn, and the attachment freed. */
void watch_sampling_end(struct watch *w, struct process *p, uint64_t now_ns);

/* ---- watch_say.c: events, the table, the history, alerts ---- */
void watch_say(struct watch *w, enum watch_event kind, struct process *p, const char *why);
void watch_alert_look(struct watch *w, struct process *p, uint64_t now_ns);
void watch_alert_gone(struct watch *w, struct process *p, uint64_t now_ns);
/* What is due at each interval: lines of those that changed, the table, the history. */
void watch_say_interval(struct watch *w, uint64_t now_ns);
/* It may be another file: every process is put into it again. */
void watch_store_anew(struct watch *w);
/* Opens the history; as store_open(). */
int watch_store_open(struct watch *w, struct err *err);
/* The size of the terminal. */
void watch_measure(struct watch *w);
/* Something of leaksnoop's own to standard error: "leaksnoop: ...". */
void watch_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
