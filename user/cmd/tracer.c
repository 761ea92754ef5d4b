/* SPDX-License-Identifier: MIT */
/*
 * The kernel side that attachments share: one session, whose records go to the attachment they belong to. Invariant: a record of a target
 * index is of the process that has it now, since the ring is emptied before an index is given back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/tracer_impl.h"
#include "trace/watchdog.h"

struct tracer {
	struct tracer_options options;
	struct session *session;
	struct pipeline **pipelines;   /* by target index; NULL: nobody's */
	uint32_t attached;
	unsigned mappings;             /* attachments that follow them */
};

static int on_event(void *ctx, const void *data, size_t size)
{
	const struct tracer *t = ctx;
	const struct event_hdr *hdr = data;

	/* One more than attachments: index of a process that is measured, which sends nothing. */
	if (hdr->target > t->options.max_targets || !t->pipelines[hdr->target])
		return 0;
	return pipeline_on_event(t->pipelines[hdr->target], data, size);
}

int tracer_new(const struct tracer_options *options, struct tracer **ret_tracer, struct err *err)
{
	_cleanup_(tracer_freep) struct tracer *t = calloc(1, sizeof(*t));

	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	t->options = *options;
	t->pipelines = calloc(options->max_targets + 1, sizeof(struct pipeline *));
	if (!t->pipelines)
		return err_set(err, -ENOMEM, "out of memory");
	*ret_tracer = take_ptr(t);
	return 0;
}

int tracer_load(struct tracer *t, struct err *err)
{
	struct session_options session = {
		/* One more, to measure on ourselves what a hit costs. */
		.max_targets = t->options.max_targets + 1,
		.ring_bytes = t->options.ring_bytes,
		/* A window holds few blocks, and the table is gone through after each. */
		.nursery_slots = t->options.mode == TRACE_SAMPLED ? SESSION_NURSERY_SLOTS_SAMPLED : SESSION_NURSERY_SLOTS_DEFAULT,
		.sampled = t->options.mode == TRACE_SAMPLED || t->options.fall_back,
		.perf_uprobes = t->options.perf_uprobes,
	};

	return t->session ? 0 : session_new(&session, on_event, t, &t->session, err);
}

void tracer_unload(struct tracer *t)
{
	session_free(t->session);
	t->session = NULL;
}

void tracer_free(struct tracer *t)
{
	if (!t)
		return;
	session_free(t->session);
	free(t->pipelines);
	free(t);
}

struct session *tracer_session(struct tracer *t)
{
	return t->session;
}

int tracer_drain(struct tracer *t)
{
	return t->session ? session_drain(t->session) : 0;
}

int tracer_fd(const struct tracer *t)
{
	return t->session ? session_epoll_fd(t->session) : -1;
}

uint64_t tracer_watchdog_cpu_ns(const struct tracer *t)
{
	struct watchdog *watchdog = t->session ? session_watchdog(t->session) : NULL;

	return watchdog ? watchdog_cpu_ns(watchdog) : 0;
}

int tracer_enter(struct tracer *t, struct err *err)
{
	if (t->attached == t->options.max_targets)
		return err_set(err, -ENOSPC, "%u processes are traced already", t->options.max_targets);
	t->attached++;
	return 0;
}

void tracer_leave(struct tracer *t)
{
	t->attached--;
}

void tracer_deliver(struct tracer *t, uint32_t target, struct pipeline *pipeline)
{
	if (!pipeline)
		session_drain(t->session);
	t->pipelines[target] = pipeline;
}

int tracer_want_mappings(struct tracer *t, bool faults, struct err *err)
{
	int r = t->mappings ? 0 : session_trace_mappings(t->session, faults, err);

	if (!r)
		t->mappings++;
	return r;
}

void tracer_drop_mappings(struct tracer *t)
{
	if (!--t->mappings)
		session_ignore_mappings(t->session);
}
