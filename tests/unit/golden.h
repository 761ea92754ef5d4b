/* SPDX-License-Identifier: MIT */
/* Files that hold what a writer has to say. UPDATE_GOLDEN=1 rewrites them; GOLDEN_DIR says where they are (default tests/golden). */
#pragma once

/* Fails the test unless text is what stands in NAME.KIND, at most 1 MiB. */
void golden_check(const char *name, const char *kind, const char *text);
