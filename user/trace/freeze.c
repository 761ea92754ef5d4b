/* SPDX-License-Identifier: MIT */
/*
 * The two ends of a freeze: the caller's, and the holder's process. A process of its own, since ptrace belongs to a thread: a caller
 * that is stopped could not let go, and one that waits for children of its own would find strange ones among them.
 */
#include "trace/freeze.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "target/proc.h"
#include "trace/freeze_hold.h"

#define LOOK_MS 50   /* how often the holder looks whether its caller is stopped and the target alive */

/* Of both processes. */
struct shared {
	_Atomic uint32_t held;      /* 1: from the time that all stand still until the first is let go */
	uint32_t threads;
	uint64_t from_ns;           /* when the first thread was asked to stop */
	struct err err;
};

struct freeze {
	pid_t pid, holder;
	int socket;
	struct shared *shared;
};

/* ---- in the holder's process ---- */

static bool is_stopped(pid_t pid)
{
	struct proc_stat stat;

	return proc_stat_read(pid, &stat) < 0 || stat.state == 'T';
}

static void holder_main(pid_t pid, pid_t caller, int socket, struct shared *shared)
{
	struct pollfd told = { .fd = socket, .events = POLLIN };
	struct hold *hold;

	shared->from_ns = clock_mono_ns(&clock_real);
	if (hold_begin(pid, &hold, &shared->err) < 0)
		return;
	shared->threads = hold_reap(hold);
	atomic_store(&shared->held, 1);
	if (send(socket, "h", 1, MSG_NOSIGNAL) == 1)
		while (poll(&told, 1, LOOK_MS) <= 0 && hold_reap(hold) > 0 && hold_watch(hold) && !is_stopped(caller))
			;
	/* told; or the caller is stopped, the target was killed, or something ran all the same */
	if (!told.revents)
		atomic_store(&shared->held, 0);
	hold_end(hold);
}

static void holder_start(pid_t pid, pid_t caller, int socket, struct shared *shared)
{
	const struct sched_param fifo = { .sched_priority = 1 };
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != caller)
		_exit(1);
	/* Ctrl-C and Ctrl-Z of the terminal pass it by */
	setsid();
	prctl(PR_SET_NAME, "leaksnoop-hold");
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* the less time a process spends half stopped the better; without the right to it, it takes longer */
	sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo);
	holder_main(pid, caller, socket, shared);
	_exit(0);
}

/* ---- in the caller's ---- */

static int start_holder(struct freeze *freeze)
{
	pid_t caller = getpid();
	sigset_t all, before;
	int sockets[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return -errno;
	freeze->socket = sockets[0];
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	freeze->holder = fork();
	if (freeze->holder == 0) {
		close(sockets[0]);
		holder_start(freeze->pid, caller, sockets[1], freeze->shared);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(sockets[1]);
	return freeze->holder < 0 ? -errno : 0;
}

/* Until the holder says that all stand still, or ends. */
static bool wait_held(const struct freeze *freeze)
{
	ssize_t n;
	char c;

	do
		n = recv(freeze->socket, &c, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

int freeze_begin(pid_t pid, struct freeze **ret_freeze, struct err *err)
{
	_cleanup_(freeze_endp) struct freeze *freeze = calloc(1, sizeof(*freeze));
	int r;

	if (!freeze)
		return err_set(err, -ENOMEM, "out of memory");
	freeze->socket = -1;
	freeze->pid = pid;
	if (pid <= 0)
		return err_set(err, -ESRCH, "no process %d", pid);
	if (pid == getpid())
		return err_set(err, -EINVAL, "cannot stop process %d: that is leaksnoop itself", pid);
	freeze->shared = mmap(NULL, sizeof(*freeze->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (freeze->shared == MAP_FAILED) {
		freeze->shared = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = start_holder(freeze);
	if (r < 0)
		return err_set(err, r, "cannot stop process %d: %s", pid, strerror(-r));
	if (!wait_held(freeze)) {
		r = freeze->shared->err.code < 0 ? freeze->shared->err.code : -EIO;
		if (r == -EIO)
			return err_set(err, r, "cannot stop process %d: the process that was to hold it has ended", pid);
		if (err)
			*err = freeze->shared->err;
		return r;
	}
	*ret_freeze = take_ptr(freeze);
	return 0;
}

void freeze_end(struct freeze *freeze)
{
	if (!freeze)
		return;
	if (freeze->socket >= 0) {
		/* a byte, not the end of the socket: another child of ours may have its other end open */
		(void)send(freeze->socket, "e", 1, MSG_NOSIGNAL);
		close(freeze->socket);
	}
	while (freeze->holder > 0 && waitpid(freeze->holder, NULL, 0) < 0 && errno == EINTR)
		;
	if (freeze->shared)
		munmap(freeze->shared, sizeof(*freeze->shared));
	free(freeze);
}

bool freeze_holds(const struct freeze *freeze)
{
	siginfo_t info = { 0 };

	if (waitid(P_PID, (id_t)freeze->holder, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid)
		return false;
	return atomic_load(&freeze->shared->held);
}

uint32_t freeze_threads(const struct freeze *freeze)
{
	return freeze->shared->threads;
}

double freeze_seconds(const struct freeze *freeze)
{
	return clock_seconds_since(&clock_real, freeze->shared->from_ns);
}
