/* SPDX-License-Identifier: MIT */
/*
 * A census with the facts of its target, and the file it is kept in. The file is gzip'ed text, a JSON object a line, so that zcat and jq can
 * read it, too:
 *
 *     {"schema": "leaksnoop.heap-snapshot/1", "time": "2026-11-21T11:53:51.042Z", "target": {"pid": 4242, "host": "web-3", ...}, "totals": {...}}
 *     {"type": "app.Session", "count": 1204, "bytes": 231168, "owned_bytes": 134848}
 *     {"non_object": "dict keys", "count": 1301, "bytes": 147456}
 *     {"end": 2}
 *
 * First the head, then types, then non-objects, last the number of lines between head and end. gzip's CRC-32 guards all of it. Fields may be
 * added; what an old reader would misread raises the version behind the slash. A type name that is no UTF-8 is written with U+FFFD, and
 * names that become equal by that become one.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#include "base/err.h"
#include "heap/census.h"

#define SNAPSHOT_TYPES_MAX (1u << 18)               /* types in a file */
#define SNAPSHOT_FILE_MAX ((size_t)64 << 20)        /* bytes of a file */
#define SNAPSHOT_TEXT_MAX ((size_t)256 << 20)       /* and of what comes out of it */

struct snapshot {
	struct census *census;
	pid_t pid;
	char *python;            /* "3.11.2" */
	char **cmdline;          /* NULL-terminated */
	char *container;         /* NULL: none */
	char *host;              /* host name */
	char *boot_id;           /* of the kernel; with pid and start_ticks it names a process for good */
	uint64_t start_ticks;    /* after boot */
	struct timespec wall;    /* when the census ended */
};

/* With the facts of python's process as they are now; what cannot be had (the process may be gone) is NULL or 0. Takes the census, also on an
 * error. -ENOMEM. */
int snapshot_new(struct census *census, const struct python *python, struct timespec wall, struct snapshot **ret_snapshot);
void snapshot_free(struct snapshot *snapshot);
DEFINE_CLEANUP(struct snapshot, snapshot_free)

/* Whether both are of one process, not just of one PID. */
bool snapshot_same_process(const struct snapshot *a, const struct snapshot *b);
/* Seconds from a to b; negative if b is the earlier one. */
double snapshot_seconds_between(const struct snapshot *a, const struct snapshot *b);

/*
 * Atomic: the file is whole and on disk, or what was there before is still there. Mode 0600. Replaces a regular file, and nothing else
 * (-EEXIST). err says what and why.
 */
int snapshot_save(const struct snapshot *snapshot, const char *path, struct err *err);
/*
 * -ENOTSUP: of a newer version; -EBADMSG: no snapshot, or damaged; -ENODATA: it breaks off; -EFBIG: larger than the limits above; an errno of
 * the file system. err says what to do.
 */
int snapshot_load(const char *path, struct snapshot **ret_snapshot, struct err *err);
/* The same of bytes; name is what err calls them. */
int snapshot_parse(const void *data, size_t size, const char *name, struct snapshot **ret_snapshot, struct err *err);
