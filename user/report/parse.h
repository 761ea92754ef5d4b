/* SPDX-License-Identifier: MIT */
/* leaksnoop.report/1 read back, so that a report that was kept looks as it did when it was made. */
#pragma once

#include <jansson.h>

#include "base/cleanup.h"
#include "diagnose/model.h"

struct parsed_report;

/* json may be anything: what is missing or of another type is unknown. Must outlive what is made of it, which shares its strings.
 * -ENOMEM; -EINVAL: it is no leaksnoop.report/1. */
int report_parse(const json_t *json, struct parsed_report **ret_parsed);
void parsed_report_free(struct parsed_report *parsed);
DEFINE_CLEANUP(struct parsed_report, parsed_report_free)

const struct report *parsed_report(const struct parsed_report *parsed);
