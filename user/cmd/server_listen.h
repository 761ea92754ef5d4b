/* SPDX-License-Identifier: MIT */
/* Inside cmd/server: the socket that a server listens on. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "base/err.h"

struct server_socket {
	int fd;
	bool is_public;                    /* neither loopback nor a unix socket */
	char url[128];
	char path[112];                    /* of a unix socket; "" none */
	struct stat made;                  /* what was bound there */
};

/* As server_new() says. Filled on success only. */
int server_listen(const char *where, struct server_socket *ret_socket, struct err *err);
/* Removes the unix socket from the file system, if it is still this one. The descriptor is left alone. */
void server_unlink(const struct server_socket *sock);
