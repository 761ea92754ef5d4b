/* SPDX-License-Identifier: MIT */
/* Real processes for tests: started, ready, and killed with the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define TARGET_PYTHONS_MAX 32

struct target_python {
	char label[64];      /* "plain-3.11" */
	char command[256];   /* a program, or a script that executes one with its arguments */
};

/* The interpreters of LEAKSNOOP_PYTHONS ("label=command label=command"), /usr/bin/python3.11 if it is not set. Those that cannot be
 * executed are left out with a remark. */
size_t target_pythons(struct target_python list[static TARGET_PYTHONS_MAX]);

/* Starts command with arguments (NULL-terminated) and waits until it has written a line. The PID, or -1. */
pid_t target_start(const char *command, const char *const *arguments);
/* The same with a Python that says so and sleeps. */
pid_t target_start_python(const char *command);
/* The same inside a mount namespace of its own, where the program lies in a file system that only it sees. -1 if not permitted. */
pid_t target_start_hidden(const char *program);
void target_stop(pid_t pid);
/* For _cleanup_. */
void target_stopp(pid_t *pid);
