/* SPDX-License-Identifier: MIT */
/* Inside cmd/: what a tracer does for its attachments. */
#pragma once

#include "cmd/attachment.h"

/* The session of a tracer, NULL until it was loaded: what stands before costs a third of a second. */
struct session *tracer_session(struct tracer *tracer);
int tracer_load(struct tracer *tracer, struct err *err);
/* An attachment comes and goes. -ENOSPC: there are max_targets. */
int tracer_enter(struct tracer *tracer, struct err *err);
void tracer_leave(struct tracer *tracer);
/* The records of that target go there from now on; NULL: those that wait are delivered first, and later ones are nobody's. */
void tracer_deliver(struct tracer *tracer, uint32_t target, struct pipeline *pipeline);
/* Mappings are followed while somebody wants them. -ENOENT: this kernel cannot tell. */
int tracer_want_mappings(struct tracer *tracer, bool faults, struct err *err);
void tracer_drop_mappings(struct tracer *tracer);
