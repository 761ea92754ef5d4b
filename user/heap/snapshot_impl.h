/* SPDX-License-Identifier: MIT */
/* Inside heap/: what writer and reader of snapshot files share. */
#pragma once

#include "heap/snapshot.h"

#define SNAPSHOT_SCHEMA "leaksnoop.heap-snapshot/"
#define SNAPSHOT_VERSION 1
#define SNAPSHOT_LINE_MAX ((size_t)1 << 20)   /* bytes of a line; bounds what jansson makes of one */
#define SNAPSHOT_NAME_MAX 4096u               /* bytes of a name as written; longer ones are cut */
#define SNAPSHOT_ARGV_MAX ((size_t)128 << 10) /* bytes of a command line as written; escaped it still fits a line */
#define SNAPSHOT_NUMBER_MAX ((uint64_t)1 << 62)
