/* SPDX-License-Identifier: MIT */
/*
 * What a stop means, and how the thread goes on. A new thread's first stop and its maker's report of it come in any order: who comes first waits.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace/launch_impl.h"
#include "trace/watchpoint.h"

#define WATCH_MAGIC 0x6c6b736eull      /* in the upper half of a watchpoint's data; the lower is its serial number */
#define AUXV_MAX 64

static struct launch_process *process_of(const struct launch *l, pid_t pid)
{
	return map64_get(l->processes, (uint64_t)pid);
}

static struct launch_thread *thread_of(const struct launch *l, pid_t tid)
{
	return map64_get(l->threads, (uint64_t)tid);
}

void launch_forget_watch(struct launch_process *process)
{
	closep(&process->watch);
	process->watch = -1;
	process->watches_entry = false;
}

int launch_add(struct launch *l, pid_t pid, pid_t parent, struct launch_process **ret_process)
{
	bool is_new;
	struct launch_process *process = map64_put(l->processes, (uint64_t)pid, &is_new);

	if (!process)
		return -ENOMEM;
	if (!is_new)
		launch_forget_watch(process);
	*process = (struct launch_process){ .parent = parent, .watch = -1 };
	*ret_process = process;
	return 0;
}

static int watch(struct launch *l, pid_t pid, enum watchpoint_kind kind, raddr_t addr)
{
	struct launch_process *process = process_of(l, pid);
	int r;

	if (!process)
		return -ESRCH;
	launch_forget_watch(process);
	if (!addr.v)
		return 0;
	r = watchpoint_open(pid, kind, addr, WATCH_MAGIC << 32 | ++l->serial, &process->watch);
	if (r)
		return r;
	process->watch_serial = l->serial;
	process->watches_entry = kind == WATCHPOINT_EXECUTE;
	return 0;
}

int launch_watch(struct launch *l, pid_t pid, raddr_t slot)
{
	return watch(l, pid, WATCHPOINT_WRITE, slot);
}

/* The process may be gone from the table afterwards, or have moved. */
static void tell(struct launch *l, enum launch_what what, pid_t pid)
{
	const struct launch_process *process = process_of(l, pid);
	struct launch_event event = { .what = what, .pid = pid, .parent = process ? process->parent : 0 };

	if (process && l->fn)
		l->fn(l->ctx, &event);
}

/* How a thread goes on. What dies meanwhile tells by its end. */
static int resume(pid_t tid, int signal)
{
	return ptrace(PTRACE_CONT, tid, NULL, (void *)(long)signal) < 0 && errno != ESRCH ? -errno : 0;
}

pid_t launch_message(pid_t tid)
{
	unsigned long message = 0;

	ptrace(PTRACE_GETEVENTMSG, tid, NULL, &message);
	return (pid_t)message;
}

static int entry_point(pid_t pid, raddr_t *ret_entry)
{
	Elf64_auxv_t auxv[AUXV_MAX];
	_cleanup_(closep) int fd = -1;
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, auxv, sizeof(auxv));
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(auxv[0]); i++)
		if (auxv[i].a_type == AT_ENTRY && auxv[i].a_un.a_val) {
			*ret_entry = RADDR(auxv[i].a_un.a_val);
			return 0;
		}
	return -ENOENT;
}

int launch_watch_entry(struct launch *l, pid_t pid)
{
	raddr_t entry;
	int r = entry_point(pid, &entry);

	return r ?: watch(l, pid, WATCHPOINT_EXECUTE, entry);
}

/* A thread whose maker has told of it has stopped: before its first instruction, or at the end of a group's stop. */
static int begin(struct launch *l, pid_t tid)
{
	struct launch_thread *thread = thread_of(l, tid);
	const struct launch_process *process = thread ? process_of(l, thread->pid) : NULL;
	bool is_first = thread && !thread->begun;

	if (is_first)
		thread->begun = true;
	if (process && is_first && thread->pid == tid && !process->borrows)
		tell(l, LAUNCH_CHILD, tid);
	return resume(tid, 0);
}

/* Its maker tells of a new thread. */
static int note_new(struct launch *l, pid_t maker, pid_t tid, int event)
{
	const struct launch_thread *by = thread_of(l, maker);
	pid_t pid = by ? by->pid : 0;
	struct launch_process *process;
	struct launch_thread *thread;
	bool waits;
	int r = 0;

	if (event != PTRACE_EVENT_CLONE || syscall(SYS_tgkill, pid, tid, 0) < 0) {
		r = launch_add(l, tid, pid, &process);
		if (!r)
			process->borrows = event == PTRACE_EVENT_VFORK || syscall(SYS_kcmp, pid, tid, KCMP_VM, 0, 0) == 0;
		pid = tid;
	}
	thread = r ? NULL : map64_put(l->threads, (uint64_t)tid, NULL);
	if (!thread)
		return r ?: -ENOMEM;
	waits = thread->waits;
	*thread = (struct launch_thread){ .pid = pid };
	process = process_of(l, pid);
	if (process)
		process->running++;
	return waits ? begin(l, tid) : 0;
}

/* The thread that called exec is the only one left, and is called as the process is. */
static int note_exec(struct launch *l, pid_t pid)
{
	struct launch_process *process = process_of(l, pid);
	struct launch_thread *thread;
	size_t cursor = 0;
	uint64_t tid;

	if (!process)
		return 0;
	/* Removing may move others: begin anew. Few programs exec with other threads. */
	while ((thread = map64_next(l->threads, &cursor, &tid)))
		if (thread->pid == pid && (pid_t)tid != pid) {
			map64_remove(l->threads, tid, NULL);
			cursor = 0;
		}
	thread = map64_put(l->threads, (uint64_t)pid, NULL);
	if (!thread)
		return -ENOMEM;
	*thread = (struct launch_thread){ .pid = pid, .begun = true };
	l->execed |= pid == l->pid;
	process->running = 1;
	process->borrows = process->told_exit = false;
	launch_forget_watch(process);
	tell(l, LAUNCH_EXEC, pid);
	return 0;
}

/* Does the process end with this thread? By exit_group(), a signal, or as the last one. */
static bool ends_process(const struct launch_process *process, pid_t tid)
{
	struct user_regs_struct regs;

	if (!process->running || launch_message(tid) & 0x7f)
		return true;
	return !ptrace(PTRACE_GETREGS, tid, NULL, &regs) && regs.orig_rax == SYS_exit_group;
}

static void note_end(struct launch *l, pid_t tid)
{
	struct launch_thread *thread = thread_of(l, tid);
	struct launch_process *process = thread ? process_of(l, thread->pid) : NULL;

	if (!process || thread->at_end)
		return;
	thread->at_end = true;
	if (process->running)
		process->running--;
	if (process->told_exit || process->borrows || !ends_process(process, tid))
		return;
	process->told_exit = true;
	tell(l, LAUNCH_EXIT, thread->pid);
}

static int note_gone(struct launch *l, pid_t tid, int status)
{
	struct launch_thread thread = { 0 };
	struct launch_process *process;
	int error;

	map64_remove(l->threads, (uint64_t)tid, &thread);
	process = process_of(l, tid);
	if (tid == l->pid) {
		l->ended = true;
		l->status = status;
		if (!l->execed && read(l->failure, &error, sizeof(error)) == sizeof(error))
			l->error = -error;
	}
	/* Another thread than the first one: it may not have come by its end. */
	if (!process) {
		process = thread.pid && !thread.at_end ? process_of(l, thread.pid) : NULL;
		if (process && process->running)
			process->running--;
		return 0;
	}
	launch_forget_watch(process);
	tell(l, LAUNCH_GONE, tid);
	map64_remove(l->processes, (uint64_t)tid, NULL);
	return 0;
}

int launch_signal(pid_t tid, int status, uint64_t *ret_watch)
{
	siginfo_t info;
	uint64_t data;
	int signal = WSTOPSIG(status);

	*ret_watch = 0;
	/* A stop of another kind: nothing is to be delivered. */
	if (status >> 16)
		return 0;
	if (signal == SIGTRAP && !ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) && watchpoint_hit(&info, &data) && data >> 32 == WATCH_MAGIC) {
		*ret_watch = data;
		return 0;
	}
	return signal;
}

static int note_signal(struct launch *l, pid_t tid, int status)
{
	uint64_t data;
	int signal = launch_signal(tid, status, &data);
	struct launch_process *process = data ? process_of(l, tid) : NULL;

	if (process && process->watch >= 0 && process->watch_serial == (uint32_t)data) {
		bool entry = process->watches_entry;

		if (entry)
			launch_forget_watch(process);
		tell(l, entry ? LAUNCH_ENTRY : LAUNCH_WATCH, tid);
	}
	return resume(tid, signal);
}

/* PTRACE_EVENT_STOP: a first stop, a group's stop, or the end of one. */
static int note_stop(struct launch *l, pid_t tid, int signal)
{
	struct launch_thread *thread;
	bool is_new;

	if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
		return ptrace(PTRACE_LISTEN, tid, NULL, NULL) < 0 && errno != ESRCH ? -errno : 0;
	thread = map64_put(l->threads, (uint64_t)tid, &is_new);
	if (!thread)
		return -ENOMEM;
	if (is_new) {
		thread->waits = true;
		return 0;
	}
	return begin(l, tid);
}

int launch_handle(struct launch *l, pid_t tid, int status)
{
	int event = status >> 16, r = 0;

	l->stops++;
	if (!WIFSTOPPED(status))
		return note_gone(l, tid, status);
	switch (event) {
	case 0:
		return note_signal(l, tid, status);
	case PTRACE_EVENT_STOP:
		return note_stop(l, tid, WSTOPSIG(status));
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		r = note_new(l, tid, launch_message(tid), event);
		break;
	case PTRACE_EVENT_EXEC:
		r = note_exec(l, tid);
		break;
	case PTRACE_EVENT_EXIT:
		note_end(l, tid);
		break;
	}
	return resume(tid, 0) ?: r;
}
