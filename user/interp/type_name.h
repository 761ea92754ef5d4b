/* SPDX-License-Identifier: MIT */
/* What a type object is called. Private to interp/. */
#pragma once

#include "interp/python_impl.h"

/* A str object as UTF-8, cut to size. -EINVAL: not a str this code can read (non-compact); -EFAULT and so on as read. */
int str_read(const struct python *python, raddr_t addr, char *buf, size_t size);
/*
 * module.qualname of the type at addr; builtins without the module. tp_name is what stands in the type itself; it serves for static
 * types and where the dict cannot be read. heap: the type has Py_TPFLAGS_HEAPTYPE.
 */
void type_name_read(const struct python *python, raddr_t addr, bool heap, const char *tp_name, char *buf, size_t size);
