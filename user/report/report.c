/* SPDX-License-Identifier: MIT */
/* The table of writers. */
#include "report/report.h"

#include <stddef.h>
#include <string.h>

static const struct report_writer *const writers[] = { &report_text, &report_json, NULL };

const struct report_writer *const *report_writers(void)
{
	return writers;
}

const struct report_writer *report_writer_find(const char *format)
{
	for (size_t i = 0; format && writers[i]; i++)
		if (!strcmp(writers[i]->name, format))
			return writers[i];
	return NULL;
}

int report_write(const struct report_writer *writer, const struct report *report, const struct report_style *style,
		 FILE *file)
{
	return writer->write(report, style, file);
}
