/* SPDX-License-Identifier: MIT */
/*
 * Being a service: what the manager is told, what privileges are left, and commands of alerts. What changes the process for good is done in
 * a forked child, which ends with the number of the check that failed.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "cmd/service.h"

#define CAPS_BIT(name, needed, without) | 1ull << CAP_##name
#define KEPT (0 SERVICE_CAPABILITIES(CAPS_BIT))

/* Runs fn in a child. Returns what it returns, or -1. */
static int in_child(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- the manager ---- */

static size_t told(int fd, char *buf, size_t size)
{
	ssize_t n = recv(fd, buf, size - 1, MSG_DONTWAIT);

	buf[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void test_manager(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char folder[] = "/tmp/leaksnoop-service-XXXXXX", text[512];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	service_ready("nobody asks");
	assert_int_equal(service_watchdog_ns(), 0);
	assert_int_equal(told(fd, text, sizeof(text)), 0);

	setenv("NOTIFY_SOCKET", address.sun_path, 1);
	service_ready("watching 3 processes\nMAINPID=1\x1b");
	told(fd, text, sizeof(text));
	assert_string_equal(text, "READY=1\nSTATUS=watching 3 processes MAINPID=1 ");
	service_status("4");
	told(fd, text, sizeof(text));
	assert_string_equal(text, "STATUS=4");
	service_stopping();
	told(fd, text, sizeof(text));
	assert_string_equal(text, "STOPPING=1\n");
	service_alive();
	told(fd, text, sizeof(text));
	assert_string_equal(text, "WATCHDOG=1\n");

	setenv("WATCHDOG_USEC", "60000000", 1);
	assert_int_equal(service_watchdog_ns(), 30000000000ull);
	setenv("WATCHDOG_PID", "1", 1);    /* another process is asked for it */
	assert_int_equal(service_watchdog_ns(), 0);
	/* The manager is gone: nothing waits, nothing dies. */
	closep(&fd);
	fd = -1;
	service_alive();
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	unlink(address.sun_path);
	rmdir(folder);
}

/* ---- privileges ---- */

static uint64_t status_field(FILE *file, const char *name)
{
	unsigned long long value = UINT64_MAX;
	char line[256];

	rewind(file);
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, strlen(name)))
			sscanf(line + strlen(name), "%llx", &value);
	return value;
}

/* Has the process that wrote this status exactly what may be left of those it had? */
static int check_status(FILE *file, uint64_t had)
{
	const uint64_t kept = KEPT & had;

	if (status_field(file, "CapPrm:") != kept)
		return 1;
	if (status_field(file, "CapEff:") != kept)
		return 2;
	if (status_field(file, "CapBnd:") != kept)
		return 3;
	if (status_field(file, "CapInh:") || status_field(file, "CapAmb:"))
		return 4;
	return status_field(file, "NoNewPrivs:") == 1 ? 0 : 5;
}

static uint64_t capabilities_now(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	uint64_t had = file ? status_field(file, "CapPrm:") : 0;

	if (file)
		fclose(file);
	return had;
}

static int check_self_and_programs(uint64_t had)
{
	FILE *own = fopen("/proc/self/status", "re"), *program;
	char text[64];
	int r;

	r = own ? check_status(own, had) : 10;
	if (own)
		fclose(own);
	if (r)
		return r;
	/* A program that root runs would have all that is left in the bounding set. */
	program = popen("cat /proc/self/status > /tmp/leaksnoop-status-$PPID; echo /tmp/leaksnoop-status-$PPID", "r");
	if (!program || !fgets(text, sizeof(text), program) || pclose(program))
		return 11;
	text[strcspn(text, "\n")] = '\0';
	own = fopen(text, "re");
	r = own ? check_status(own, had) : 12;
	if (own)
		fclose(own);
	unlink(text);
	return r ? 20 + r : 0;
}

static int drop_all(void)
{
	uint64_t had = capabilities_now();
	struct err err = { 0 };

	if ((KEPT & had) != KEPT)
		return 40;
	if (service_drop_privileges(&err) || err.what[0])
		return 41;
	/* Again changes nothing, and needs nothing that is gone. */
	if (service_drop_privileges(&err) || err.what[0])
		return 42;
	return check_self_and_programs(had);
}

static void test_privileges(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_all), 0);
}

static void lose(unsigned first, unsigned second)
{
	capng_get_caps_process();
	capng_updatev(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET, first, second, -1);
	capng_apply(CAPNG_SELECT_BOTH);
}

static int drop_without_some(void)
{
	struct err err = { 0 };
	uint64_t had;

	lose(CAP_DAC_OVERRIDE, CAP_IPC_LOCK);
	had = capabilities_now();
	if (service_drop_privileges(&err))
		return 50;
	if (strcmp(err.what, "not all privileges: CAP_DAC_OVERRIDE, CAP_IPC_LOCK: only root's own processes can be sampled; "
			     "the watchdog of the windows is not locked in memory") || err.code || !err.hint[0])
		return 51;
	return check_self_and_programs(had);
}

static int drop_without_bpf(void)
{
	struct err err = { 0 };
	uint64_t had;

	lose(CAP_BPF, CAP_NET_ADMIN);
	had = capabilities_now();
	if (service_drop_privileges(&err) != -EPERM || err.code != -EPERM || !strstr(err.what, "CAP_BPF") || strstr(err.what, "CAP_PERFMON"))
		return 60;
	return capabilities_now() == had ? 0 : 61;
}

/* As systemd starts it: no CAP_SETPCAP, the bounding set is cut already. */
static int drop_as_a_service(void)
{
	struct err err = { 0 };
	uint64_t had = capabilities_now();

	capng_get_caps_process();
	for (unsigned n = 0; n <= CAP_LAST_CAP; n++)
		if (!(KEPT >> n & 1))
			capng_update(CAPNG_DROP, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET, n);
	if (capng_apply(CAPNG_SELECT_BOTH))
		return 70;
	if (service_drop_privileges(&err) || err.what[0])
		return 71;
	return check_self_and_programs(had);
}

static void test_missing_privileges(void **state)
{
	(void)state;
	assert_int_equal(in_child(drop_without_some), 0);
	assert_int_equal(in_child(drop_without_bpf), 0);
	assert_int_equal(in_child(drop_as_a_service), 0);
}

/* ---- commands ---- */

/* Standard error in a file while a test runs. */
struct caught {
	int saved;
	FILE *file;
};

static void caught_begin(struct caught *c)
{
	fflush(stderr);
	c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	c->file = tmpfile();
	assert_non_null(c->file);
	assert_true(dup2(fileno(c->file), STDERR_FILENO) >= 0);
}

static void caught_end(struct caught *c, char *buf, size_t size)
{
	size_t n;

	fflush(stderr);
	assert_true(dup2(c->saved, STDERR_FILENO) >= 0);
	close(c->saved);
	rewind(c->file);
	n = fread(buf, 1, size - 1, c->file);
	buf[n] = '\0';
	fclose(c->file);
}

static json_t *make_event(size_t padding)
{
	json_t *event = json_pack("{s:s, s:s, s:s, s:{s:i}}", "schema", "leaksnoop.event/1", "kind", "alert", "why", "leak: \"a b\"; $(touch /tmp/x) `x`",
				  "target", "pid", 4242);
	char *text = calloc(1, padding + 1);

	assert_non_null(event);
	memset(text, 'x', padding);
	json_object_set_new(event, "report", json_string(text));
	free(text);
	return event;
}

static void wait_for_all(void)
{
	for (int i = 0; i < 3000 && service_reap(); i++)
		usleep(10000);
	assert_int_equal(service_reap(), 0);
}

static void test_command(void **state)
{
	json_t *event = make_event(3 << 20);
	struct caught caught;
	struct err err = { 0 };
	char said[2048];
	int r;

	(void)state;
	setenv("NOTIFY_SOCKET", "/nowhere", 1);
	setenv("LEAKSNOOP_OLD", "x", 1);
	signal(SIGPIPE, SIG_IGN);
	caught_begin(&caught);
	/* Three megabytes on standard input, and everything in its place. */
	r = service_command("python3 -c 'import json, os, signal, sys; e = json.load(sys.stdin); "
			    "print(e[\"kind\"], len(e[\"report\"]), os.environ[\"LEAKSNOOP_KIND\"], os.environ[\"LEAKSNOOP_PID\"], "
			    "os.environ[\"LEAKSNOOP_WHY\"] == e[\"why\"], os.getsid(0) == os.getppid() or os.getsid(0) == os.getpid(), "
			    "\"NOTIFY_SOCKET\" in os.environ, \"LEAKSNOOP_OLD\" in os.environ, len(os.listdir(\"/proc/self/fd\")))'; "
			    "sed -n \"s/SigIgn:.*\\(....\\)$/ignored \\1/p\" /proc/self/status", event, &err);
	if (!r)
		wait_for_all();
	caught_end(&caught, said, sizeof(said));
	assert_int_equal(r, 0);
	assert_string_equal(said, "alert 3145728 alert 4242 True True False False 4\nignored 0000\n");
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LEAKSNOOP_OLD");
	json_decref(event);
}

/* It reads nothing, fails, is killed, cannot be found: said once, and nobody waits. */
static void test_commands_that_fail(void **state)
{
	static const char *const commands[] = { "exit 3", "kill -TERM $$", "/no/such/program", "exec true" };
	json_t *event = make_event(1 << 20);
	struct caught caught;
	struct err err = { 0 };
	char said[2048];

	(void)state;
	caught_begin(&caught);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		assert_int_equal(service_command(commands[i], event, &err), 0);
	wait_for_all();
	caught_end(&caught, said, sizeof(said));
	assert_non_null(strstr(said, "failed with status 3\n"));
	assert_non_null(strstr(said, "killed by signal 15\n"));
	assert_non_null(strstr(said, "failed with status 127\n"));
	assert_null(strstr(said, "status 0"));
	json_decref(event);
}

/* No more than so many; what is ended is ended with what it started. */
static void test_commands_at_once(void **state)
{
	_cleanup_(closep) int out = -1;
	json_t *event = make_event(0);
	char command[128];
	struct err err = { 0 };
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	out = fds[0];
	/* Their children hold the other end. */
	snprintf(command, sizeof(command), "sleep 1000 >/proc/%d/fd/%d & sleep 1000 >/proc/%d/fd/%d; wait", (int)getpid(), fds[1], (int)getpid(), fds[1]);
	for (int i = 0; i < SERVICE_COMMANDS_MAX; i++)
		assert_int_equal(service_command(command, event, &err), 0);
	assert_int_equal(service_command("true", event, &err), -EAGAIN);
	assert_true(strlen(err.what) > 0);
	assert_int_equal(service_reap(), SERVICE_COMMANDS_MAX);
	service_end_commands();
	assert_int_equal(service_reap(), 0);
	close(fds[1]);
	/* The end of the pipe is reached when the last of them is gone. */
	assert_int_equal(poll(&(struct pollfd){ .fd = out, .events = POLLIN }, 1, 30000), 1);
	assert_int_equal(read(out, command, 1), 0);
	assert_int_equal(service_command("true", event, &err), 0);
	wait_for_all();
	json_decref(event);
}

/* What a shell leaves in the background goes when it ends. */
static void test_background(void **state)
{
	json_t *event = make_event(0);
	struct err err = { 0 };
	char command[128], c;
	int fds[2];

	(void)state;
	assert_int_equal(pipe(fds), 0);
	snprintf(command, sizeof(command), "sleep 1000 >/proc/%d/fd/%d &", (int)getpid(), fds[1]);
	assert_int_equal(service_command(command, event, &err), 0);
	wait_for_all();
	close(fds[1]);
	assert_int_equal(poll(&(struct pollfd){ .fd = fds[0], .events = POLLIN }, 1, 30000), 1);
	assert_int_equal(read(fds[0], &c, 1), 0);
	close(fds[0]);
	json_decref(event);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manager),
		cmocka_unit_test(test_privileges),
		cmocka_unit_test(test_missing_privileges),
		cmocka_unit_test(test_command),
		cmocka_unit_test(test_commands_that_fail),
		cmocka_unit_test(test_commands_at_once),
		cmocka_unit_test(test_background),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
