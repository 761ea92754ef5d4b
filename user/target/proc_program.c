/* SPDX-License-Identifier: MIT */
/*
 * Do two processes run one program, the one having been forked by the other (or both by a third)? An exec chooses the addresses of code,
 * heap and stack at random, and a fork copies them. Limits: where address randomisation is switched off, two starts of one program with
 * the same arguments and environment look like a fork.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "target/proc.h"
#include "target/procfile.h"

#define STAT_MAX 4096

/* Fields of /proc/PID/stat that an exec sets, proc(5): startcode, endcode, startstack, start_brk. */
static const int fields[] = { 26, 27, 28, 47 };
#define FIELDS (sizeof(fields) / sizeof(fields[0]))
#define FIELD_STACK 2

static int exec_read(pid_t pid, uint64_t ret[static FIELDS])
{
	_cleanup_(freep) char *text = NULL;
	char *rest, *save = NULL;
	size_t len, n = 0;
	int r;

	r = procfile_read(pid, "stat", STAT_MAX, &text, &len);
	if (r < 0)
		return r;
	/* The name, field 2, may hold anything; the last ')' ends it. */
	rest = strrchr(text, ')');
	if (!rest)
		return -EINVAL;
	rest = strtok_r(rest + 1, " \n", &save);
	for (int i = 3; rest && n < FIELDS; i++, rest = strtok_r(NULL, " \n", &save))
		if (i == fields[n])
			ret[n++] = strtoull(rest, NULL, 10);
	return n == FIELDS ? 0 : -EINVAL;
}

int proc_same_program(pid_t pid, pid_t other, bool *ret_same)
{
	uint64_t a[FIELDS], b[FIELDS];
	int r;

	r = exec_read(pid, a);
	if (r == 0)
		r = exec_read(other, b);
	if (r < 0)
		return r;
	/* 0 and 1 instead of an address: a kernel thread, or nothing that may be seen. */
	*ret_same = a[FIELD_STACK] > 1 && !memcmp(a, b, sizeof(a));
	return 0;
}
