/* SPDX-License-Identifier: MIT */
/*
 * Who is given sampled windows next, and for how long. Arithmetic only: suspicions, times and costs are given. Most suspicious first; a
 * process that was sampled waits its turn, longer each time nothing new was found; a leak that was found is looked at again now and then,
 * to see whether it goes on. A process that does not grow is never chosen. What leaksnoop itself may use of a core is an account, as in
 * trace/pace.h: it begins with what a minute saves up (lent, and paid back in the first ten), earns with time, pays what was used, and
 * nobody is chosen while it is empty.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "diagnose/model.h"
#include "target/process_id.h"

struct rota_options {
	double host_budget;                /* share of a core for leaksnoop itself: 0.02 */
	size_t max_at_once;                /* processes sampled at the same time; 64 at most */
	double turn_seconds;               /* that one is sampled: 60 */
};

struct rota_candidate {
	struct process_id id;
	pid_t group;                       /* of a prefork group one worker at a time is sampled */
	double suspicion;                  /* bytes a second; 0: none */
};

struct rota;

int rota_new(const struct rota_options *options, uint64_t now_ns, struct rota **ret_rota);
void rota_free(struct rota *rota);
DEFINE_CLEANUP(struct rota, rota_free)

/* leaksnoop's own processor time so far. */
void rota_spend(struct rota *rota, uint64_t now_ns, uint64_t own_cpu_ns);
/* Processor time that may be used for what is not urgent now, ns; 0: none. */
uint64_t rota_allowance(const struct rota *rota);
/* Among count candidates, in any order: at most max in ret_chosen (indices), those to begin with now. */
size_t rota_choose(struct rota *rota, uint64_t now_ns, const struct rota_candidate *candidates, size_t count, size_t *ret_chosen, size_t max);
/* Sampling of id began; is its turn over?; ended, with this verdict (VERDICT_unknown: too early). */
void rota_began(struct rota *rota, struct process_id id, uint64_t now_ns);
bool rota_is_over(const struct rota *rota, struct process_id id, uint64_t now_ns);
void rota_ended(struct rota *rota, struct process_id id, uint64_t now_ns, enum verdict_kind verdict);
/* The process is gone: forget it. */
void rota_forget(struct rota *rota, struct process_id id);
/* Bytes held. */
size_t rota_own_bytes(const struct rota *rota);
