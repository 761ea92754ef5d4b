/* SPDX-License-Identifier: MIT */
/* Being a service: readiness and watchdog of systemd, capabilities given up, commands of alerts. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Tells the service manager, if there is one (NOTIFY_SOCKET). */
void service_ready(const char *status);
void service_status(const char *status);
void service_stopping(void);
/* How often service_alive() must be called, ns; 0: nobody asks. */
uint64_t service_watchdog_ns(void);
void service_alive(void);

/*
 * Gives up, for good and for children, all capabilities but those that watching needs (docs/service.md says what each is for), and asks for
 * no new privileges. Where some are missing already, err says which and what will not work: -EPERM if watching cannot work at all.
 */
int service_drop_privileges(struct err *err);

/*
 * Runs an alert's command with /bin/sh -c, the event (JSON) on its standard input and LEAKSNOOP_KIND, LEAKSNOOP_PID, LEAKSNOOP_WHY in its
 * environment; at most service_commands_max at once, each ended after a minute. It is not waited for: service_reap() does that.
 */
#define SERVICE_COMMANDS_MAX 4
int service_command(const char *command, const json_t *event, struct err *err);
/* Collects those that ended; ends those that take too long. Returns how many still run; failures are logged to standard error. */
int service_reap(void);
