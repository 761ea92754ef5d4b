/* SPDX-License-Identifier: MIT */
/*
 * Ownership in C: _cleanup_(f) runs f(&variable) when the variable leaves its
 * scope, take_ptr() and take_fd() hand the value on and leave nothing behind.
 * Every destructor accepts NULL (or -1) and half-built objects.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

#define take_ptr(p)                    \
	({                             \
		__typeof__(p) p_ = (p);\
		(p) = NULL;            \
		p_;                    \
	})

static inline int take_fd(int *fd)
{
	int value = *fd;

	*fd = -1;
	return value;
}

/* Defines name##p(), the pointer-to-pointer form that _cleanup_ needs. */
#define DEFINE_CLEANUP(type, name)                     \
	static inline void name##p(type **p)           \
	{                                              \
		if (*p)                                \
			name(*p);                      \
	}

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}
