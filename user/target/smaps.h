/* SPDX-License-Identifier: MIT */
/* The mappings of a process with what of each is in memory: /proc/PID/smaps. The kernel walks page tables for it: 10 to 20 ns a page. */
#pragma once

#include "target/maps.h"

struct smaps_usage {
	uint64_t rss, pss, anonymous, swap;   /* bytes */
};

struct smaps;

/* Errors as maps_load(). A kernel thread or a zombie has no mappings: 0 and an empty list. */
int smaps_load(pid_t pid, struct smaps **ret_smaps);
/* Refuses (-EINVAL) text that is not smaps; tolerates a torn end: what a mapping does not say is 0. */
int smaps_parse(const char *text, size_t len, struct smaps **ret_smaps);
void smaps_free(struct smaps *smaps);
DEFINE_CLEANUP(struct smaps, smaps_free)

const struct maps *smaps_maps(const struct smaps *smaps);
/* Of the mapping with this index in smaps_maps(). */
const struct smaps_usage *smaps_usage(const struct smaps *smaps, size_t index);
/* The sum over all mappings. */
struct smaps_usage smaps_total(const struct smaps *smaps);
