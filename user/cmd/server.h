/* SPDX-License-Identifier: MIT */
/*
 * The HTTP side of 'watch', on libmicrohttpd: GET /metrics and /healthz, on loopback or a unix socket. Driven by its caller's loop (no
 * thread): server_fd() is readable when server_step() has something to do.
 *
 * What clients can take is bounded, whatever they do: SERVER_CONNECTIONS at once, SERVER_SECONDS for each from its start to its end (one request
 * each); when all are taken those that have not even sent their request are ended after a second, the others after five; and metrics are made at
 * most once a second, by at most SERVER_COPIES of them in memory: in between, the last are served again.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"

#define SERVER_CONNECTIONS 16
#define SERVER_SECONDS 20
#define SERVER_COPIES 3

struct server;

struct server_pages {
	/* Called for a scrape. An error of the buffer is answered with 500. */
	void (*metrics)(void *ctx, struct strbuf *buf);
	/* False: 503; text says why. */
	bool (*healthy)(void *ctx, struct strbuf *text);
	void *ctx;
};

/*
 * where: "127.0.0.1:9464", "[::1]:9464", "9464" or "localhost:9464" (loopback), "unix:/run/leaksnoop.sock" (mode 0660; a stale socket is replaced,
 * one in use is not). Port 0: any that is free. ret_public: it is neither loopback nor a unix socket, so the caller warns. -EUSAGE for what is no
 * address, -EADDRINUSE.
 */
int server_new(const char *where, const struct server_pages *pages, struct server **ret_server, bool *ret_public, struct err *err);
void server_free(struct server *server);
DEFINE_CLEANUP(struct server, server_free)

/* Where it listens: "http://127.0.0.1:9464", "unix:/run/leaksnoop.sock". */
const char *server_url(const struct server *server);
/* One epoll descriptor. */
int server_fd(const struct server *server);
/* When a step is due even without anything to read, ms; -1: never. */
int server_timeout_ms(struct server *server);
int server_step(struct server *server);
