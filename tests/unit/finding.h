/* SPDX-License-Identifier: MIT */
/*
 * A finder under test, and what it told: each process ever found, in order. Others run on the machine, so tests ask for those only that they
 * finding_start; that none is lost that was not found, and none found twice, is checked of all.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "pytarget.h"
#include "trace/finder.h"

#define MS 1000000ull
#define SETTLE (50 * MS)
#define PATIENCE (30000 * MS)   /* of a machine that is busy with other things */

struct noted {
	struct found found;
	char image[256];
	bool lost;
	enum process_end end;
	int code;
};

#define FINDING_MAX 4096
struct finding {
	struct finder *finder;
	struct noted event[FINDING_MAX];
	size_t n;
};

extern struct finding finding;
/* Settles quickly, room for 1000. */
extern const struct finder_options finding_usual;
extern const struct finder_events finding_events;
/* A Python program that prints a line and lives until its input ends. */
extern const char finding_idle[];

uint64_t finding_now(void);
void finding_open(const struct finder_options *options);
void finding_close(void);
/* Waits as a user does: for the descriptor, or until a step is due. */
void finding_step(void);
void finding_step_for(uint64_t ns);
/* The newest that was told of that PID, or NULL. */
struct noted *finding_last(pid_t pid);
const struct noted *finding_await(pid_t pid);
const struct noted *finding_await_lost(pid_t pid, enum process_end end, int code);

/* The first interpreter. */
const struct pyinterp *finding_python(void);
/* A program of one word for scripts of ours: the first interpreter, the system's if that one lives under chroot. */
char *finding_program(void);
/* Starts a program that prints a line, and waits for it. */
pid_t finding_start(struct pytarget *target, const struct pyinterp *interp, const char *program);
/* A number that a target printed. */
int finding_number(struct pytarget *target);
void finding_say(struct pytarget *target, const char *text);
void finding_write(const char *path, const char *text);
/* A cgroup of our own: below the memory hierarchy of version 1, or version 2's. False: none is mounted, or it may not be. */
bool finding_make_cgroup(char *dir, size_t size);
void finding_join_cgroup(const char *dir, pid_t pid);
