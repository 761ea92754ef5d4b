/* SPDX-License-Identifier: MIT */
/*
 * Real interpreters as test targets. LEAKSNOOP_PYTHONS names them:
 * "label=command label=command", commas in a command standing for spaces
 * ("debian-3.14=chroot,/path/sid,/usr/bin/python3.14"); unset: /usr/bin/python3.11.
 * LEAKSNOOP_OLD_PYTHONS names those that must be refused; unset: none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#define PYINTERP_MAX 32
#define PYINTERP_ARGS 8

struct pyinterp {
	char label[64];
	char *argv[PYINTERP_ARGS];   /* without "-c" and the program; NULL-terminated */
	int minor;                   /* of Python 3.minor, asked of itself; 0 for 2.x */
};

/* The interpreters to test with, in order; owned by the helper. */
const struct pyinterp *pyinterps(size_t *ret_count);
const struct pyinterp *pyinterps_old(size_t *ret_count);

struct pytarget {
	pid_t pid;
	FILE *in, *out;   /* its stdin and stdout */
};

/* Runs program with -c; env is NULL or "NAME=value" more, NULL-terminated. 0 or a negative errno. */
int pytarget_start(const struct pyinterp *interp, const char *program, const char *const *env, struct pytarget *ret_target);
/* Starts any command the same way. */
int pytarget_exec(char *const *argv, const char *const *env, struct pytarget *ret_target);
/* A line it printed, without the newline. False at the end of its output. */
bool pytarget_line(struct pytarget *target, char *buf, size_t size);
/* Waits until its main thread sleeps: what has said a line is not yet back in its read(). At most 10 s, then the test goes on as it is. */
void pytarget_rest(const struct pytarget *target);
/* Ends it (end of its input, then SIGKILL) and waits. */
void pytarget_stop(struct pytarget *target);
