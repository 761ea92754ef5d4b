/* SPDX-License-Identifier: MIT */
/*
 * Strings kept once: file and function names of a target come by the million
 * and differ by the thousand. An id and the pointer behind it are stable and
 * unique: two strings are equal if and only if their ids (or pointers) are.
 * Bounded, since the target chooses the strings.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define INTERN_STRING_MAX 65535u   /* bytes of one string; longer is cut before it is looked up */
#define INTERN_EMPTY 0u            /* the id of "" */

struct intern;

/* max_bytes bounds the memory of all strings together. */
int intern_new(size_t max_bytes, struct intern **ret_intern);
void intern_free(struct intern *intern);
DEFINE_CLEANUP(struct intern, intern_free)

/* len bytes, cut at the first NUL. 0, -ENOSPC (the bound is reached: counted in intern_refused()), -ENOMEM. */
int intern_add(struct intern *intern, const char *s, size_t len, uint32_t *ret_id);
/* The id of a string that is there already, or -ENOENT. */
int intern_find(const struct intern *intern, const char *s, size_t len, uint32_t *ret_id);
/* The string, for as long as the intern lives; "" for an id never given out. */
const char *intern_str(const struct intern *intern, uint32_t id);
/* The same in one step: the stable copy of s, or NULL where intern_add() fails. */
const char *intern_cstr(struct intern *intern, const char *s);

uint32_t intern_count(const struct intern *intern);   /* strings, "" among them */
size_t intern_bytes(const struct intern *intern);     /* memory held */
uint64_t intern_refused(const struct intern *intern); /* strings turned away */
