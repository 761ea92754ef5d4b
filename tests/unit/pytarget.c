/* SPDX-License-Identifier: MIT */
/* See pytarget.h. A target gets a pipe as stdin and one as stdout; it ends by itself when its input ends. */
#include "pytarget.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_WAIT_MS 2000

static struct pyinterp known[PYINTERP_MAX], old[PYINTERP_MAX];
static size_t n_known, n_old;

/* "label=command,arg" into a row; the strings live as long as the program. */
static bool parse_one(const char *text, struct pyinterp *ret)
{
	const char *equals = strchr(text, '=');
	char *copy, *save = NULL;
	size_t n = 0;

	if (!equals || (size_t)(equals - text) >= sizeof(ret->label))
		return false;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->label, text, (size_t)(equals - text));
	copy = strdup(equals + 1);
	for (char *arg = strtok_r(copy, ",", &save); arg && n < PYINTERP_ARGS - 1; arg = strtok_r(NULL, ",", &save))
		ret->argv[n++] = arg;
	return n > 0;
}

static void ask_minor(struct pyinterp *interp)
{
	struct pytarget target;
	char line[64];
	int major = 0, minor = 0;

	if (pytarget_start(interp, "import sys; print('%d %d' % sys.version_info[:2])", NULL, &target) < 0)
		return;
	if (pytarget_line(&target, line, sizeof(line)) && sscanf(line, "%d %d", &major, &minor) == 2)
		interp->minor = major == 3 ? minor : 0;
	else
		fprintf(stderr, "cannot run %s\n", interp->label);
	pytarget_stop(&target);
}

static size_t parse_all(const char *text, struct pyinterp *list)
{
	char *copy = strdup(text), *save = NULL;
	size_t n = 0;

	for (char *word = strtok_r(copy, " \n", &save); word && n < PYINTERP_MAX; word = strtok_r(NULL, " \n", &save)) {
		if (!parse_one(word, &list[n]))
			continue;
		ask_minor(&list[n]);
		n++;
	}
	free(copy);
	return n;
}

const struct pyinterp *pyinterps(size_t *ret_count)
{
	const char *text = getenv("LEAKSNOOP_PYTHONS");

	if (!n_known)
		n_known = parse_all(text && *text ? text : "system-3.11=/usr/bin/python3.11", known);
	*ret_count = n_known;
	return known;
}

const struct pyinterp *pyinterps_old(size_t *ret_count)
{
	const char *text = getenv("LEAKSNOOP_OLD_PYTHONS");

	if (!n_old && text)
		n_old = parse_all(text, old);
	*ret_count = n_old;
	return old;
}

static void child(char *const *argv, const char *const *env, int in, int out)
{
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	unsetenv("PYTHONMALLOC");
	unsetenv("PYTHONTRACEMALLOC");
	setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	for (; env && *env; env++)
		putenv((char *)(uintptr_t)*env);
	execvp(argv[0], argv);
	_exit(127);
}

int pytarget_exec(char *const *argv, const char *const *env, struct pytarget *ret_target)
{
	int in[2], out[2];
	pid_t pid;

	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child(argv, env, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	*ret_target = (struct pytarget){ .pid = pid, .in = fdopen(in[1], "w"), .out = fdopen(out[0], "r") };
	return 0;
}

int pytarget_start(const struct pyinterp *interp, const char *program, const char *const *env, struct pytarget *ret_target)
{
	char *argv[PYINTERP_ARGS + 3];
	size_t n = 0;

	while (interp->argv[n]) {
		argv[n] = interp->argv[n];
		n++;
	}
	argv[n++] = (char *)(uintptr_t)"-c";
	argv[n++] = (char *)(uintptr_t)program;
	argv[n] = NULL;
	return pytarget_exec(argv, env, ret_target);
}

bool pytarget_line(struct pytarget *target, char *buf, size_t size)
{
	if (!fgets(buf, (int)size, target->out))
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

/* Processor time of the main thread in ns; *ret_sleeps: it waits for something. 0 if it cannot be read. */
static unsigned long long main_thread(pid_t pid, bool *ret_sleeps)
{
	char path[64], line[512] = "", *state;
	unsigned long long ran = 0;
	FILE *f;

	*ret_sleeps = false;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, pid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof(line), f) && (state = strrchr(line, ')')))
		*ret_sleeps = state[2] == 'S';
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", pid, pid);
	f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &ran) != 1)
		ran = 0;
	if (f)
		fclose(f);
	return ran;
}

void pytarget_rest(const struct pytarget *target)
{
	unsigned long long before = 0;

	for (int tries = 0; tries < 1000; tries++) {
		bool sleeps;
		unsigned long long ran = main_thread(target->pid, &sleeps);

		if (sleeps && ran == before)
			return;
		before = sleeps ? ran : 0;
		usleep(10000);
	}
}

void pytarget_stop(struct pytarget *target)
{
	if (target->pid <= 0)
		return;
	fclose(target->in);
	fclose(target->out);
	for (int ms = 0; ms < END_WAIT_MS; ms += 10) {
		if (waitpid(target->pid, NULL, WNOHANG) == target->pid) {
			target->pid = 0;
			return;
		}
		usleep(10000);
	}
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
	target->pid = 0;
}
