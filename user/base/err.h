/* SPDX-License-Identifier: MIT */
/*
 * What went wrong, in words a person can act on. Libraries fill a struct err
 * and return its code; only cmd/ prints it, once.
 *
 *   error: cannot attach to 4242: Python 3.16 is not known
 *   hint: this build knows 3.8 to 3.15; 'leaksnoop doctor 4242' tells more
 */
#pragma once

struct err {
	int code;        /* negative errno; 0: nothing went wrong */
	char what[512];  /* what failed, on what, why: one line, no full stop */
	char hint[512];  /* what to do about it; "" if nothing is known to help */
};

/* Both accept e == NULL. Return code, so that 'return err_set(...)' reads well. */
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void err_hint(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Puts "context: " before what is already said. */
void err_prefix(struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
