/* SPDX-License-Identifier: MIT */
/*
 * libmicrohttpd in external epoll mode parses and sends; here are the pages and what bounds the clients. Its own timeout is for silence
 * only, and a client that sends a byte now and then is not silent: so each connection has a slot with the time it began, and what is
 * overdue is shut down, which libmicrohttpd then sees as a client that left.
 */
#include "cmd/server.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "cmd/server_listen.h"

#define NS 1000000000ull
#define IDLE_SECONDS 10u
/* When all connections are taken: what has sent no request for that long is ended, and what takes so long to read the answer. */
#define HURRY_ASKING_NS NS
#define HURRY_READING_NS (5 * NS)
/* The page of metrics is good for that long. */
#define FRESH_NS NS
/* A connection's memory: bounds its request's headers (431 beyond). */
#define CONNECTION_MEMORY ((size_t)8192)

struct client {
	bool used, asked;                  /* asked: its request's head is there */
	int fd;
	uint64_t began_ns;
};

struct server {
	struct MHD_Daemon *daemon;
	struct server_socket socket;
	struct server_pages pages;
	int epoll_fd;
	struct client clients[SERVER_CONNECTIONS];
	size_t n_clients;
	struct MHD_Response *metrics;      /* the last page; NULL none */
	uint64_t metrics_ns;
	unsigned copies;                   /* pages of metrics in memory: the last one and those still being sent */
};

/* A page of metrics, shared by those it is sent to. */
struct copy {
	struct server *server;
	char *text;
};

/* ---- responses ---- */

static void copy_free(void *cls)
{
	struct copy *copy = cls;

	copy->server->copies--;
	free(copy->text);
	free(copy);
}

static int respond(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
	int r = response && MHD_queue_response(connection, status, response) == MHD_YES ? MHD_YES : MHD_NO;

	if (response)
		MHD_destroy_response(response);
	return r;
}

static void add_headers(struct MHD_Response *response, const char *type)
{
	if (!response)
		return;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
}

static int respond_text(struct MHD_Connection *connection, unsigned status, const char *type, const char *text)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);

	add_headers(response, type);
	if (response && status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	return respond(connection, status, response);
}

static int respond_plain(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return respond_text(connection, status, "text/plain; charset=utf-8", text);
}

/* ---- pages ---- */

static int metrics_renew(struct server *server)
{
	_cleanup_(strbuf_free) struct strbuf buf = STRBUF_INIT;
	struct copy *copy = calloc(1, sizeof(*copy));
	struct MHD_Response *response;
	size_t len;

	if (!copy)
		return -ENOMEM;
	server->pages.metrics(server->pages.ctx, &buf);
	strbuf_append(&buf, "");
	len = buf.len;
	if (strbuf_take(&buf, &copy->text) < 0 || !copy->text) {
		free(copy);
		return -ENOMEM;
	}
	copy->server = server;
	response = MHD_create_response_from_buffer_with_free_callback_cls(len, copy->text, copy_free, copy);
	if (!response) {
		free(copy->text);
		free(copy);
		return -ENOMEM;
	}
	server->copies++;
	add_headers(response, "text/plain; version=0.0.4; charset=utf-8");
	if (server->metrics)
		MHD_destroy_response(server->metrics);
	server->metrics = response;
	server->metrics_ns = clock_mono_ns(&clock_real);
	return 0;
}

static int page_metrics(struct server *server, struct MHD_Connection *connection)
{
	bool fresh = server->metrics && clock_mono_ns(&clock_real) - server->metrics_ns < FRESH_NS;

	/* Slow readers hold old copies, for as long as a connection may last: until they are gone the last one has to do. */
	if (!fresh && !(server->metrics && server->copies >= SERVER_COPIES) && metrics_renew(server) < 0)
		return respond_plain(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the metrics cannot be made\n");
	return MHD_queue_response(connection, MHD_HTTP_OK, server->metrics);
}

static int page_health(struct server *server, struct MHD_Connection *connection)
{
	_cleanup_(strbuf_free) struct strbuf text = STRBUF_INIT;
	bool healthy = server->pages.healthy(server->pages.ctx, &text);

	if (!text.len)
		strbuf_append(&text, healthy ? "ok" : "not healthy");
	strbuf_append_c(&text, '\n');
	return respond_plain(connection, healthy ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, strbuf_str(&text));
}

static int page_index(struct server *server, struct MHD_Connection *connection)
{
	(void)server;
	return respond_text(connection, MHD_HTTP_OK, "text/html; charset=utf-8",
			    "<!DOCTYPE html><title>leaksnoop</title><h1>leaksnoop</h1>"
			    "<p><a href=\"/metrics\">metrics</a> <a href=\"/healthz\">health</a>\n");
}

static const struct {
	const char *path;
	int (*answer)(struct server *server, struct MHD_Connection *connection);
} routes[] = {
	{ "/metrics", page_metrics }, { "/healthz", page_health }, { "/", page_index },
};

static struct client *client_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

/* An MHD_AccessHandlerCallback. What a request has as a body is not wanted. */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
				  const char *upload_data, size_t *upload_data_size, void **request)
{
	struct client *client = client_of(connection);
	struct server *server = cls;

	(void)version;
	(void)upload_data;
	(void)request;
	*upload_data_size = 0;
	if (client)
		client->asked = true;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (strcmp(url, routes[i].path))
			continue;
		if (strcmp(method, MHD_HTTP_METHOD_GET) && strcmp(method, MHD_HTTP_METHOD_HEAD))
			return respond_plain(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
		return routes[i].answer(server, connection);
	}
	return respond_plain(connection, MHD_HTTP_NOT_FOUND, "not found; there is /metrics and /healthz\n");
}

/* ---- clients ---- */

static void client_began(struct server *server, struct MHD_Connection *connection, void **socket_context)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	for (size_t i = 0; info && i < SERVER_CONNECTIONS; i++) {
		struct client *client = &server->clients[i];

		if (client->used)
			continue;
		*client = (struct client){ .used = true, .fd = info->connect_fd, .began_ns = clock_mono_ns(&clock_real) };
		server->n_clients++;
		*socket_context = client;
		return;
	}
}

/* An MHD_NotifyConnectionCallback. The descriptor is closed after MHD_CONNECTION_NOTIFY_CLOSED. */
static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
	struct client *client = *socket_context;
	struct server *server = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		client_began(server, connection, socket_context);
	} else if (client) {
		client->used = false;
		server->n_clients--;
		*socket_context = NULL;
	}
}

/* How long a client may take, from its beginning. */
static uint64_t client_may_ns(const struct server *server, const struct client *client)
{
	if (server->n_clients < SERVER_CONNECTIONS)
		return SERVER_SECONDS * NS;
	return client->asked ? HURRY_READING_NS : HURRY_ASKING_NS;
}

/*
 * Has it left amid its request? libmicrohttpd waits for edges: of an end that came with the data, before it read that, it would hear no
 * more, and the connection would be taken until it times out.
 */
static bool client_is_gone(const struct client *client)
{
	char c;
	ssize_t n = client->asked ? 1 : recv(client->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);

	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* libmicrohttpd hears of it by a new edge. */
static void end_clients(struct server *server, uint64_t now_ns)
{
	for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
		struct client *client = &server->clients[i];

		if (client->used && (now_ns - client->began_ns >= client_may_ns(server, client) || client_is_gone(client)))
			shutdown(client->fd, SHUT_RDWR);
	}
}

/* ---- the server ---- */

static int server_start(struct server *server)
{
	const union MHD_DaemonInfo *info;

	server->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, server,
					  MHD_OPTION_LISTEN_SOCKET, server->socket.fd,
					  MHD_OPTION_CONNECTION_LIMIT, (unsigned)SERVER_CONNECTIONS,
					  MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
					  MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
					  MHD_OPTION_STRICT_FOR_CLIENT, 1,
					  MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_END);
	if (!server->daemon)
		return -EIO;
	server->socket.fd = -1;            /* the daemon's now */
	info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info || info->epoll_fd < 0)
		return -ENOTSUP;
	server->epoll_fd = info->epoll_fd;
	return 0;
}

int server_new(const char *where, const struct server_pages *pages, struct server **ret_server, bool *ret_public, struct err *err)
{
	_cleanup_(server_freep) struct server *server = calloc(1, sizeof(*server));
	int r;

	if (!server)
		return err_set(err, -ENOMEM, "no memory");
	server->socket.fd = -1;
	server->pages = *pages;
	r = server_listen(where, &server->socket, err);
	if (r < 0)
		return r;
	r = server_start(server);
	if (r < 0)
		return err_set(err, r, "cannot serve HTTP on %s: libmicrohttpd refuses", server->socket.url);
	*ret_public = server->socket.is_public;
	*ret_server = take_ptr(server);
	return 0;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	if (server->metrics)
		MHD_destroy_response(server->metrics);
	if (server->daemon)
		MHD_stop_daemon(server->daemon);
	closep(&server->socket.fd);
	server_unlink(&server->socket);
	free(server);
}

const char *server_url(const struct server *server)
{
	return server->socket.url;
}

int server_fd(const struct server *server)
{
	return server->epoll_fd;
}

int server_timeout_ms(struct server *server)
{
	uint64_t now_ns = clock_mono_ns(&clock_real), ms = UINT64_MAX;
	MHD_UNSIGNED_LONG_LONG theirs;

	if (MHD_get_timeout(server->daemon, &theirs) == MHD_YES)
		ms = theirs;
	for (size_t i = 0; i < SERVER_CONNECTIONS; i++) {
		const struct client *client = &server->clients[i];
		uint64_t end_ns = client->began_ns + client_may_ns(server, client);
		uint64_t left_ms = end_ns <= now_ns ? 0 : (end_ns - now_ns) / 1000000 + 1;

		if (client->used && left_ms < ms)
			ms = left_ms;
	}
	return ms == UINT64_MAX ? -1 : ms > 60000 ? 60000 : (int)ms;
}

int server_step(struct server *server)
{
	bool was_full = server->n_clients >= SERVER_CONNECTIONS;

	if (MHD_run(server->daemon) != MHD_YES)
		return -EIO;
	/* While it is full the daemon does not listen; that there is room again it sees at its next run only. */
	if (was_full && server->n_clients < SERVER_CONNECTIONS && MHD_run(server->daemon) != MHD_YES)
		return -EIO;
	end_clients(server, clock_mono_ns(&clock_real));
	return 0;
}
