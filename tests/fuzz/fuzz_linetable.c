/* SPDX-License-Identifier: MIT */
/* Line tables and str bytes from a hostile target: any bytes, any offset. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "interp/linetable.h"
#include "interp/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_text(int kind, const uint8_t *data, size_t size)
{
	char out[64];
	size_t n = text_utf8(kind, data, size, out, sizeof(out));

	if (n >= sizeof(out) || out[n] != '\0' || strlen(out) != n)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int first, offset, line;

	if (size < 9)
		return 0;
	memcpy(&first, data + 1, 4);
	memcpy(&offset, data + 5, 4);
	line = linetable_line((enum linetable_kind)(data[0] % 5), data + 9, size - 9, first, offset);
	if (line < -1)
		abort();
	/* small offsets find more entries than random ones */
	linetable_line((enum linetable_kind)(data[0] % 5), data + 9, size - 9, first, offset & 0xfff);
	fuzz_text(data[0] % 6, data + 9, size - 9);
	return 0;
}
