/* SPDX-License-Identifier: MIT */
/*
 * The command's process, and the waiting. waitid() looks first and takes then (WNOWAIT), since this process may have children that are somebody
 * else's (the watchdog of windows): the end of one of these must be left to who made it. Then tracees are asked one by one.
 */
#include "trace/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "trace/launch_impl.h"

#define STEP_STOPS 256             /* a step handles so many, that the caller gets to other things */
#define LET_GO_NS 1000000L
#define LET_GO_TRIES 1000

#define OPTIONS (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

/* The child: waits for the byte, becomes the command. */
__attribute__((noreturn))
static void become(char *const *argv, int go, int failure)
{
	char byte;
	int error;
	ssize_t n;

	while ((n = read(go, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n == 1) {
		execvp(argv[0], argv);
		error = errno;
		n = write(failure, &error, sizeof(error));
	}
	_exit(127);
}

static int start(struct launch *l, char *const *argv)
{
	_cleanup_(closep) int go_read = -1, failure_write = -1;
	int go[2], failure[2];

	if (pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	go_read = go[0];
	l->go = go[1];
	if (pipe2(failure, O_CLOEXEC) < 0)
		return -errno;
	l->failure = failure[0];
	failure_write = failure[1];
	l->pid = fork();
	if (l->pid < 0)
		return -errno;
	if (!l->pid) {
		/* Its end of the pipe is the parent's alone, so that it reads the end of it if the parent dies. */
		close(l->go);
		become(argv, go_read, failure_write);
	}
	return ptrace(PTRACE_SEIZE, l->pid, NULL, (void *)OPTIONS) < 0 ? -errno : 0;
}

int launch_new(char *const *argv, struct launch **ret_launch, struct err *err)
{
	_cleanup_(launch_freep) struct launch *l = calloc(1, sizeof(*l));
	struct launch_process *process;
	struct launch_thread *thread;
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->go = l->failure = -1;
	r = map64_new(sizeof(struct launch_process), &l->processes);
	if (!r)
		r = map64_new(sizeof(struct launch_thread), &l->threads);
	if (!r)
		r = start(l, argv);
	if (!r)
		r = launch_add(l, l->pid, getpid(), &process);
	thread = r ? NULL : map64_put(l->threads, (uint64_t)l->pid, NULL);
	if (!r && !thread)
		r = -ENOMEM;
	if (r)
		return err_set(err, r, "cannot start a process and trace it: %s", strerror(-r));
	*thread = (struct launch_thread){ .pid = l->pid, .begun = true };
	process->running = 1;
	*ret_launch = take_ptr(l);
	return 0;
}

int launch_go(struct launch *l)
{
	ssize_t n = write(l->go, "", 1);
	int r = n == 1 ? 0 : -errno;

	close(take_fd(&l->go));
	return r;
}

/* Of /proc/TID/status; -1: it is gone. */
static void read_ids(pid_t tid, int *ret_tgid, int *ret_ppid)
{
	_cleanup_(fclosep) FILE *f = NULL;
	char path[64], line[256];

	*ret_tgid = *ret_ppid = -1;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Tgid: %d", ret_tgid) != 1 && sscanf(line, "PPid: %d", ret_ppid) == 1)
			break;
}

/* A child of this process that is no part of the command. */
static bool is_foreign(const struct launch *l, const siginfo_t *info)
{
	int tgid, ppid;

	if (info->si_code == CLD_TRAPPED || map64_get(l->threads, (uint64_t)info->si_pid))
		return false;
	read_ids(info->si_pid, &tgid, &ppid);
	return tgid == info->si_pid && ppid == getpid();
}

/* One by one. Returns the number handled or a negative errno. */
static int ask_each(struct launch *l)
{
	size_t n = map64_count(l->threads), cursor = 0, count = 0;
	_cleanup_(freep) pid_t *tids = calloc(n + 1, sizeof(*tids));
	int handled = 0, status, r = 0;
	uint64_t key;

	if (!tids)
		return -ENOMEM;
	while (count < n && map64_next(l->threads, &cursor, &key))
		tids[count++] = (pid_t)key;
	for (size_t i = 0; i < count && r >= 0; i++) {
		if (waitpid(tids[i], &status, __WALL | WNOHANG) != tids[i])
			continue;
		r = launch_handle(l, tids[i], status);
		handled++;
	}
	return r < 0 ? r : handled;
}

/* 1: a stop was handled, 0: there is none. */
static int handle_next(struct launch *l)
{
	siginfo_t info = { 0 };
	int status;

	if (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) < 0)
		return errno == ECHILD ? 0 : -errno;
	if (!info.si_pid)
		return 0;
	if (is_foreign(l, &info))
		return ask_each(l);
	if (waitpid(info.si_pid, &status, __WALL | WNOHANG) != info.si_pid)
		return 0;
	return launch_handle(l, info.si_pid, status) ?: 1;
}

int launch_step(struct launch *l, launch_fn fn, void *ctx)
{
	int r = 1;

	l->fn = fn;
	l->ctx = ctx;
	for (int i = 0; i < STEP_STOPS && r > 0; i++)
		r = handle_next(l);
	return r < 0 ? r : 0;
}

pid_t launch_pid(const struct launch *l)
{
	return l->pid;
}

bool launch_has_ended(const struct launch *l, int *ret_status)
{
	if (l->ended)
		*ret_status = l->status;
	return l->ended;
}

int launch_failure(const struct launch *l)
{
	return l->error;
}

uint64_t launch_stops(const struct launch *l)
{
	return l->stops;
}

/* Whoever stopped at a fork has made another, which is traced, too; unless it was let go already. */
static void note_last_born(struct launch *l, pid_t tid, int event)
{
	pid_t born = launch_message(tid);

	if ((event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) && born > 0 &&
	    !ptrace(PTRACE_INTERRUPT, born, NULL, NULL))
		(void)map64_put(l->threads, (uint64_t)born, NULL);
}

/* Lets those go that have stopped: the kernel allows it only then. */
static void let_go_step(struct launch *l)
{
	siginfo_t info = { 0 };
	uint64_t watch;
	int status;

	while (!waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) && info.si_pid && !is_foreign(l, &info)) {
		pid_t tid = info.si_pid;

		if (waitpid(tid, &status, __WALL | WNOHANG) != tid)
			return;
		if (WIFSTOPPED(status))
			note_last_born(l, tid, status >> 16);
		if (WIFSTOPPED(status))
			ptrace(PTRACE_DETACH, tid, NULL, (void *)(long)launch_signal(tid, status, &watch));
		map64_remove(l->threads, (uint64_t)tid, NULL);
		info.si_pid = 0;
	}
}

static void let_go(struct launch *l)
{
	struct timespec pause = { .tv_nsec = LET_GO_NS };
	size_t cursor = 0;
	uint64_t tid;

	while (map64_next(l->threads, &cursor, &tid))
		if (ptrace(PTRACE_INTERRUPT, (pid_t)tid, NULL, NULL) < 0 && errno == ESRCH)
			/* Stopped where it need not be asked, or gone. */
			ptrace(PTRACE_DETACH, (pid_t)tid, NULL, NULL);
	/* Who does not stop in time is let go by the kernel when we end. */
	for (int i = 0; i < LET_GO_TRIES && map64_count(l->threads); i++) {
		let_go_step(l);
		if (map64_count(l->threads))
			nanosleep(&pause, NULL);
	}
}

void launch_free(struct launch *l)
{
	struct launch_process *process;
	size_t cursor = 0;
	uint64_t pid;

	if (!l)
		return;
	closep(&l->go);
	while (l->processes && (process = map64_next(l->processes, &cursor, &pid)))
		launch_forget_watch(process);
	if (l->threads)
		let_go(l);
	closep(&l->failure);
	map64_free(l->processes);
	map64_free(l->threads);
	free(l);
}
