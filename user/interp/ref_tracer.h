/* SPDX-License-Identifier: MIT */
/*
 * The reference tracer's slot (3.13+): _PyRuntime.ref_tracer.tracer_func, which
 * the interpreter calls with (object, 0 created | 1 about to be destroyed, data)
 * for every object and whose result it ignores. Null at rest.
 *
 * What goes into it is the padding nop before a function of the image whose whole
 * body is "return 0": the call then does nothing, and a probe on the nop sees it.
 */
#pragma once

#include "interp/slots.h"
#include "target/site.h"

/* Where it is and what it holds now. armed: a killed tracer left it so. -ENOENT: there is none (before 3.13), or the code does not say. */
int ref_tracer_read(const struct python *python, struct slot *ret_slot);
/* Somebody else's function stands there (tracemalloc, memray): it must be left alone. */
bool ref_tracer_is_taken(const struct slot *slot);

/* The nop to put there, one that the kernel emulates if there is such. -ENOENT: the image has no function that will do. */
int ref_tracer_site(const struct python *python, site_mask_t emulated, struct site *ret_site);

/* What the probe must know of objects. pymalloc: blocks up to 512 bytes are in pools. */
void ref_tracer_object_cfg(const struct python *python, bool pymalloc, struct object_cfg *ret_cfg);
