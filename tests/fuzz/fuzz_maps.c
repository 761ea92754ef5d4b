/* SPDX-License-Identifier: MIT */
/* The parsers of /proc text: any bytes give a refusal or a structure whose invariants hold. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "target/maps.h"
#include "target/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_maps(const struct maps *maps)
{
	uint64_t end = 0;
	size_t bytes = 0;

	for (size_t i = 0; i < maps_count(maps); i++) {
		const struct map *map = maps_get(maps, i);

		if (map->start < end || map->end <= map->start || maps_at(maps, map->start) != map ||
		    maps_at(maps, map->end - 1) != map || maps_at(maps, map->end) == map)
			abort();
		bytes += strlen(map->path);
		end = map->end;
	}
	if (maps_get(maps, maps_count(maps)) || bytes == SIZE_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct maps *maps = NULL;
	struct proc_stat stat;
	char *name = NULL;

	if (maps_parse(text, size, &maps) == 0)
		check_maps(maps);
	maps_free(maps);
	if (proc_stat_parse(text, size, &stat) == 0 && strlen(stat.comm) >= sizeof(stat.comm))
		abort();
	if (proc_container_parse(text, size, &name) == 0 && (!name[0] || strlen(name) > 64))
		abort();
	free(name);
	return 0;
}
