/* SPDX-License-Identifier: MIT */
#include "trace/watchdog.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* How late the tracer may be before it is helped. */
#define GRACE_NS 300000ull
/* A window that is not closed is disarmed again and again, ever less often: the tracer may have stopped amid its arming. */
#define AGAIN_MIN_NS 1000000ull
#define AGAIN_MAX_NS 100000000ull
#define BUSY_SPINS 2000
#define NEVER UINT64_MAX

/* One group of a target. Shared by both processes. */
struct guard {
	_Atomic uint64_t deadline_ns;   /* 0: not armed */
	_Atomic uint32_t busy;          /* it is being disarmed by the watchdog */
	uint32_t reserved;
};

struct shared {
	_Atomic uint64_t sleeps_until_ns;
	_Atomic uint64_t ended;
	struct guard guards[MAX_TARGETS][WINDOW_GROUP_COUNT];
};

/* To the watchdog, with a descriptor of the target's memory. */
struct order {
	uint32_t target, group;
	uint32_t guard;                 /* 0: forget the target */
	uint32_t size;
	uint8_t arming[ARMING_PACKED_MAX];
};

struct watchdog {
	pid_t pid;
	int socket, poke;
	bool dead;
	struct shared *shared;
};

/* ---- in the watchdog's process ---- */

/* A window that was disarmed here: the deadline it had, and when that is done again. */
struct late {
	uint64_t deadline_ns, again_ns, pause_ns;
};

struct dog {
	int socket, poke;
	uint32_t max_targets;
	struct shared *shared;
	struct ring_buffer *alarms;
	struct arming *armings[MAX_TARGETS][WINDOW_GROUP_COUNT];
	struct late late[MAX_TARGETS][WINDOW_GROUP_COUNT];
};

/* Returns whether it is the first time for this deadline. */
static bool late_note(struct late *l, uint64_t deadline_ns)
{
	bool first = l->deadline_ns != deadline_ns;

	l->pause_ns = first ? AGAIN_MIN_NS : 2 * l->pause_ns < AGAIN_MAX_NS ? 2 * l->pause_ns : AGAIN_MAX_NS;
	l->deadline_ns = deadline_ns;
	l->again_ns = clock_mono_ns(&clock_real) + l->pause_ns;
	return first;
}

static void dog_disarm(struct dog *d, uint32_t target, uint32_t group, uint64_t late_at_ns)
{
	struct guard *g = &d->shared->guards[target][group];
	uint64_t deadline_ns;

	if (!d->armings[target][group])
		return;
	atomic_store(&g->busy, 1);
	/* The tracer may have moved it meanwhile: it looks at busy after it has written the deadline. */
	deadline_ns = atomic_load(&g->deadline_ns);
	if (deadline_ns && deadline_ns <= late_at_ns) {
		arming_disarm(d->armings[target][group]);
		/* The deadline stays until the tracer says that the window is closed, or opens the next. */
		if (late_note(&d->late[target][group], deadline_ns))
			atomic_fetch_add(&d->shared->ended, 1);
	}
	atomic_store(&g->busy, 0);
}

static void dog_disarm_all(struct dog *d)
{
	for (uint32_t t = 0; t < d->max_targets; t++)
		for (uint32_t g = 0; g < WINDOW_GROUP_COUNT; g++)
			dog_disarm(d, t, g, NEVER);
}

/* A ring_buffer_sample_fn. */
static int dog_on_alarm(void *ctx, void *data, size_t size)
{
	const struct window_alarm *alarm = data;
	struct dog *d = ctx;

	if (size >= sizeof(*alarm) && alarm->target < d->max_targets && alarm->group < WINDOW_GROUP_COUNT)
		dog_disarm(d, alarm->target, alarm->group, NEVER);
	return 0;
}

/* 0: the tracer is gone. */
static ssize_t dog_receive(struct dog *d, struct order *order, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes) };
	ssize_t n = recvmsg(d->socket, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return n < 0 ? -errno : n;
}

/* Returns false when the tracer is gone. */
static bool dog_obey(struct dog *d)
{
	struct order order;
	int fd;
	ssize_t n = dog_receive(d, &order, &fd);

	if (n < 0)
		return n == -EAGAIN || n == -EINTR;
	if (n != sizeof(order) || order.target >= d->max_targets || order.group >= WINDOW_GROUP_COUNT)
		return false;
	if (order.guard) {
		arming_free(d->armings[order.target][order.group]);
		d->armings[order.target][order.group] = NULL;
		arming_unpack(order.arming, order.size, fd, &d->armings[order.target][order.group]);
		return true;
	}
	for (uint32_t g = 0; g < WINDOW_GROUP_COUNT; g++) {
		arming_free(d->armings[order.target][g]);
		d->armings[order.target][g] = NULL;
	}
	return true;
}

/* When a group is to be disarmed, and up to which deadline it is late then. */
static uint64_t dog_due(const struct dog *d, uint32_t target, uint32_t group, uint64_t *ret_late_at_ns)
{
	uint64_t deadline_ns = atomic_load(&d->shared->guards[target][group].deadline_ns);
	const struct late *l = &d->late[target][group];

	*ret_late_at_ns = deadline_ns;
	if (!deadline_ns || !d->armings[target][group])
		return NEVER;
	return l->deadline_ns == deadline_ns ? l->again_ns : deadline_ns + GRACE_NS;
}

/* Disarms what is late. Returns when the next is. */
static uint64_t dog_look(struct dog *d, uint64_t now_ns)
{
	uint64_t next_ns = NEVER;

	for (uint32_t t = 0; t < d->max_targets; t++) {
		for (uint32_t g = 0; g < WINDOW_GROUP_COUNT; g++) {
			uint64_t late_at_ns, due_ns = dog_due(d, t, g, &late_at_ns);

			if (due_ns <= now_ns) {
				dog_disarm(d, t, g, late_at_ns);
				due_ns = dog_due(d, t, g, &late_at_ns);
			}
			if (due_ns < next_ns)
				next_ns = due_ns;
		}
	}
	return next_ns;
}

static void dog_run(struct dog *d)
{
	struct pollfd fds[] = {
		{ .fd = d->socket, .events = POLLIN },
		{ .fd = d->poke, .events = POLLIN },
		{ .fd = ring_buffer__epoll_fd(d->alarms), .events = POLLIN },
	};

	for (;;) {
		uint64_t now_ns = clock_mono_ns(&clock_real), until_ns = dog_look(d, now_ns), pokes;
		struct timespec timeout;

		atomic_store(&d->shared->sleeps_until_ns, until_ns);
		/* A deadline set before the tracer could see how long we sleep. */
		until_ns = dog_look(d, now_ns);
		if (until_ns > now_ns + 1000000000ull)
			until_ns = now_ns + 1000000000ull;
		timeout = (struct timespec){ .tv_nsec = (long)(until_ns > now_ns ? (until_ns - now_ns) % 1000000000ull : 0),
					     .tv_sec = until_ns >= now_ns + 1000000000ull };
		if (ppoll(fds, 3, &timeout, NULL) < 0)
			continue;
		if (fds[2].revents)
			ring_buffer__consume(d->alarms);
		if (fds[1].revents && read(d->poke, &pokes, sizeof(pokes)) < 0)
			continue;
		if (fds[0].revents && !dog_obey(d))
			return;
	}
}

/* Only what it needs stays open: a descriptor kept would keep probes alive that the tracer wants gone. */
static int dog_close_others(struct dog *d, int *alarms_fd)
{
	int keep[] = { d->socket, d->poke, *alarms_fd };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++) {
		keep[i] = fcntl(keep[i], F_DUPFD_CLOEXEC, 64);
		if (keep[i] < 0)
			return -errno;
	}
	/* Only then: a tracer started without standard descriptors has others there. */
	for (int i = 0; i < 3; i++) {
		dup2(null, i);
		if (dup2(keep[i], 3 + i) < 0)
			return -errno;
	}
	close_range(6, ~0u, 0);
	d->socket = 3;
	d->poke = 4;
	*alarms_fd = 5;
	return 0;
}

static void dog_main(struct dog *d, int alarms_fd)
{
	const struct sched_param fifo = { .sched_priority = 1 };
	sigset_t none;

	setsid();
	prctl(PR_SET_NAME, "leaksnoop-guard");
	prctl(PR_SET_TIMERSLACK, 1000);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dog_close_others(d, &alarms_fd))
		return;
	d->alarms = ring_buffer__new(alarms_fd, dog_on_alarm, d, NULL);
	if (!d->alarms)
		return;
	/* Both help on a machine in trouble; without them it still does its duty. */
	mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
	if (sched_setscheduler(0, SCHED_FIFO, &fifo))
		setpriority(PRIO_PROCESS, 0, -20);
	dog_run(d);
	dog_disarm_all(d);
}

/* ---- in the tracer ---- */

int watchdog_start(int alarms_fd, uint32_t max_targets, struct watchdog **ret_watchdog, struct err *err)
{
	_cleanup_(watchdog_stopp) struct watchdog *w = calloc(1, sizeof(*w));
	sigset_t all, before;
	int sockets[2];

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->socket = w->poke = -1;
	w->shared = mmap(NULL, sizeof(*w->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->shared == MAP_FAILED)
		w->shared = NULL;
	w->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!w->shared || w->poke < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return err_set(err, -errno, "cannot start the watchdog: %s", strerror(errno));
	w->socket = sockets[0];
	/* A Ctrl-C must not meet it before it has said that it does not care. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	w->pid = fork();
	if (!w->pid) {
		struct dog *d = calloc(1, sizeof(*d));

		if (d) {
			*d = (struct dog){ .socket = sockets[1], .poke = w->poke, .max_targets = max_targets, .shared = w->shared };
			dog_main(d, alarms_fd);
		}
		_exit(0);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(sockets[1]);
	if (w->pid < 0)
		return err_set(err, -errno, "cannot start the watchdog: %s", strerror(errno));
	*ret_watchdog = take_ptr(w);
	return 0;
}

void watchdog_stop(struct watchdog *w)
{
	if (!w)
		return;
	/* It sees the end of the socket. */
	closep(&w->socket);
	if (w->pid > 0 && !w->dead) {
		/* Should somebody have stopped it. */
		kill(w->pid, SIGCONT);
		waitpid(w->pid, NULL, 0);
	}
	closep(&w->poke);
	if (w->shared)
		munmap(w->shared, sizeof(*w->shared));
	free(w);
}

static int watchdog_send(struct watchdog *w, const struct order *order, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)order, sizeof(*order) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (fd >= 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	return sendmsg(w->socket, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int watchdog_guard(struct watchdog *w, uint32_t target, enum window_group group, const struct arming *arming)
{
	struct order order = { .target = target, .group = group, .guard = 1 };
	int fd;

	order.size = (uint32_t)arming_pack(arming, order.arming, sizeof(order.arming), &fd);
	return watchdog_send(w, &order, fd);
}

void watchdog_forget(struct watchdog *w, uint32_t target)
{
	struct order order = { .target = target };

	for (int g = 0; g < WINDOW_GROUP_COUNT; g++)
		watchdog_close(w, target, g);
	watchdog_send(w, &order, -1);
}

static bool watchdog_lives(struct watchdog *w)
{
	if (!w->dead && waitpid(w->pid, NULL, WNOHANG) != 0)
		w->dead = true;
	return !w->dead;
}

int watchdog_open(struct watchdog *w, uint32_t target, enum window_group group, uint64_t deadline_ns)
{
	struct guard *g = &w->shared->guards[target][group];
	const uint64_t one = 1;

	if (!watchdog_lives(w))
		return -ECHILD;
	atomic_store(&g->deadline_ns, deadline_ns);
	for (int i = 0; atomic_load(&g->busy); i++) {
		if (i == BUSY_SPINS) {
			atomic_store(&g->deadline_ns, 0);
			return -EBUSY;
		}
		sched_yield();
	}
	if (deadline_ns + GRACE_NS < atomic_load(&w->shared->sleeps_until_ns) && write(w->poke, &one, sizeof(one)) < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

void watchdog_close(struct watchdog *w, uint32_t target, enum window_group group)
{
	atomic_store(&w->shared->guards[target][group].deadline_ns, 0);
}

uint64_t watchdog_ended(const struct watchdog *w)
{
	return atomic_load(&w->shared->ended);
}

uint64_t watchdog_cpu_ns(const struct watchdog *w)
{
	struct timespec ts;
	clockid_t clock;

	if (w->dead || clock_getcpuclockid(w->pid, &clock) || clock_gettime(clock, &ts))
		return 0;
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}
