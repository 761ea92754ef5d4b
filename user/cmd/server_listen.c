/* SPDX-License-Identifier: MIT */
/* Numbers only, so that no name server is asked: "localhost" is the one name there is. */
#include "cmd/server_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "cmd/options.h"

#define UNIX_PREFIX "unix:"

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static int refuse(struct err *err, const char *where)
{
	err_set(err, -EUSAGE, "--listen %.100s: not an address", where);
	err_hint(err, "a port, ADDRESS:PORT, [ADDRESS]:PORT (IPv6) or unix:/PATH; 0.0.0.0:PORT for all addresses");
	return -EUSAGE;
}

/* ---- TCP ---- */

/* "host:port", "[host]:port", "port" -> host ("" none) and port. */
static bool split(const char *where, char *host, size_t host_size, char *port, size_t port_size)
{
	const char *colon = strrchr(where, ':'), *start = where, *end = colon;

	if (!colon) {
		host[0] = '\0';
		return snprintf(port, port_size, "%s", where) < (int)port_size;
	}
	if (*where == '[') {
		if (colon == where || colon[-1] != ']')
			return false;
		start++;
		end--;
	} else if (memchr(where, ':', (size_t)(colon - where))) {
		return false;              /* an IPv6 address without brackets */
	}
	if (end <= start || (size_t)(end - start) >= host_size)
		return false;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	return snprintf(port, port_size, "%s", colon + 1) < (int)port_size;
}

static bool is_port(const char *text)
{
	unsigned long n = 0;

	if (!*text || strlen(text) > 5)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = n * 10 + (unsigned long)(*text - '0');
	}
	return n <= UINT16_MAX;
}

static bool is_loopback(const union address *a)
{
	const uint8_t *six = a->in6.sin6_addr.s6_addr;

	if (a->any.sa_family == AF_INET)
		return ntohl(a->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr) || (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr) && six[12] == IN_LOOPBACKNET);
}

static int resolve(const char *where, union address *ret_address, socklen_t *ret_len)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *found = NULL;
	char host[80], port[8];

	if (!split(where, host, sizeof(host), port, sizeof(port)) || !is_port(port))
		return -EINVAL;
	if (!*host || !strcmp(host, "localhost"))
		strcpy(host, "127.0.0.1");
	if (getaddrinfo(host, port, &hints, &found) || !found)
		return -EINVAL;
	if (found->ai_addrlen <= sizeof(*ret_address)) {
		memcpy(ret_address, found->ai_addr, found->ai_addrlen);
		*ret_len = found->ai_addrlen;
	}
	freeaddrinfo(found);
	return 0;
}

static int listen_tcp(const char *where, struct server_socket *sock, struct err *err)
{
	union address address = { 0 };
	char host[80], port[8];
	socklen_t len = 0;
	int on = 1;

	if (resolve(where, &address, &len) < 0)
		return refuse(err, where);
	sock->is_public = !is_loopback(&address);
	sock->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Connections of a server that ended a moment ago are no reason to refuse. */
	if (sock->fd < 0 || setsockopt(sock->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || bind(sock->fd, &address.any, len) ||
	    listen(sock->fd, SOMAXCONN) || getsockname(sock->fd, &address.any, &len))
		return err_set(err, -errno, "cannot listen on %.100s: %s", where, strerror(errno));
	if (getnameinfo(&address.any, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		return err_set(err, -EIO, "cannot name the address of %.100s", where);
	snprintf(sock->url, sizeof(sock->url), address.any.sa_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s", host, port);
	return 0;
}

/* ---- unix sockets ---- */

/* Does anybody answer there? Never waits: a full queue is an answer, too. */
static bool is_in_use(const union address *address)
{
	_cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 || !connect(fd, &address->any, sizeof(address->un)) || errno != ECONNREFUSED;
}

/* What lies at the path is removed if it is a socket that nobody listens on. */
static int clear_path(const union address *address, struct err *err)
{
	const char *path = address->un.sun_path;
	struct stat st;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot listen on %s: %s", path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "cannot listen on %s: what is there is no socket", path);
	if (is_in_use(address))
		return err_set(err, -EADDRINUSE, "cannot listen on %s: somebody else does", path);
	if (unlink(path) && errno != ENOENT)
		return err_set(err, -errno, "cannot remove %s, which nobody listens on: %s", path, strerror(errno));
	return 0;
}

static int listen_unix(const char *path, struct server_socket *sock, struct err *err)
{
	union address address = { .un.sun_family = AF_UNIX };
	mode_t mask;
	int r;

	if (*path != '/' || strlen(path) >= sizeof(address.un.sun_path) || strlen(path) >= sizeof(sock->path)) {
		err_set(err, -EUSAGE, "--listen unix:%.100s: must be a path that begins with / and has at most %zu bytes", path,
			sizeof(address.un.sun_path) - 1);
		return -EUSAGE;
	}
	strcpy(address.un.sun_path, path);
	r = clear_path(&address, err);
	if (r < 0)
		return r;
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* It must never be there with a wider mode. */
	mask = umask(0117);
	r = sock->fd < 0 || bind(sock->fd, &address.any, sizeof(address.un)) || listen(sock->fd, SOMAXCONN) || lstat(path, &sock->made) ? -errno : 0;
	umask(mask);
	if (r < 0)
		return err_set(err, r, "cannot listen on %s: %s", path, strerror(-r));
	strcpy(sock->path, path);
	snprintf(sock->url, sizeof(sock->url), UNIX_PREFIX "%s", path);
	return 0;
}

int server_listen(const char *where, struct server_socket *ret_socket, struct err *err)
{
	struct server_socket sock = { .fd = -1 };
	int r;

	r = strncmp(where, UNIX_PREFIX, strlen(UNIX_PREFIX)) ? listen_tcp(where, &sock, err) :
								listen_unix(where + strlen(UNIX_PREFIX), &sock, err);
	if (r < 0) {
		closep(&sock.fd);
		return r;
	}
	*ret_socket = sock;
	return 0;
}

void server_unlink(const struct server_socket *sock)
{
	struct stat st;

	if (sock->path[0] && !lstat(sock->path, &st) && st.st_dev == sock->made.st_dev && st.st_ino == sock->made.st_ino)
		unlink(sock->path);
}
