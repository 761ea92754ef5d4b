/* SPDX-License-Identifier: MIT */
/*
 * Seizing threads. A thread that was asked to stop makes no others: clone() sees the request, or the new thread is seized with it
 * (PTRACE_O_TRACECLONE) and stops before its first instruction; but for one case: it was asked in the middle of clone(). So all are waited for, and
 * passes over /proc/PID/task go on until two in a row find nobody new and nobody running.
 *
 * A thread is out of its own code as soon as it was asked: the kernel interrupts it there, and lets it not go back before it has stopped. So one that
 * sleeps uninterruptibly (a dead network file system, vfork) counts as held, and so does one that still waits for a processor after PATIENCE_NS, on a
 * machine with thousands of others to run: hold_watch() would tell if that was in the middle of clone(). The kernel lets them go when
 * the holder exits.
 *
 * Invariant: a stop is looked at with WNOWAIT only. Then a signal that a thread was about to receive stays with it, and is delivered
 * also when the holder is killed and the kernel lets the thread go.
 */
#include "trace/freeze_hold.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/map64.h"

#define WAIT_NS 2000000000ull
#define ASLEEP_NS 20000000ull      /* so long a thread may take to stop before its state is looked at */
#define PATIENCE_NS 1000000000ull
#define PASS_US 50
#define PASSES_STILL 2

enum seized_state { SEIZED_ASKED, SEIZED_STOPPED, SEIZED_GONE };

struct seized {
	enum seized_state state;
	int signal;          /* that it was about to receive when it stopped */
	uint64_t asked_ns;
};

struct hold {
	pid_t pid;
	struct map64 *threads;   /* struct seized by TID */
};

/* State letter and tracer of a thread, from /proc/PID/task/TID/status; '\0' if it is gone. */
static char thread_state(pid_t pid, pid_t tid, pid_t *ret_tracer)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[64], line[128], state = '\0';
	int tracer = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "State: %c", &state) != 1 && sscanf(line, "TracerPid: %d", &tracer) == 1)
			break;
	*ret_tracer = tracer;
	return state;
}

static int refuse_traced(pid_t pid, pid_t tracer, struct err *err)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[64], name[32] = "another program";

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)tracer);
	f = fopen(path, "re");
	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = '\0';
	err_set(err, -EBUSY, "cannot stop process %d: it is traced by %s (PID %d)", pid, name, tracer);
	err_hint(err, "end that first, or leave out --freeze: reading works without");
	return -EBUSY;
}

/* Why was a thread not to be had? 1: it is ours already. 0: it is at its end anyway. */
static int explain_refusal(const struct hold *hold, pid_t tid, struct err *err)
{
	pid_t tracer;
	char state = thread_state(hold->pid, tid, &tracer);

	if (!state || state == 'Z' || state == 'X')
		return 0;
	if (tracer == getpid())
		return 1;
	if (tracer)
		return refuse_traced(hold->pid, tracer, err);
	err_set(err, -EPERM, "no permission to stop process %d", hold->pid);
	err_hint(err, "run as root (in a container with CAP_SYS_PTRACE), or leave out --freeze");
	return -EPERM;
}

/* 1: seized. 0: no need. */
static int seize(struct hold *hold, pid_t tid, struct err *err)
{
	struct seized *t;
	int r = 1;

	if (map64_get(hold->threads, (uint64_t)tid))
		return 0;
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)PTRACE_O_TRACECLONE) < 0)
		r = errno == ESRCH ? 0 : explain_refusal(hold, tid, err);
	if (r <= 0)
		return r;
	t = map64_put(hold->threads, (uint64_t)tid, NULL);
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	ptrace(PTRACE_INTERRUPT, tid, NULL, NULL);
	t->asked_ns = clock_mono_ns(&clock_real);
	return 1;
}

/* Returns how many were new. */
static int seize_new(struct hold *hold, struct err *err)
{
	struct dirent *entry;
	char path[32];
	int fresh = 0, r = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)hold->pid);
	dir = opendir(path);
	if (!dir)
		return err_set(err, errno == ENOENT ? -ESRCH : -errno, "no process %d", hold->pid);
	while (r >= 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		r = seize(hold, atoi(entry->d_name), err);
		fresh += r > 0;
	}
	closedir(dir);
	return r < 0 ? r : fresh;
}

/* Has it stopped or ended by now? (Stops of traced threads are reported whether they are asked for or not.) */
static void look(pid_t tid, struct seized *t)
{
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)tid, &info, WSTOPPED | WEXITED | WNOWAIT | WNOHANG | __WALL) < 0) {
		t->state = SEIZED_GONE;
	} else if (info.si_pid && info.si_code == CLD_TRAPPED) {
		t->state = SEIZED_STOPPED;
		/* no ptrace event in the upper byte: it stopped with a signal in hand */
		t->signal = info.si_status >> 8 ? 0 : info.si_status & 0x7f;
	} else if (info.si_pid) {
		waitid(P_PID, (id_t)tid, &info, WEXITED | WNOHANG | __WALL);
		t->state = SEIZED_GONE;
	}
}

/* It was asked this long ago, and has not been seen to stop. */
static bool counts_as_held(const struct hold *hold, pid_t tid, uint64_t since_ns)
{
	pid_t tracer;
	char state;

	if (since_ns < ASLEEP_NS || since_ns > PATIENCE_NS)
		return since_ns > PATIENCE_NS;
	state = thread_state(hold->pid, tid, &tracer);
	/* a leader whose end waits for that of the others is a zombie without an exit */
	return state == 'D' || state == 'Z';
}

static uint32_t count_running(struct hold *hold)
{
	uint64_t tid, now_ns = clock_mono_ns(&clock_real);
	struct seized *t;
	size_t cursor = 0;
	uint32_t running = 0;

	while ((t = map64_next(hold->threads, &cursor, &tid))) {
		if (t->state != SEIZED_ASKED)
			continue;
		look((pid_t)tid, t);
		running += t->state == SEIZED_ASKED && !counts_as_held(hold, (pid_t)tid, now_ns - t->asked_ns);
	}
	return running;
}

static int stop_all(struct hold *hold, struct err *err)
{
	uint64_t from_ns = clock_mono_ns(&clock_real);

	for (int still = 0; still < PASSES_STILL;) {
		int fresh = seize_new(hold, err);
		uint64_t took_ns = clock_mono_ns(&clock_real) - from_ns;
		uint32_t running;

		if (fresh < 0)
			return fresh;
		running = count_running(hold);
		still = fresh || running ? 0 : still + 1;
		if (still < PASSES_STILL && took_ns > WAIT_NS) {
			err_set(err, -ETIMEDOUT, "process %d does not hold still: it makes new threads all the time (%zu so far)", hold->pid,
				map64_count(hold->threads));
			err_hint(err, "leave out --freeze: reading works without");
			return -ETIMEDOUT;
		}
		if (running && !fresh)
			usleep(PASS_US);
	}
	return 0;
}

static void hold_free(struct hold *hold)
{
	map64_free(hold->threads);
	free(hold);
}
DEFINE_CLEANUP(struct hold, hold_free)

int hold_begin(pid_t pid, struct hold **ret_hold, struct err *err)
{
	_cleanup_(hold_freep) struct hold *hold = calloc(1, sizeof(*hold));
	int r;

	if (!hold || map64_new(sizeof(struct seized), &hold->threads) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	hold->pid = pid;
	r = stop_all(hold, err);
	if (r < 0)
		return r;
	if (hold_reap(hold) == 0)
		return err_set(err, -ESRCH, "process %d has ended", pid);
	*ret_hold = take_ptr(hold);
	return 0;
}

bool hold_watch(struct hold *hold)
{
	return seize_new(hold, NULL) == 0;
}

uint32_t hold_reap(struct hold *hold)
{
	struct seized *t;
	size_t cursor = 0;
	uint32_t left = 0;
	uint64_t tid;

	while ((t = map64_next(hold->threads, &cursor, &tid))) {
		if (t->state == SEIZED_GONE)
			continue;
		look((pid_t)tid, t);
		left += t->state != SEIZED_GONE;
	}
	return left;
}

void hold_end(struct hold *hold)
{
	struct seized *t;
	size_t cursor = 0;
	uint64_t tid;

	hold_reap(hold);
	while ((t = map64_next(hold->threads, &cursor, &tid)))
		if (t->state == SEIZED_STOPPED)
			ptrace(PTRACE_DETACH, (pid_t)tid, NULL, (void *)(intptr_t)t->signal);
	hold_free(hold);
}
