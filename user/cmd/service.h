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

/* CAP_...: what watching needs. needed: without it nothing works; else without says what does not. docs/service.md tells how that was found. */
#define SERVICE_CAPABILITIES(X) \
	X(BPF, true, "no BPF program can be loaded") \
	X(PERFMON, true, "no BPF program can be loaded, no probe set") \
	X(SYS_PTRACE, true, "no process can be read") \
	X(DAC_OVERRIDE, false, "only root's own processes can be sampled") \
	X(CHECKPOINT_RESTORE, false, "programs and libraries that were deleted or replaced cannot be read") \
	X(SYS_NICE, false, "the watchdog of the windows has no real-time priority") \
	X(IPC_LOCK, false, "the watchdog of the windows is not locked in memory")

/*
 * Gives up, for good and for children, all capabilities but SERVICE_CAPABILITIES, and asks for no new privileges. Where some are missing
 * already, err (code 0) says which and what will not work; -EPERM if watching cannot work at all, and then nothing was given up.
 */
int service_drop_privileges(struct err *err);

/*
 * Runs an alert's command with /bin/sh -c, the event (JSON) on its standard input and LEAKSNOOP_KIND, LEAKSNOOP_PID, LEAKSNOOP_WHY in its
 * environment; at most SERVICE_COMMANDS_MAX at once (-EAGAIN), each ended after a minute, with all that it started and that did not leave its
 * process group. It is not waited for: service_reap() does that. It has leaksnoop's own privileges, its standard output is our standard error.
 */
#define SERVICE_COMMANDS_MAX 4
int service_command(const char *command, const json_t *event, struct err *err);
/* Collects those that ended; ends those that take too long. Returns how many still run; failures are logged to standard error. */
int service_reap(void);
/* Ends those that still run: leaksnoop goes. */
void service_end_commands(void);
