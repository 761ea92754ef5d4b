/* SPDX-License-Identifier: MIT */
/* One instruction of each class on x86-64, in functions of our own to be probed and called. */
#pragma once

#include "target/site.h"

/* The function to call and the place of the instruction in it; NULL for a class without one. */
struct kernel_specimen {
	void (*call)(void);
	const void *insn;
};

extern const struct kernel_specimen kernel_specimens[SITE_CLASS_COUNT];
