/* SPDX-License-Identifier: MIT */
/*
 * Commands of alerts. The event lies in a file in memory, complete before the command runs: no pipe could block us, whether the command
 * reads or not. Each has a session of its own, so that what it started goes with it. The list of those that run is the process's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "cmd/service.h"

#define COMMAND_NS (60 * 1000000000ull)
#define VALUE_MAX 4096

extern char **environ;

static struct command {
	pid_t pid;                         /* 0: free */
	uint64_t began_ns;
	bool ended_by_us;
} commands[SERVICE_COMMANDS_MAX];

static void json_free(char **text)
{
	free(*text);
}

/* A file in memory with the event and a newline, at its beginning, read-only for the command. */
static int event_file(const json_t *event)
{
	_cleanup_(json_free) char *text = json_dumps(event, JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
	_cleanup_(closep) int fd = memfd_create("leaksnoop-event", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_(fclosep) FILE *file = NULL;
	char path[32];
	int copy, r;

	if (!text)
		return -ENOMEM;
	if (fd < 0)
		return -errno;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	file = copy < 0 ? NULL : fdopen(copy, "w");
	if (!file) {
		r = -errno;
		closep(&copy);
		return r;
	}
	errno = 0;
	if (fprintf(file, "%s\n", text) < 0 || fflush(file))
		return errno ? -errno : -EIO;
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = open(path, O_RDONLY | O_CLOEXEC);
	if (r >= 0)
		return r;
	/* Without /proc: the same file from its beginning. */
	if (lseek(fd, 0, SEEK_SET))
		return -errno;
	return take_fd(&fd);
}

/* ---- its environment ---- */

struct environment {
	char **vars;                       /* those of ours that it keeps, then what is added */
	char *added[3];
};

static void environment_free(struct environment *env)
{
	free(env->vars);
	for (size_t i = 0; i < sizeof(env->added) / sizeof(env->added[0]); i++)
		free(env->added[i]);
}

/* It is no service's main process, and has no say in ours. */
static bool is_ours_alone(const char *var)
{
	return !strncmp(var, "NOTIFY_SOCKET=", 14) || !strncmp(var, "WATCHDOG_", 9) || !strncmp(var, "LISTEN_", 7) || !strncmp(var, "LEAKSNOOP_", 10);
}

static int add(char **ret, const char *name, const char *value)
{
	*ret = NULL;
	return asprintf(ret, "%s=%.*s", name, VALUE_MAX, value ? value : "") < 0 ? -ENOMEM : 0;
}

static int environment_make(const json_t *event, struct environment *ret_env)
{
	const json_t *why = json_object_get(event, "why"), *target = json_object_get(event, "target");
	char pid[16];
	size_t n = 0;

	for (char **var = environ; *var; var++)
		n++;
	ret_env->vars = calloc(n + 4, sizeof(char *));
	if (!ret_env->vars)
		return -ENOMEM;
	n = 0;
	for (char **var = environ; *var; var++)
		if (!is_ours_alone(*var))
			ret_env->vars[n++] = *var;
	snprintf(pid, sizeof(pid), "%d", (int)json_integer_value(json_object_get(target, "pid")));
	if (add(&ret_env->added[0], "LEAKSNOOP_KIND", json_string_value(json_object_get(event, "kind"))) < 0 ||
	    add(&ret_env->added[1], "LEAKSNOOP_PID", pid) < 0 || add(&ret_env->added[2], "LEAKSNOOP_WHY", json_string_value(why)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < 3; i++)
		ret_env->vars[n++] = ret_env->added[i];
	return 0;
}

/* ---- running it ---- */

/* Signals as a program expects them, whatever we block or ignore. */
static int spawn(const char *command, int in, char *const *env, pid_t *ret_pid)
{
	char sh[] = "sh", c[] = "-c", *const argv[] = { sh, c, (char *)(uintptr_t)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (!r)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (!r)
		r = posix_spawn(ret_pid, "/bin/sh", &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -r;
}

int service_command(const char *command, const json_t *event, struct err *err)
{
	_cleanup_(environment_free) struct environment env = { 0 };
	struct command *slot = NULL;
	_cleanup_(closep) int in = -1;
	int r;

	service_reap();
	for (size_t i = 0; i < SERVICE_COMMANDS_MAX && !slot; i++)
		if (!commands[i].pid)
			slot = &commands[i];
	if (!slot)
		return err_set(err, -EAGAIN, "cannot run the alert's command: %d run already", SERVICE_COMMANDS_MAX);
	in = event_file(event);
	r = in < 0 ? in : environment_make(event, &env);
	if (r >= 0)
		r = spawn(command, in, env.vars, &slot->pid);
	if (r < 0) {
		slot->pid = 0;
		return err_set(err, r, "cannot run the alert's command: %s", strerror(-r));
	}
	slot->began_ns = clock_mono_ns(&clock_real);
	slot->ended_by_us = false;
	return 0;
}

static void command_kill(struct command *c)
{
	/* Its session is its process group. */
	kill(-c->pid, SIGKILL);
	kill(c->pid, SIGKILL);
	c->ended_by_us = true;
}

static void command_log(const struct command *c, int status)
{
	if (c->ended_by_us)
		fprintf(stderr, "warning: the alert's command (PID %d) took too long and was ended\n", (int)c->pid);
	else if (WIFSIGNALED(status))
		fprintf(stderr, "warning: the alert's command (PID %d) was killed by signal %d\n", (int)c->pid, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		fprintf(stderr, "warning: the alert's command (PID %d) failed with status %d\n", (int)c->pid, WEXITSTATUS(status));
}

int service_reap(void)
{
	uint64_t now_ns = clock_mono_ns(&clock_real);
	int running = 0;

	for (size_t i = 0; i < SERVICE_COMMANDS_MAX; i++) {
		struct command *c = &commands[i];
		siginfo_t info = { 0 };
		int status;

		if (!c->pid)
			continue;
		if (!c->ended_by_us && now_ns - c->began_ns >= COMMAND_NS)
			command_kill(c);
		if (!waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid) {
			running++;
			continue;
		}
		/* What the shell left behind in its session has no more time than it; while it is a zombie the number is nobody else's. */
		if (info.si_pid)
			kill(-c->pid, SIGKILL);
		if (waitpid(c->pid, &status, WNOHANG) == c->pid)
			command_log(c, status);
		c->pid = 0;
	}
	return running;
}

void service_end_commands(void)
{
	for (size_t i = 0; i < SERVICE_COMMANDS_MAX; i++) {
		if (!commands[i].pid)
			continue;
		command_kill(&commands[i]);
		waitpid(commands[i].pid, NULL, 0);
		commands[i].pid = 0;
	}
}
