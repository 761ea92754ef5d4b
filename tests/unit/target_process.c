/* SPDX-License-Identifier: MIT */
/* Children are killed by PID, and by the kernel should the test die (PR_SET_PDEATHSIG). */
#include "target_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_MS 20000

size_t target_pythons(struct target_python list[static TARGET_PYTHONS_MAX])
{
	const char *all = getenv("LEAKSNOOP_PYTHONS");
	char copy[8192], *rest = copy, *word;
	size_t n = 0;

	snprintf(copy, sizeof(copy), "%s", all && *all ? all : "debian-3.11=/usr/bin/python3.11");
	while (n < TARGET_PYTHONS_MAX && (word = strtok_r(rest, " ", &rest))) {
		char *command = strchr(word, '=');

		if (!command)
			continue;
		*command++ = '\0';
		if (access(command, X_OK) < 0) {
			fprintf(stderr, "left out: %s is not there\n", command);
			continue;
		}
		snprintf(list[n].label, sizeof(list[n].label), "%s", word);
		snprintf(list[n].command, sizeof(list[n].command), "%s", command);
		n++;
	}
	return n;
}

static void run(const char *command, const char *const *arguments, int out)
{
	char *argv[16] = { (char *)command };
	size_t n = 1;

	for (; arguments && *arguments && n < 15; arguments++)
		argv[n++] = (char *)*arguments;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(out, STDOUT_FILENO) < 0)
		_exit(126);
	execv(command, argv);
	_exit(127);
}

/* Reads to the end of a line: closing the pipe before it is written would kill the target. */
static bool wait_ready(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c = 0;

	while (c != '\n')
		if (poll(&p, 1, READY_MS) != 1 || read(fd, &c, 1) != 1)
			return false;
	return true;
}

static pid_t start(const char *command, const char *const *arguments, bool (*prepare)(const char *))
{
	int pipe_fd[2];
	pid_t pid;
	bool ready;

	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		if (prepare && !prepare(command))
			_exit(125);
		run(prepare ? "/mnt/hidden" : command, arguments, pipe_fd[1]);
	}
	close(pipe_fd[1]);
	ready = pid > 0 && wait_ready(pipe_fd[0]);
	close(pipe_fd[0]);
	if (!ready && pid > 0) {
		target_stop(pid);
		pid = -1;
	}
	return pid;
}

pid_t target_start(const char *command, const char *const *arguments)
{
	return start(command, arguments, NULL);
}

static const char *const sleeper[] = { "-c", "import time\nprint('ready', flush=True)\ntime.sleep(600)", NULL };

pid_t target_start_python(const char *command)
{
	return target_start(command, sleeper);
}

static bool copy_to_hidden(const char *program)
{
	char buf[65536];
	int from, to;
	ssize_t n;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("hidden", "/mnt", "tmpfs", 0, NULL) < 0)
		return false;
	from = open(program, O_RDONLY | O_CLOEXEC);
	to = open("/mnt/hidden", O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		if (write(to, buf, (size_t)n) != n)
			return false;
	close(from);
	close(to);
	return n == 0;
}

pid_t target_start_hidden(const char *program)
{
	return start(program, sleeper, copy_to_hidden);
}

void target_stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void target_stopp(pid_t *pid)
{
	target_stop(*pid);
}
