/* SPDX-License-Identifier: MIT */
/*
 * The HTTP side of 'watch', on libmicrohttpd: GET /metrics and /healthz, on loopback or a unix socket. Driven by its caller's loop (no
 * thread): server_fd() is readable when server_step() has something to do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/strbuf.h"

struct server;

struct server_pages {
	/* Called for each scrape. */
	void (*metrics)(void *ctx, struct strbuf *buf);
	/* False: 503; text says why. */
	bool (*healthy)(void *ctx, struct strbuf *text);
	void *ctx;
};

/*
 * where: "127.0.0.1:9464", "[::1]:9464", "9464" (loopback), "unix:/run/leaksnoop.sock" (mode 0660; a stale socket is replaced, one in use
 * is not). ret_public: it is neither loopback nor a unix socket, so the caller warns. -EUSAGE for what is no address, -EADDRINUSE.
 */
int server_new(const char *where, const struct server_pages *pages, struct server **ret_server, bool *ret_public, struct err *err);
void server_free(struct server *server);
DEFINE_CLEANUP(struct server, server_free)

/* One epoll descriptor. */
int server_fd(const struct server *server);
/* When a step is due even without anything to read, ms; -1: never. */
int server_timeout_ms(struct server *server);
int server_step(struct server *server);
