/* SPDX-License-Identifier: MIT */
/* What a hit costs the target beside the time that the program behind it counts itself. */
#pragma once

#include "trace/session.h"

/*
 * Nanoseconds; measured on a probed instruction of our own, with the very program that will run, in some 20 ms. Takes an index of the
 * session for that time. Where nothing can be measured: a guess on the high side.
 */
double trap_measure(struct session *session);
