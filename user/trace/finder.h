/* SPDX-License-Identifier: MIT */
/*
 * Which Python processes there are: those at the start, those that come by exec, by fork of one that is known, or by mapping libpython
 * into another program, and those that go. Told by the kernel as it happens (bpf/finder.bpf.c: exec, fork, exit, the OOM killer's choice;
 * perf's records of executable mappings: libpython), in all PID namespaces; when notices were lost, all processes are listed anew.
 *
 * A process is told of once it has lived settle_ns, so that the many that live shorter cost next to nothing. It is named by PID and start
 * time, so that a PID used again is another process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "target/process_id.h"

struct finder_options {
	uint64_t settle_ns;                /* 0: at once */
	size_t max;                        /* processes known at once; more are turned away and counted */
	/* filters; a process passes if each kind that is given has a match. Arrays end in NULL */
	const pid_t *pids;                 /* zero-terminated; NULL: all */
	const char *const *comms;          /* globs on the command's name, or on argv[0]'s or the script's base name */
	const char *const *cgroups;        /* the process lives at or below that cgroup; a path below the cgroup mount, or with it */
	const uid_t *uids;
	size_t n_uids;
	/* 0: as they should be. For tests */
	uint32_t ring_bytes;               /* of the notices' ring: a power of two, at least a page */
	uint32_t young_max;                /* processes that have not settled yet, at once */
};

struct found {
	struct process_id id;
	pid_t ppid;
	uid_t uid;
	char comm[16];
	bool forked;                       /* a child of a Python that has not run another program since */
	const char *image;                 /* path of the image with _PyRuntime, as the process sees it */
};

/* Both are called from within finder_step() and finder_start(). */
struct finder_events {
	void (*found)(void *ctx, const struct found *found);
	/* code: exit status or signal. At the moment of an exit the process may still have its PID, but no memory. */
	void (*lost)(void *ctx, struct process_id id, enum process_end end, int code);
	void *ctx;
};

struct finder_totals {
	uint64_t starts;                   /* execs and forks noticed */
	uint64_t looked_at;                /* processes whose images were looked at */
	uint64_t missed;                   /* notices lost */
	uint64_t turned_away;              /* Pythons for which there was no room, and processes that we may not look into */
};

struct finder;

/* Loads its BPF programs. -EPERM, -ENOTSUP; err says what. */
int finder_new(const struct finder_options *options, const struct finder_events *events, struct finder **ret_finder, struct err *err);
/* Tells of those that are there now. */
int finder_start(struct finder *finder, struct err *err);
void finder_free(struct finder *finder);
DEFINE_CLEANUP(struct finder, finder_free)

/* Readable when there is something to step for. */
int finder_fd(const struct finder *finder);
/* When finder_step() is due at the latest, CLOCK_MONOTONIC. */
uint64_t finder_next_ns(const struct finder *finder);
int finder_step(struct finder *finder, uint64_t now_ns);
struct finder_totals finder_totals(const struct finder *finder);
