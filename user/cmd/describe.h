/* SPDX-License-Identifier: MIT */
/* Inside cmd/: what ps and doctor both say of a process, as JSON values. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "interp/python.h"
#include "interp/slots.h"

/* argv joined by spaces; "[name]" in brackets when there is no command line. NULL when the process is gone. */
json_t *describe_command(pid_t pid);
json_t *describe_container(pid_t pid);
/* "plain", "PGO", with "debug" after it. */
json_t *describe_build(const struct python *python);
json_t *describe_allocator(const struct slots *slots);
json_t *describe_addr(raddr_t addr);
/* {"pid", "python", "cmdline", "container"} of the JSON contract; python may be NULL. */
json_t *describe_target(pid_t pid, const struct python *python);
