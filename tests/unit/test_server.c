/* SPDX-License-Identifier: MIT */
/*
 * The HTTP server: addresses, sockets, and that it holds nothing up. What real clients, hostile ones and Prometheus make of it is in
 * tests/e2e/test_server.py, which runs this program as
 *
 *     test_server --serve WHERE [PROCESSES]
 *
 * a server of a made-up view: it prints its URL, serves until its standard input ends, and then prints how many steps that took.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <cmocka.h>

#include "base/clock.h"
#include "cmd/options.h"
#include "cmd/server.h"
#include "made_up_view.h"
#include "report/metrics.h"

static void metrics(void *ctx, struct strbuf *buf)
{
	metrics_append(buf, &((const struct made_up_view *)ctx)->view);
}

/* Fit for as long as its history is. */
static bool healthy(void *ctx, struct strbuf *text)
{
	const struct made_up_view *v = ctx;

	strbuf_appendf(text, "history %s", v->view.self.history_ok ? "ok" : "failed");
	return v->view.self.history_ok;
}

static int serve(const char *where, size_t processes)
{
	_cleanup_(made_up_view_free) struct made_up_view v;
	struct server_pages pages = { metrics, healthy, &v };
	_cleanup_(server_freep) struct server *server = NULL;
	struct err err = { 0 };
	struct pollfd fds[2];
	unsigned long steps = 0;
	char order[16];
	bool public;

	made_up_view_new(&v, processes);
	if (server_new(where, &pages, &server, &public, &err) < 0) {
		fprintf(stderr, "error: %s\n", err.what);
		return 1;
	}
	printf("%s\n", server_url(server));
	fflush(stdout);
	fds[0] = (struct pollfd){ .fd = server_fd(server), .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = STDIN_FILENO, .events = POLLIN };
	while (!fds[1].revents) {
		if (poll(fds, 2, server_timeout_ms(server)) < 0 || server_step(server) < 0)
			return 1;
		steps++;
		/* "s": how many steps so far; "h": be not healthy from now on. */
		if (fds[1].revents & POLLIN && read(STDIN_FILENO, order, sizeof(order)) > 0) {
			v.view.self.history_ok = v.view.self.history_ok && order[0] != 'h';
			printf("%lu\n", steps);
			fflush(stdout);
			fds[1].revents = 0;
		}
	}
	return 0;
}

/* ---- in this process ---- */

static struct made_up_view one;
static const struct server_pages one_page = { metrics, healthy, &one };

static int try(const char *where, struct server **ret_server, bool *ret_public, struct err *err)
{
	*err = (struct err){ 0 };
	return server_new(where, &one_page, ret_server, ret_public, err);
}

static void test_addresses(void **state)
{
	static const struct {
		const char *where, *url;
		bool public;
	} cases[] = {
		{ "0", "http://127.0.0.1:", false }, { "127.0.0.1:0", "http://127.0.0.1:", false }, { "localhost:0", "http://127.0.0.1:", false },
		{ "127.8.8.8:0", "http://127.8.8.8:", false }, { "0.0.0.0:0", "http://0.0.0.0:", true },
		{ "[::1]:0", "http://[::1]:", false }, { "[::]:0", "http://[::]:", true }, { "[::ffff:127.0.0.1]:0", "http://[::ffff:127.0.0.1]:", false },
	};
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_(server_freep) struct server *server = NULL;
		bool public = !cases[i].public;
		int r = try(cases[i].where, &server, &public, &err);

		if (strchr(cases[i].where, '[') && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {
			print_message("%s: this kernel has no IPv6\n", cases[i].where);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(public, cases[i].public);
		assert_memory_equal(server_url(server), cases[i].url, strlen(cases[i].url));
		assert_true(server_fd(server) >= 0);
	}
}

static void test_no_addresses(void **state)
{
	static const char *const cases[] = {
		"", ":", ":9464", "65536", "-1", "99999999999", "http", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:1 ", "example.com:80", "::1:80",
		"[::1]", "[::1", "[]:80", "::1]:80", "[127.0.0.1:80", "unix:", "unix:relative", "1.2.3:80:90",
	};
	char long_path[300] = "unix:/";

	(void)state;
	memset(long_path + 6, 'x', sizeof(long_path) - 7);
	for (size_t i = 0; i <= sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_(server_freep) struct server *server = NULL;
		const char *where = i < sizeof(cases) / sizeof(cases[0]) ? cases[i] : long_path;
		struct err err;
		bool public;

		if (try(where, &server, &public, &err) != -EUSAGE)
			fail_msg("%s: %d", where, err.code);
		assert_true(strlen(err.what) > 0);
		assert_null(server);
	}
}

static void test_in_use(void **state)
{
	_cleanup_(server_freep) struct server *first = NULL, *second = NULL;
	struct err err;
	bool public;

	(void)state;
	assert_int_equal(try("0", &first, &public, &err), 0);
	assert_int_equal(try(server_url(first) + strlen("http://"), &second, &public, &err), -EADDRINUSE);
	assert_non_null(strstr(err.what, "127.0.0.1"));
}

/* ---- unix sockets ---- */

struct folder {
	char path[64], where[96];
	const char *socket;                /* the path in where */
};

static void folder_new(struct folder *f)
{
	strcpy(f->path, "/tmp/leaksnoop-server-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	snprintf(f->where, sizeof(f->where), "unix:%s/socket", f->path);
	f->socket = f->where + strlen("unix:");
}

static void folder_free(struct folder *f)
{
	unlink(f->socket);
	rmdir(f->path);
}

static void test_unix(void **state)
{
	_cleanup_(folder_free) struct folder f;
	struct server *server = NULL, *second = NULL;
	mode_t mask = umask(0);
	struct err err;
	struct stat st;
	bool public = true;

	(void)state;
	folder_new(&f);
	assert_int_equal(try(f.where, &server, &public, &err), 0);
	assert_int_equal(umask(mask), 0);
	assert_false(public);
	assert_string_equal(server_url(server), f.where);
	assert_int_equal(lstat(f.socket, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0660);
	/* One in use is left alone. */
	assert_int_equal(try(f.where, &second, &public, &err), -EADDRINUSE);
	assert_int_equal(lstat(f.socket, &st), 0);
	server_free(server);
	assert_int_equal(lstat(f.socket, &st), -1);
}

static void test_unix_stale(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	_cleanup_(folder_free) struct folder f;
	struct server *server = NULL, *second = NULL;
	struct err err;
	struct stat st;
	bool public;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	folder_new(&f);
	strcpy(address.sun_path, f.socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 0), 0);
	/* Somebody who listens and never answers, his queue full: in use, and we do not wait for him. */
	for (int i = 0; i < 4; i++)
		assert_int_equal(try(f.where, &server, &public, &err), -EADDRINUSE);
	close(fd);                         /* killed: the file stays */
	assert_int_equal(try(f.where, &server, &public, &err), 0);
	/* What another put there meanwhile is not removed at the end. */
	assert_int_equal(unlink(f.socket), 0);
	assert_int_equal(try(f.where, &second, &public, &err), 0);
	server_free(server);
	assert_int_equal(lstat(f.socket, &st), 0);
	server_free(second);
	assert_int_equal(lstat(f.socket, &st), -1);
}

static void test_unix_refusals(void **state)
{
	_cleanup_(server_freep) struct server *server = NULL;
	_cleanup_(folder_free) struct folder f;
	char nowhere[128];
	struct err err;
	bool public;
	FILE *file;

	(void)state;
	folder_new(&f);
	file = fopen(f.socket, "w");
	assert_non_null(file);
	fclose(file);
	assert_int_equal(try(f.where, &server, &public, &err), -EEXIST);
	assert_int_equal(access(f.socket, F_OK), 0);
	assert_int_equal(unlink(f.socket), 0);
	assert_int_equal(symlink("/etc/passwd", f.socket), 0);
	assert_int_equal(try(f.where, &server, &public, &err), -EEXIST);
	snprintf(nowhere, sizeof(nowhere), "%s/no/socket", f.where);
	assert_true(try(nowhere, &server, &public, &err) < 0);
	assert_null(server);
}

/* ---- a client of our own, so that both ends are in hand ---- */

static int client_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* Steps until fd has something, or what the server waits for is more than a second away. */
static size_t step_until(struct server *server, int fd, char *buf, size_t size)
{
	size_t len = 0;

	for (int steps = 0; steps < 1000; steps++) {
		ssize_t n = recv(fd, buf + len, size - 1 - len, MSG_DONTWAIT);

		if (n > 0)
			len += (size_t)n;
		else if (n == 0 || errno != EAGAIN)
			break;
		else if (server_timeout_ms(server) > 1000 && poll(&(struct pollfd){ .fd = server_fd(server), .events = POLLIN }, 1, 0) == 0)
			break;
		assert_int_equal(server_step(server), 0);
	}
	buf[len] = '\0';
	return len;
}

/* A page made a moment ago is served again, and a slow reader of a large page holds up nobody. */
static void test_slow_reader(void **state)
{
	static const char request[] = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
	static char buf[16 << 20];
	_cleanup_(server_freep) struct server *server = NULL;
	_cleanup_(folder_free) struct folder f;
	_cleanup_(closep) int slow = -1, quick = -1;
	struct made_up_view big;
	struct server_pages pages = { metrics, healthy, &big };
	struct err err;
	bool public;

	(void)state;
	folder_new(&f);
	made_up_view_new(&big, 200);
	assert_int_equal(server_new(f.where, &pages, &server, &public, &err), 0);
	slow = client_of(f.socket);
	assert_int_equal(send(slow, request, strlen(request), 0), strlen(request));
	for (int i = 0; i < 20; i++)
		assert_int_equal(server_step(server), 0);
	quick = client_of(f.socket);
	assert_int_equal(send(quick, request, strlen(request), 0), strlen(request));
	big.view.self.processes = 4711;    /* the next page, not this one */
	assert_true(step_until(server, quick, buf, sizeof(buf)) > 500000);
	assert_memory_equal(buf, "HTTP/1.1 200", 12);
	assert_null(strstr(buf, "leaksnoop_processes 4711"));
	assert_true(step_until(server, slow, buf, sizeof(buf)) > 500000);
	assert_non_null(strstr(buf, "leaksnoop_process_finding_live_bytes"));
	made_up_view_free(&big);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_no_addresses),
		cmocka_unit_test(test_in_use),
		cmocka_unit_test(test_unix),
		cmocka_unit_test(test_unix_stale),
		cmocka_unit_test(test_unix_refusals),
		cmocka_unit_test(test_slow_reader),
	};

	if (argc >= 3 && !strcmp(argv[1], "--serve"))
		return serve(argv[2], argc > 3 ? strtoul(argv[3], NULL, 10) : 3);
	made_up_view_new(&one, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
