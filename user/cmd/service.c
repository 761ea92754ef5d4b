/* SPDX-License-Identifier: MIT */
/* What the service manager is told, and the privileges that are kept. Commands of alerts: service_command.c. */
#include "cmd/service.h"

#include <cap-ng.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>

#include "base/cleanup.h"
#include "base/strbuf.h"

/* ---- the service manager ---- */

/* An assignment a line: a line break in a status would begin another. */
static void notify(const char *state, const char *status)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;

	strbuf_append(&buf, state);
	if (status) {
		strbuf_append(&buf, "STATUS=");
		for (; *status; status++)
			strbuf_append_c(&buf, (unsigned char)*status < ' ' ? ' ' : *status);
	}
	if (!strbuf_error(&buf))
		sd_notify(0, strbuf_str(&buf));
}

void service_ready(const char *status)
{
	notify("READY=1\n", status);
}

void service_status(const char *status)
{
	notify("", status);
}

void service_stopping(void)
{
	notify("STOPPING=1\n", NULL);
}

uint64_t service_watchdog_ns(void)
{
	uint64_t usec = 0;

	/* Half of what it waits, as sd_watchdog_enabled(3) advises. */
	return sd_watchdog_enabled(0, &usec) > 0 ? usec * 1000 / 2 : 0;
}

void service_alive(void)
{
	notify("WATCHDOG=1\n", NULL);
}

/* ---- capabilities ---- */

static const struct capability {
	unsigned number;
	bool needed;
	const char *name, *without;
} capabilities[] = {
#define X(name, needed, without) { CAP_##name, needed, "CAP_" #name, without },
	SERVICE_CAPABILITIES(X)
#undef X
};

#define CAPABILITIES (sizeof(capabilities) / sizeof(capabilities[0]))

/* What is missing, in words. -EPERM: something without which nothing works. */
static int check_missing(struct err *err)
{
	_cleanup_(strbuf_free) struct strbuf names = STRBUF_INIT, without = STRBUF_INIT;
	bool needed = false;

	for (size_t i = 0; i < CAPABILITIES; i++) {
		const struct capability *c = &capabilities[i];

		if (capng_have_capability(CAPNG_PERMITTED, c->number))
			continue;
		needed = needed || c->needed;
		strbuf_appendf(&names, "%s%s", names.len ? ", " : "", c->name);
		strbuf_appendf(&without, "%s%s", without.len ? "; " : "", c->without);
	}
	if (!names.len)
		return 0;
	err_set(err, needed ? -EPERM : 0, "%s %s: %s", needed ? "cannot watch without" : "not all privileges:", strbuf_str(&names),
		strbuf_str(&without));
	err_hint(err, "run as root, or give them to the service (CapabilityBoundingSet=)");
	return needed ? -EPERM : 0;
}

int service_drop_privileges(struct err *err)
{
	bool bounding;
	int r;

	if (err)
		*err = (struct err){ 0 };
	if (capng_get_caps_process())
		return err_set(err, -EPERM, "cannot read our own capabilities");
	r = check_missing(err);
	if (r < 0)
		return r;
	bounding = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
	for (unsigned n = 0; n <= CAP_LAST_CAP; n++) {
		bool keep = false;

		for (size_t i = 0; i < CAPABILITIES; i++)
			keep = keep || capabilities[i].number == n;
		keep = keep && capng_have_capability(CAPNG_PERMITTED, n);
		capng_update(keep ? CAPNG_ADD : CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED, n);
		capng_update(CAPNG_DROP, CAPNG_INHERITABLE | CAPNG_AMBIENT, n);
		if (bounding && !keep)
			capng_update(CAPNG_DROP, CAPNG_BOUNDING_SET, n);
	}
	/* First: without it, and where the bounding set cannot be cut, a program that root runs would have all of them again. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(err, -errno, "cannot give up new privileges: %s", strerror(errno));
	r = capng_apply(bounding ? CAPNG_SELECT_ALL : CAPNG_SELECT_CAPS | CAPNG_SELECT_AMBIENT);
	if (r)
		return err_set(err, -EPERM, "cannot give up capabilities: error %d", r);
	return 0;
}
