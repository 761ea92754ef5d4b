/* SPDX-License-Identifier: MIT */
/*
 * A second process that ends windows when the tracer does not: because it is
 * stopped, starved, swapped out or killed. It has the slots and a descriptor of
 * the target's memory of its own, real-time priority where that is allowed, locked
 * memory, a session of its own (Ctrl-Z and Ctrl-C of the terminal pass it by), and
 * nothing else to do.
 *
 * It disarms a group whose deadline passed some 0.3 ms ago, at once when the BPF
 * programs say that a window was hit too often, and everything when the tracer is
 * gone; then it ends. A window that the tracer does not close is disarmed again,
 * ever less often: the tracer may have been held up amid its arming. If both are
 * killed, slots stay armed: harmless, and restored at the next start.
 */
#pragma once

#include <stdint.h>

#include "../bpf/control.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "trace/arm.h"

struct watchdog;

/* alarms_fd: the map of struct window_alarm. */
int watchdog_start(int alarms_fd, uint32_t max_targets, struct watchdog **ret_watchdog, struct err *err);
/* Ends it and waits for that. Groups still open are disarmed. */
void watchdog_stop(struct watchdog *watchdog);
DEFINE_CLEANUP(struct watchdog, watchdog_stop)

/* Hands it the slots of a group. */
int watchdog_guard(struct watchdog *watchdog, uint32_t target, enum window_group group, const struct arming *arming);
void watchdog_forget(struct watchdog *watchdog, uint32_t target);

/* Before arming: from now on the group may be armed, until deadline_ns (CLOCK_MONOTONIC). Again, to move the deadline. -EBUSY: it is at work on
 * the window before; -ECHILD: it is dead, and nothing may be armed. */
int watchdog_open(struct watchdog *watchdog, uint32_t target, enum window_group group, uint64_t deadline_ns);
/* After disarming. */
void watchdog_close(struct watchdog *watchdog, uint32_t target, enum window_group group);

/* Windows that it had to end, so far. */
uint64_t watchdog_ended(const struct watchdog *watchdog);
/* Processor time it has used, while it lives; once it has been waited for that is in getrusage(RUSAGE_CHILDREN), and this is 0. */
uint64_t watchdog_cpu_ns(const struct watchdog *watchdog);
