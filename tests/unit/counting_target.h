/* SPDX-License-Identifier: MIT */
/* Targets that count, in memory shared with the test, so that it sees whether they run. Any failure fails the test. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "trace/freeze.h"

#define COUNTING_THREADS 40
#define COUNTING_SLOTS 256

/* Of a target and the test. */
struct counting {
	_Atomic uint64_t counters[COUNTING_SLOTS];
	_Atomic uint64_t made;       /* threads, ever */
	_Atomic uint32_t ready, signals, interrupted;
	_Atomic int error;
};

extern struct counting *counting;

/* A setup of a group of tests. */
int counting_setup(void **state);
/* Forks a target that works until it is killed; returns when it has set counting->ready. */
pid_t counting_start(void (*work)(void));
void counting_stop(pid_t pid);
uint64_t counting_sum(void);
void expect_runs(void);
/* It is held, and nothing of it runs. */
void expect_stands(const struct freeze *freeze);
/* No stop of it is shown to its parent, which is this test. */
void expect_unseen(pid_t pid);
struct freeze *freeze_now(pid_t pid);

/* For targets: a detached thread; one that counts for ever (arg: its counter); a target of COUNTING_THREADS + 1 of these. */
void thread_new(void *(*fn)(void *), void *arg);
void *count_on(void *arg);
void many_threads(void);
