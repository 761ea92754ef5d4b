/* SPDX-License-Identifier: MIT */
#include "golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define GOLDEN_MAX (1 << 20)

void golden_check(const char *name, const char *kind, const char *text)
{
	const char *dir = getenv("GOLDEN_DIR");
	char *expected = calloc(1, GOLDEN_MAX + 1);
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.%s", dir ? dir : "tests/golden", name, kind);
	f = fopen(path, getenv("UPDATE_GOLDEN") ? "w+" : "r");
	if (!f)
		fail_msg("cannot open %s: %s", path, strerror(errno));
	if (getenv("UPDATE_GOLDEN"))
		fputs(text, f);
	rewind(f);
	expected[fread(expected, 1, GOLDEN_MAX, f)] = '\0';
	fclose(f);
	assert_string_equal(text, expected);
	free(expected);
}
