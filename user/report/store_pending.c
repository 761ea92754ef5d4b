/* SPDX-License-Identifier: MIT */
/*
 * Events that are not on the disk yet. They are kept until a commit has them, so that a kill for want of memory is in the history also if the
 * disk was full at that moment. Bounded: of starts and ends of which nothing is known only the row of the process remains, and of the
 * rest the oldest go.
 */
#include <string.h>

#include "report/store_impl.h"
#include "target/proc.h"

static void pending_free(struct store_pending *p)
{
	strv_free((char **)p->w.cmdline);
	free((char *)p->w.container);
	json_decref(p->w.report);
	free(p->kind);
	free(p->text);
}

void store_forget_pending(struct store *store)
{
	for (size_t i = 0; i < store->n_pending; i++)
		pending_free(&store->pending[i]);
	store->n_pending = 0;
}

static char **strv_copy(const char *const *strv)
{
	size_t n = 0;
	char **copy;

	while (strv && strv[n] && n < STORE_CMDLINE_WORDS + 1)
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strndup(strv[i], STORE_CMDLINE_MAX);
		if (!copy[i])
			break;
	}
	return copy;
}

static bool is_worth_it(const struct watched *w, const char *kind)
{
	return w->has_verdict || w->end == PROCESS_OOM || (strcmp(kind, "start") != 0 && strcmp(kind, "exit") != 0);
}

void store_keep(struct store *store, const struct watched *w, const char *kind, const char *text, struct timespec now)
{
	struct store_pending *p;

	if (!is_worth_it(w, kind))
		return;
	if (store->n_pending == STORE_PENDING_MAX) {
		pending_free(&store->pending[0]);
		memmove(&store->pending[0], &store->pending[1], (STORE_PENDING_MAX - 1) * sizeof(*store->pending));
		store->n_pending--;
	}
	p = &store->pending[store->n_pending++];
	*p = (struct store_pending){ .w = *w, .kind = strdup(kind), .text = text ? strndup(text, STORE_TEXT_MAX) : NULL, .time = now };
	p->w.cmdline = w->cmdline ? (const char *const *)strv_copy(w->cmdline) : NULL;
	p->w.container = w->container ? strndup(w->container, STORE_TEXT_MAX) : NULL;
	json_incref(p->w.report);
	if (!p->kind)
		pending_free(&store->pending[--store->n_pending]);
}
